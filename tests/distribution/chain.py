"""Whoever follows docs/from-a-chain-to-a-saga.md word by word: it breaks what breaks, and mends it.

A block of text is what the command above it says in the end; a command that kills the worker does.
"""

import contextlib
import dataclasses
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from saga_project.local import runfile
from tests.distribution import walk
from tests.support import waiting

PAGE = runfile.ROOT / "docs" / "from-a-chain-to-a-saga.md"

HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)\n```$", re.DOTALL | re.MULTILINE)
PATIENCE_S = 60


class Project(walk.Project):
    """The reader's, with the name that the page gives it."""

    name = "store"


@dataclasses.dataclass(frozen=True)
class Chapter:
    """What stands under one heading."""

    name: str
    blocks: list[tuple[str, str]]
    """Language and text of each."""


def chapters() -> list[Chapter]:
    """The page's chapters that have something to run, in their order."""
    _, *parts = HEADING.split(PAGE.read_text())
    found = [
        Chapter(name, [(block["language"], block["text"]) for block in BLOCK.finditer(text)])
        for name, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    return [chapter for chapter in found if chapter.blocks]


@contextlib.contextmanager
def there(wheel: pathlib.Path, place: pathlib.Path, **project: Any) -> Iterator[Project]:
    """An empty folder with the wheel, and the database that the page names."""
    folder = place / "project"
    folder.mkdir(parents=True)
    shutil.copy(wheel, folder)
    with Project(folder, **project).there() as walker:
        yield walker


def follow(walker: Project, chapter: Chapter, *, only_write: bool = False) -> None:
    """Do what the chapter says.

    Arguments:
        walker: who has done what the chapters before it say.
        chapter: this one.
        only_write: leave out its commands, so that the next chapter finds its files as they should be.
    """
    for number, (language, text) in enumerate(chapter.blocks):
        told = [*chapter.blocks[number + 1 :], ("", "")][0]
        if language == "python":
            walker.write(text)
        elif language == "sh" and not only_write:
            _command(walker, text, says=told[1] if told[0] == "text" else None)


def _command(walker: Project, text: str, *, says: str | None) -> None:
    if " worker " in text:
        if "worker" in walker.processes:  # Whoever starts the worker again has stopped it.
            walker.kill("worker")
        before = walker.said().count(" ready.")
        walker.start("worker", text)
        waiting.until(lambda: walker.said().count(" ready.") > before, "a worker", seconds=PATIENCE_S)
    elif text.startswith("kill "):
        walker.run(text)
        walker.kill("worker")  # It is gone, and is taken leave of.
    elif says is None:
        walker.run(text)
    else:
        _until_it_says(walker, text, says)


def _until_it_says(walker: Project, text: str, says: str) -> None:
    # Only the last line is repeated: what is before it is done once.
    *before, last = text.splitlines()
    for line in before:
        walker.run(line)
    what = f"{last!r} to say\n{says}\nThe log is {walker.log}."
    waiting.until(lambda: walker.run(last).strip() == says, what, seconds=PATIENCE_S)
