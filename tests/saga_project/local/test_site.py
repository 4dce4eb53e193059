"""The site has every page and all that they link to, and no link leads out of it."""

import pathlib
import re

import pytest

from saga_project.local import reference, site
from tests import test_docs

DRAWN = re.compile(r'^```\{raw\} html\n<pre class="mermaid">', re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The pages as they are given to what draws them."""
    place = tmp_path_factory.mktemp("site")
    site.assemble(place)
    return place


def test_every_page_of_the_documentation_is_in_one_chapter() -> None:
    pages = [page for chapter in site.navigation().values() for page in chapter]

    assert sorted(pages) == sorted(
        path.relative_to(site.ROOT).as_posix() for path in test_docs.PAGES if path.name != "LICENSE.md"
    )


def test_a_page_that_nobody_put_anywhere_ends_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(site.NAVIGATION, "Operate", ["docs/admin.md"])

    with pytest.raises(SystemExit, match=r"docs/operations\.md"):
        site.navigation()


def test_every_link_leads_to_what_is_in_the_site(place: pathlib.Path) -> None:
    pages = list(place.rglob("*.md"))
    links = [(page, link) for page in pages if "code" not in page.parts for link in test_docs.links(page)]
    dead = [
        (page.relative_to(place), link)
        for page, link in links
        if not test_docs.leads_somewhere(page, link)
        or not (page.parent / link.partition("#")[0]).resolve().is_relative_to(place)
    ]

    assert len(links) > 200
    assert dead == []


def test_code_that_is_linked_to_is_a_page_with_all_of_it(place: pathlib.Path) -> None:
    shown = (place / "code/orders/saga.py.md").read_text()

    assert (site.ROOT / "orders/saga.py").read_text().rstrip() in shown
    assert "](code/orders/saga.py.md)" in (place / "index.md").read_text()


def test_every_public_module_has_a_page_in_the_reference(place: pathlib.Path) -> None:
    contents = (place / "index.md").read_text()
    _, _, chapter = contents.partition(":caption: Reference\n\n")

    assert {path.stem for path in (place / "reference").iterdir()} == set(reference.modules())
    assert chapter.partition("\n```")[0].splitlines() == [f"reference/{name}" for name in reference.modules()]
    assert (
        "[Its code](../code/sagas/engine/__init__.py.md)" in (place / "reference/sagas.engine.md").read_text()
    )


def test_diagrams_are_drawn_by_a_script_of_the_site(place: pathlib.Path) -> None:
    for page, up in (("index.md", ""), ("docs/lifecycle.md", "../")):
        text = (place / page).read_text()
        source = site.ROOT / (site.FIRST if page == "index.md" else page)
        assert len(DRAWN.findall(text)) == len(test_docs.blocks(source, "mermaid"))
        assert f'<script src="{up}_static/mermaid.js"></script>' in text
    assert "mermaid.js" not in (place / "docs/glossary.md").read_text()
