"""What the documentation says is so: its links lead somewhere, its code runs, its tables are the code's."""

import ast
import builtins
import itertools
import pathlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import celery
import django_tasks_db
import httpx
import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core import management
from django.db import connection

from api import tokens
from saga_project import metrics
from saga_project.local import fates
from sagas import conf, fast_lane, models
from sagas.declaration import definition, diagram, registry
from sagas.declaration.states import SagaState
from sagas.engine import circuits, dispatching, execution, probes, sweeping, transport
from sagas.testing import memory_transport

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*.md"),
        *ROOT.glob("clients/*/*.md"),
    ]
)
README = ROOT / "README.md"
GUARANTEES = ROOT / "docs/guarantees.md"
GUIDE = ROOT / "docs/writing-a-saga.md"
EXAMPLES = ROOT / "docs/examples.md"
GLOSSARY = ROOT / "docs/glossary.md"
FROM_ELSEWHERE = sorted(ROOT.glob("docs/from-*.md"))
FOLLOWED = {ROOT / "docs/from-a-chain-to-a-saga.md"}
"""What is followed word by word, in a project of its own: tests/distribution/test_from_a_chain.py."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


# --- Names ------------------------------------------------------------------------------------------


@each_page
def test_every_link_leads_somewhere(page: pathlib.Path) -> None:
    dead = [link for link in links(page) if not leads_somewhere(page, link)]

    assert dead == []


@each_page
def test_a_page_begins_with_its_title_and_every_row_stands_in_a_table(page: pathlib.Path) -> None:
    lines = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text()).splitlines()
    around = zip(["", *lines], lines, [*lines[1:], ""], strict=False)
    alone = [
        line
        for before, line, after in around
        if line.startswith("|") and not before.startswith("|") and not re.match(r"\|[ :|-]+$", after)
    ]

    assert lines[0].startswith("# ")
    assert alone == []


@each_page
def test_every_file_named_exists(page: pathlib.Path) -> None:
    missing = [name for name in named_files(page) if not (ROOT / name).exists()]

    assert missing == []


@each_page
def test_every_command_named_exists(page: pathlib.Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # A backend's own, which the shop has not installed.
    of_tasks = management.find_commands(str(pathlib.Path(django_tasks_db.__path__[0]) / "management"))
    commands = {*management.get_commands(), *of_tasks}
    code = "\n".join([*spans(page), *blocks(page, "sh"), *blocks(page, "console")])

    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= targets
    assert set(re.findall(r"\bmanage\.py ([a-z_]+)", code)) <= commands


def test_every_rule_that_is_cited_is_explained() -> None:
    explained = {name for name, _ in table(ROOT / "docs/rules.md", "By their names")}
    cited = {
        name
        for path in ROOT.rglob("*.py")
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        for names in re.findall(r"\(([A-Z]\d(?:, [A-Z]\d)*)\)", path.read_text())
        for name in names.split(", ")
    }

    assert cited
    assert cited <= explained


# --- What is generated or copied -----------------------------------------------------------------


def test_the_lifecycle_is_drawn_from_the_tables() -> None:
    text = (ROOT / "docs/lifecycle.md").read_text()

    assert text == diagram.rewrite(text), "run `make docs`"


def test_the_declaration_in_the_readme_is_the_orders_and_comes_first() -> None:
    shown = blocks(README, "python")[0]
    first_lines = "\n".join(README.read_text().splitlines()[:40])

    assert shown in (ROOT / "orders/saga.py").read_text()
    assert shown.startswith("ORDER_FULFILMENT = Saga(")
    assert shown in first_lines


def test_the_declarations_on_the_page_of_examples_are_those_of_their_files() -> None:
    """Each chapter links to its file first, and shows its declaration; no example is left out."""
    declared = {
        path.name: found
        for path in (ROOT / "examples").glob("*.py")
        if (found := re.findall(r"^[A-Z_]+ = Saga\(\n.*?^\)", path.read_text(), re.DOTALL | re.MULTILINE))
    }
    chapters = re.split(r"^## ", EXAMPLES.read_text(), flags=re.MULTILINE)[1:]
    shown = {
        file: re.findall(r"^```python\n(.*?)\n```$", chapter, re.DOTALL | re.MULTILINE)
        for chapter in chapters
        for file in re.findall(r"\(\.\./examples/(\w+\.py)\)", chapter)[:1]
    }

    assert len(shown) == len(chapters)
    assert shown == declared


@pytest.mark.parametrize(
    ("heading", "file"),
    [
        ("What runs", "requirements.in"),
        ("What sends traces", "requirements-traces.in"),
        ("What checks", "requirements-dev.in"),
        ("What builds the site", "requirements-site.in"),
    ],
)
def test_every_dependency_has_its_reason(heading: str, file: str) -> None:
    explained = table(ROOT / "docs/dependencies.md", heading)
    lines = (ROOT / file).read_text().splitlines()
    required = {match[0] for line in lines if (match := re.match(r"[A-Za-z][\w-]*", line))}

    assert {name.strip("`") for name, _ in explained} == required


def test_every_table_of_the_engine_is_explained() -> None:
    explained = [row[0].strip("`") for row in table(ROOT / "docs/architecture.md", "What is stored")]
    stored = [
        model._meta.db_table
        for label in ("sagas", "sagas_console")
        for model in apps.get_app_config(label).get_models()
    ]

    assert explained == stored


def test_the_changelog_begins_with_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    unreleased = ["Unreleased"] if said[0] == "Unreleased" else []

    assert said[: len(unreleased) + 1] == [*unreleased, project["version"]]


def test_the_demo_holds_each_fate_to_what_the_readme_shows() -> None:
    (shown,) = blocks(README, "text")
    head, *rows = shown.splitlines()
    places = [head.index(word) for word in head.split()]
    told = {fate.name: [*fate.steps, *fate.ends] for fate in fates.FATES}
    words = {"✓ done": "done", "↶ undone": "undone", "✗ failed": "failed", "! refused": "stuck", "": "-"}

    for row in rows:
        name, *cells = [row[a:b].strip() for a, b in itertools.pairwise([*places, None])]
        assert [words.get(cell, cell) for cell in cells] == told[name]


def test_every_guarantee_names_a_test_that_exists() -> None:
    """The words of a proof's link are the test's name."""
    guarantees = table(README, "What survives what")

    assert guarantees
    for happens, _, proof in guarantees:
        proofs = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", proof)
        assert proofs, happens
        for words, file in proofs:
            assert f"test_{words.replace(' ', '_')}" in functions(ROOT / file), happens


def test_every_rule_is_a_guarantee_with_a_test_or_a_command_that_tries_it() -> None:
    explained = {name for name, _ in table(ROOT / "docs/rules.md", "By their names")}
    promises = table(GUARANTEES, "What is promised")
    promised = {name for promise, *_ in promises for name in re.findall(r"\b[A-Z]\d\b", promise)}

    assert promised == explained
    for promise, _, _, proof in promises:
        files = re.findall(r"\]\(\.\./(tests/[^)]+)\)", proof)
        assert files or "`make " in proof, promise
        assert [file for file in files if not names_of_tests(ROOT / file)] == [], promise


@pytest.mark.parametrize(
    ("page", "words", "holds"),
    [
        ("architecture", "a hundred at a time", sweeping.BATCH == 100),
        ("architecture", "for fifteen minutes", probes.PATIENCE == 15 * definition.MINUTE),
        ("architecture", "When five different sagas", conf.CIRCUIT_THRESHOLD == 5),
        ("architecture", "a tenth of the time that the outage has lasted", circuits.PAUSE_SHARE == 0.1),
        (
            "architecture",
            "between 1 s and 60 s, and every 5 s",
            (circuits.FIRST_PAUSE_S, circuits.LONGEST_PAUSE_S, circuits.UNTRIED_PAUSE_S) == (1, 60, 5),
        ),
        ("architecture", "Now and then three different sagas", circuits.PROBES == 3),
        ("architecture", "a hundred with each tick", circuits.WAKES == 100),
        ("architecture", "At most eight steps", dispatching.WINDOW == 8),
        ("architecture", "in a few seconds", dispatching.grace() <= 5 * definition.SECOND),
        ("upgrading", "it is sent again after a second", sweeping.ELSEWHERE_PAUSE == definition.SECOND),
        (
            "upgrading",
            "leaves it alone for 30 seconds",
            sweeping.UNDECLARED_PAUSE == 30 * definition.SECOND,
        ),
        (
            "upgrading",
            "That is 16 seconds as the shop is declared",
            fast_lane.message_limit("order-fulfilment").seconds + conf.HARD_LIMIT_MARGIN_S == 16,
        ),
        ("writing-a-saga", "timeout plus 15 seconds", execution.LEASE_MARGIN == 15 * definition.SECOND),
        (
            "writing-a-saga",
            "at most 100 characters",
            models.Signal._meta.get_field("step_key").max_length == 100,
        ),
    ],
)
def test_a_figure_in_the_prose_is_the_codes(page: str, words: str, holds: bool) -> None:
    assert words in " ".join(prose(ROOT / f"docs/{page}.md").split())
    assert holds


@pytest.mark.parametrize("page", FROM_ELSEWHERE, ids=lambda page: page.stem)
def test_what_a_page_for_those_who_come_from_elsewhere_calls_a_term_is_in_the_glossary(
    page: pathlib.Path,
) -> None:
    """In the column *Here* a term is bold; a word that has no name of ours is code, or plain."""
    words = re.findall(r"^\| (.+?) \|", GLOSSARY.read_text(), re.MULTILINE)
    terms = {term for word in words for term in word.split(", ")}
    rows = table(page, "The words")
    claimed = {term for _, ours, _ in rows for term in re.findall(r"\*\*(.+?)\*\*", ours)}

    assert len(claimed) > 10
    assert {term for term in claimed if not {term, term.removesuffix("s")} & terms} == set()


@each_page
def test_no_drawing_has_a_semicolon(page: pathlib.Path) -> None:
    """Mermaid takes it for the end of a line, and draws nothing at all."""
    assert not [drawing for drawing in blocks(page, "mermaid") if ";" in drawing]


# --- What is run ------------------------------------------------------------------------------------


@each_page
def test_python_is_python(page: pathlib.Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Once the settings are as they were, no module of the app is left."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "trips"]:
        del sys.modules[name]


@pytest.fixture
def trips(
    forgotten: None,
    tmp_path: pathlib.Path,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    transactional_db: None,
) -> Iterator[list[str]]:
    """The README's app `trips` is written as it says, and installed; the rest of what it says about it."""
    files, rest = split_files(blocks(README, "python", under="A saga of your own"))
    start_trips(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert files == {name: f"# {name}\n{(tmp_path / name).read_text()}".strip() for name in files}
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "trips"]
    tables = list(apps.get_app_config("trips").get_models())
    with connection.schema_editor() as editor:
        for model in tables:
            editor.create_model(model)
    try:
        yield rest
    finally:
        with connection.schema_editor() as editor:
            for model in tables:
                editor.delete_model(model)
        apps.all_models.pop("trips")


