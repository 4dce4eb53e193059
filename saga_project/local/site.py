"""`make site`: the documentation as a site that can be searched, in `.site/html`. It needs no server.

Its pages are the Markdown of the repository as it stands. README.md is the first, and what a page links to
comes along: code gets a page of its own, so that no link leads out of the site. The chapter *Reference* is
made of docstrings. Whatever leads nowhere ends the build. What draws the site, and the diagrams in it, is
pinned in requirements-site.txt.
"""

import html
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys

from saga_project.local import reference, runfile

ROOT = runfile.ROOT
PLACE = ROOT / ".site"
FIRST = "README.md"

NAVIGATION = {
    "Begin": [
        FIRST, "docs/first-ten-minutes.md", "docs/in-your-project.md", "docs/writing-a-saga.md",
        "docs/testing-your-saga.md",
        "docs/examples.md", "examples/README.md",
    ],
    "Coming from": [],
    "Understand": [
        "docs/architecture.md", "docs/lifecycle.md", "docs/rules.md", "docs/guarantees.md", "docs/chaos.md",
        "docs/checker.md", "docs/mutants.md", "docs/services.md", "docs/glossary.md",
    ],
    "The API": ["docs/api.md", "docs/problems.md", "clients/python/README.md", "docs/sandbox.md"],
    "Operate": [
        "docs/admin.md", "docs/deployment.md", "docs/operations.md", "docs/observability.md",
        "docs/configuration.md", "docs/transports.md",
        "docs/upgrading.md", "docs/releases.md", "docs/retention.md", "docs/cluster.md",
        "docs/scaling.md",
    ],
    "Compare": ["docs/benchmarks.md", "docs/comparison.md", "docs/dependencies.md"],
    "The project": ["CONTRIBUTING.md", "CHANGELOG.md"],
}  # fmt: skip
"""Chapters and their pages. *Coming from* has those for people who know another system: `docs/from-*.md`."""

NAMES = {
    FIRST: "self",
    "examples/README.md": "The examples' files <examples/README>",
    "clients/python/README.md": "The Python client <clients/python/README>",
}
"""How pages are named to Sphinx that are not named by their own first heading."""

REFERENCE = "Reference"
"""The chapter that follows them: a page for each public module of `sagas`."""

LANGUAGES = {".py": "python", ".po": "po", ".toml": "toml"}
"""Of code, by the ends of names; all else is text."""

AS_THEY_ARE = frozenset({".png", ".svg", ".json", ".yaml"})
"""What is shown or loaded, and not read."""

LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
"""Where a page links to, but for its own headings and other places of the web."""

FENCED = re.compile(r"^```(?P<language>\S*)[^\n]*\n(?P<text>.*?)\n```$", re.DOTALL | re.MULTILINE)

CONFIGURATION = """\
project = html_title = "Order sagas"
extensions = ["myst_parser"]
html_theme = "furo"
html_copy_source = False
html_show_copyright = html_show_sphinx = False
html_static_path = ["static"]
myst_heading_anchors = 4  # Named as on the platforms that show the Markdown.
myst_enable_extensions = ["fieldlist"]  # For what the reference says of arguments.
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"
suppress_warnings = ["misc.highlighting_failure"]  # An example may leave things out.
"""

DIAGRAMS = """\
const drawings = [...document.querySelectorAll("pre.mermaid")];
const sources = drawings.map((drawing) => drawing.textContent);
async function draw() {
  const chosen = document.body.dataset.theme;
  const asked = matchMedia("(prefers-color-scheme: dark)").matches;
  const dark = chosen === "dark" || (chosen !== "light" && asked);
  const sequence = { wrap: true, width: 110, actorMargin: 30 };
  mermaid.initialize({ startOnLoad: false, theme: dark ? "dark" : "neutral", sequence });
  drawings.forEach((drawing, number) => {
    drawing.removeAttribute("data-processed");
    drawing.textContent = sources[number];
  });
  await mermaid.run({ nodes: drawings });
  for (const drawing of drawings) {
    // One that is wider than the page is made smaller, but not too small to be read: then it scrolls.
    drawing.style.overflowX = "auto";
    const picture = drawing.querySelector("svg");
    if (picture) picture.style.minWidth = `${0.7 * picture.viewBox.baseVal.width}px`;
  }
}
draw();
new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
"""
"""Draws them as the reader's choice of light and dark asks for, and anew when that changes."""


def navigation() -> dict[str, list[str]]:
    """The chapters with their pages, those that are found by their names included.

    Raises:
        SystemExit: a page of docs/ is in no chapter.
    """
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("from-*.md"))
    chapters = {name: pages + (found if name == "Coming from" else []) for name, pages in NAVIGATION.items()}
    named = {page for pages in chapters.values() for page in pages}
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    if forgotten := there - named:
        raise SystemExit(
            f"No chapter of the site has {', '.join(sorted(forgotten))}: say in which it belongs."
        )
    return {name: pages for name, pages in chapters.items() if pages}


def assemble(place: pathlib.Path) -> None:
    """Put the pages, and all that they link to, into that folder as they lie in the repository."""
    for name in [page for pages in navigation().values() for page in pages]:
        text = _page(place, name)
        if name == FIRST:
            text += _contents()
        _write(place / _target(name), text)
    for name in reference.modules():
        code = reference.module(name).filepath
        assert isinstance(code, pathlib.Path), f"{name} has more than one folder"
        source = _code(place, code.relative_to(ROOT).as_posix())
        _write(place / f"reference/{name}.md", f"{reference.page(name)}\n[Its code](../{source})\n")


def build() -> int:
    """Draw the site; the exit code."""
    shutil.rmtree(PLACE, ignore_errors=True)
    pages, static = PLACE / "pages", PLACE / "pages" / "static"
    assemble(pages)
    _write(pages / "conf.py", CONFIGURATION)
    _write(static / "diagrams.js", DIAGRAMS)
    carrier = importlib.util.find_spec("mmdc")
    if carrier is None or carrier.origin is None:
        raise SystemExit("What draws the site is not installed: make site")
    shutil.copyfile(pathlib.Path(carrier.origin).parent / "assets" / "mermaid.js", static / "mermaid.js")
    # Every warning is an error: a link that leads nowhere, a page that nobody finds.
    command = ["-b", "html", "-W", "--keep-going", "-q", "-d", str(PLACE / "cache")]
    done = subprocess.run([sys.executable, "-m", "sphinx", *command, str(pages), str(PLACE / "html")])
    if done.returncode == 0:
        print(f"The site is built: open {(PLACE / 'html' / 'index.html').relative_to(ROOT)} in a browser.")
    return done.returncode


def _contents() -> str:
    """The chapters, as Sphinx is told them: they stand beside every page."""
    parts = []
    chapters = {
        chapter: [NAMES.get(page, page.removesuffix(".md")) for page in pages]
        for chapter, pages in navigation().items()
    }
    chapters[REFERENCE] = [f"reference/{module}" for module in reference.modules()]
    for chapter, names in chapters.items():
        parts.append(f"\n```{{toctree}}\n:hidden:\n:caption: {chapter}\n\n" + "\n".join(names) + "\n```\n")
    return "".join(parts)


def _page(place: pathlib.Path, name: str) -> str:
    """Its text; what it links to is put into `place`, and its diagrams are drawn by the reader's browser."""
    text = (ROOT / name).read_text()
    parts, at, drawn = [], 0, False
    for fence in FENCED.finditer(text):
        parts.append(_follow(place, name, text[at : fence.start()]))
        if fence["language"] == "mermaid":
            drawn = True
            parts.append(f'```{{raw}} html\n<pre class="mermaid">\n{html.escape(fence["text"])}\n</pre>\n```')
        else:
            parts.append(fence[0])
        at = fence.end()
    parts.append(_follow(place, name, text[at:]))
    if drawn:
        static = "../" * name.count("/") + "_static"
        scripts = [f'<script src="{static}/{script}"></script>' for script in ("mermaid.js", "diagrams.js")]
        parts.append("\n```{raw} html\n" + "\n".join(scripts) + "\n```\n")
    return "".join(parts)


def _follow(place: pathlib.Path, name: str, prose: str) -> str:
    return LINK.sub(lambda found: _linked(place, name, found["path"]) + (found["anchor"] or ""), prose)


def _linked(place: pathlib.Path, name: str, link: str) -> str:
    """How the site's page links there; what is no page of it yet is put into `place`."""
    source = (ROOT / name).parent.joinpath(link).resolve()
    wanted = source.relative_to(ROOT).as_posix()
    if source.suffix == ".md":
        target = _target(wanted)
    elif source.suffix in AS_THEY_ARE:
        target = wanted
        (place / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place / target)
    elif source.is_dir():
        target = f"code/{wanted}/index.md"
        files = sorted(path for path in source.glob("*.py") if path.stat().st_size)
        lines = [f"- [{path.name}](/{_code(place, path.relative_to(ROOT).as_posix())})" for path in files]
        _write(place / target, "\n".join(["---", "orphan: true", "---", f"# {wanted}/", "", *lines, ""]))
    else:
        target = _code(place, wanted)
    return "../" * name.count("/") + target


def _code(place: pathlib.Path, name: str) -> str:
    """Give a file of code a page; where that is."""
    source = ROOT / name
    text, language = source.read_text().rstrip(), LANGUAGES.get(source.suffix, "text")
    target = f"code/{name}.md"
    _write(place / target, f"---\norphan: true\n---\n# {name}\n\n````{language}\n{text}\n````\n")
    return target


def _target(name: str) -> str:
    return "index.md" if name == FIRST else name


def _write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(build())