def start_trips(place: pathlib.Path) -> None:
    """Give the README's command, in that place."""
    (command,) = [line for line in "\n".join(blocks(README, "sh")).splitlines() if " startsaga " in line]
    _, _, arguments = command.partition(" startsaga ")
    name, *steps = arguments.split()
    management.call_command("startsaga", name, *steps, directory=str(place / name), verbosity=0)


def run(code: list[str], names: dict[str, Any]) -> None:
    """Run each block as if it stood in an app's module, and then whatever it set in motion."""
    broker = memory_transport.MemoryTransport()
    with transport.use(broker):
        for block in code:
            exec(compile(block, "the documentation", "exec"), names)
            for value in names.values():
                if isinstance(value, definition.Saga):
                    registry.add(value)
            broker.deliver_all()
    assert broker.bugs == []


@pytest.mark.parametrize(
    ("flight", "ends", "booked"),
    [("FULL", SagaState.COMPENSATED, []), ("LATAM 3054", SagaState.COMPLETED, ["Aurora", "LATAM 3054"])],
)
def test_the_readmes_saga_runs(trips: list[str], flight: str, ends: SagaState, booked: list[str]) -> None:
    names: dict[str, Any] = {}

    run([block.replace("FULL", flight) for block in trips], names)

    bookings = apps.get_model("trips", "Booking").objects
    assert models.SagaInstance.objects.get(pk=names["trip"].pk).state == ends
    assert sorted(bookings.filter(cancelled=False).values_list("what", flat=True)) == booked


def test_the_guides_code_runs_and_prints_what_it_says(
    trips: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each chapter stands alone: whoever copies out of it needs nothing of another."""
    for code in chapters(GUIDE):
        run(code, {"__name__": "trips.guide"})

    assert capsys.readouterr().out.strip() == "\n".join(blocks(GUIDE, "text"))


def test_each_snippet_of_the_guide_imports_what_it_uses() -> None:
    """What it has from the snippet above it in its chapter is made there, and no import."""
    lacking = {}
    for code in chapters(GUIDE):
        made: set[str] = set()
        for block in code:
            if lacks := used_names(block) - made - bound_names(block) - set(dir(builtins)):
                lacking[block.splitlines()[0]] = lacks
            made |= bound_names(block, imports=False)

    assert lacking == {}


@pytest.mark.django_db(transaction=True)
def test_the_readmes_requests_are_answered_as_it_says(live_server: Any) -> None:
    management.call_command("seed_catalogue", verbosity=0)
    _, secret = tokens.create(user=User.objects.create_user("alice"), name="shell", scope="customer")
    (requests,) = [block for block in blocks(README, "sh") if "curl" in block]
    shell = requests.replace("$WEB_URL", live_server.url).replace("$API_TOKEN", secret)

    with transport.use(memory_transport.MemoryTransport()):
        products, order, orders = [curl(line) for line in re.split(r"^(?=curl)", shell, flags=re.M)[1:]]
        again = curl(re.split(r"^(?=curl)", shell, flags=re.M)[2])

    # At once, with the order, pending.
    assert len(products.json()["results"]) == 3
    assert order.status_code == 202
    assert order.json()["status"] == "pending"
    assert [row["id"] for row in orders.json()["results"]] == [order.json()["id"]]
    # Sent twice with the same key there is still one.
    assert again.content == order.content


def curl(line: str) -> httpx.Response:
    """What curl would get: the test must run where there is none."""
    words = iter(shlex.split(line.partition(" | ")[0].replace("\\\n", " "))[1:])
    url, headers, body = "", {}, None
    for word in words:
        match word:
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-d":
                body = next(words).encode()
            case _:
                url = word
    return httpx.request("POST" if body else "GET", url, headers=headers, content=body)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Celery application that is made meanwhile runs its tasks at once, and is nobody's afterwards."""
    before = celery.current_app._get_current_object()
    monkeypatch.setattr(celery.Celery, "__init__", _eager_init(celery.Celery.__init__))
    try:
        yield
    finally:
        before.set_current()


def _eager_init(init: Any) -> Any:
    def eager_init(self: celery.Celery, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.conf.task_always_eager = True

    return eager_init


@pytest.mark.parametrize("page", sorted({*FROM_ELSEWHERE} - FOLLOWED), ids=lambda page: page.stem)
def test_what_a_page_for_those_who_come_from_elsewhere_shows_runs_and_prints_what_it_says(
    page: pathlib.Path, trips: list[str], eager: None, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "trips.elsewhere"}

    run(blocks(page, "python"), names)

    assert capsys.readouterr().out.strip() == "\n".join(blocks(page, "text"))


def test_what_a_page_shows_of_elsewhere_is_python() -> None:
    shown = [(page, block) for page in FROM_ELSEWHERE for block in blocks(page, "py")]

    assert len(FROM_ELSEWHERE) == 4
    for page, block in shown:
        compile(block, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


@pytest.mark.django_db
def test_every_metric_is_explained() -> None:
    page = ROOT / "docs/observability.md"
    cells = [row[0] for name in ("What happened", "How things stand") for row in table(page, name)]
    explained = re.findall(r"`(\w+)`", " ".join(cells))

    assert sorted(explained) == sorted(
        metric.name + "_total" * (metric.type == "counter") for metric in metrics._Rows().collect()
    )
    # What is to be looked at is there to be seen.
    assert set(re.findall(r"`(sagas_\w+)`", (ROOT / "docs/operations.md").read_text())) <= set(explained)


def test_every_check_is_explained() -> None:
    """Each id that a declaration can be refused with has its line in the guide, and no other has."""
    source = "".join(path.read_text() for path in (ROOT / "sagas").rglob("*.py"))

    assert {row[0].strip("`") for row in table(GUIDE, "What is refused")} == set(
        re.findall(r'(?:id=|doctor\.(?:error|warning)\(\s*)"(sagas\.[EW]\d+)"', source)
    )


def used_names(code: str) -> set[str]:
    """The names that it reads."""
    names = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name))
    return {node.id for node in names if isinstance(node.ctx, ast.Load)}


def bound_names(code: str, *, imports: bool = True) -> set[str]:
    """The names that it gives something to, and those of its functions' arguments."""
    bound: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                bound |= {(one.asname or one.name).partition(".")[0] for one in names if imports}
            case ast.FunctionDef(name=str(name)) | ast.ClassDef(name=str(name)) | ast.arg(arg=str(name)):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.Name(id=str(name), ctx=ast.Store()):
                bound.add(name)
    return bound


# --- Reading Markdown ----------------------------------------------------------------------------


def prose(page: pathlib.Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def blocks(page: pathlib.Path, language: str, under: str = "") -> list[str]:
    """The page's code blocks in that language; of one chapter, if its heading is given."""
    text = page.read_text()
    if under:
        text = text.partition(f"\n## {under}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}[^\n]*\n(.*?)\n```$", text, flags=re.DOTALL | re.MULTILINE)


def chapters(page: pathlib.Path) -> list[list[str]]:
    """The page's Python, chapter by chapter."""
    headings = re.findall(r"^## (.+)$", prose(page), re.MULTILINE)
    return [found for heading in headings if (found := blocks(page, "python", under=heading))]


def spans(page: pathlib.Path) -> list[str]:
    """The code within the page's sentences."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def links(page: pathlib.Path) -> list[str]:
    """Where the page's links lead, those to other places of the web aside."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def leads_somewhere(page: pathlib.Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return False
    return not anchor or anchor in anchors(target)


def anchors(page: pathlib.Path) -> set[str]:
    """What its headings are called in links: lower case, words joined by dashes, punctuation left out."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named_files(page: pathlib.Path) -> list[str]:
    """Paths from the root in the page's sentences. `saga.py` alone is a role; `.run/env` only comes to be."""
    path = r"\w[\w-]*(/[\w.-]+)*(/|/[\w-]+\.\w+|\.(md|toml|txt|in))"
    return [span for span in spans(page) if re.fullmatch(path, span) and not span.startswith("trips/")]


def table(page: pathlib.Path, heading: str) -> list[list[str]]:
    """The rows of the table under that heading, without its head."""
    _, _, below = page.read_text().partition(f"\n## {heading}\n")
    section = below.partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def functions(file: pathlib.Path) -> set[str]:
    """The names of the functions in a file."""
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}


def names_of_tests(file: pathlib.Path) -> set[str]:
    """The names of the tests in a file; none where there is no such file."""
    return {name for name in functions(file) if name.startswith("test_")} if file.exists() else set()


def split_files(code: list[str]) -> tuple[dict[str, str], list[str]]:
    """The blocks that begin with a file's name, by that name; and the others."""
    named = {match[1]: block for block in code if (match := re.match(r"# (\S+\.py)\n", block))}
    return named, [block for block in code if block not in named.values()]
