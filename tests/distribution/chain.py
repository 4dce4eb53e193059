"""Whoever follows docs/from-a-chain-to-a-saga.md word by word: what it breaks breaks, what it mends is mended.

A block of text is what the command above it says in the end; a command that kills the worker does.
"""

import contextlib
import dataclasses
import pathlib
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

from saga_project.local import runfile
from tests.distribution import walk

PAGE = runfile.ROOT / "docs" / "from-a-chain-to-a-saga.md"
DATABASE = "store"

HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)\n```$", re.DOTALL | re.MULTILINE)
PATIENCE_S = 60


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
def there(wheel: pathlib.Path, place: pathlib.Path, **project: Any) -> Iterator[walk.Project]:
    """An empty folder with the wheel, and the database that the page names."""
    folder = place / "project"
    folder.mkdir(parents=True)
    shutil.copy(wheel, folder)
    with walk.Project(folder, name=DATABASE, **project).there() as walker:
        yield walker


def follow(walker: walk.Project, chapter: Chapter, *, only_write: bool = False) -> None:
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


def _command(walker: walk.Project, text: str, *, says: str | None) -> None:
    if " worker " in text:
        if "worker" in walker.processes:  # Whoever starts the worker again has stopped it.
            walker.kill("worker")
        walk.start_worker(walker, text)
    elif text.startswith("kill "):
        walker.run(text)
        walker.kill("worker")  # It is gone, and is taken leave of.
    elif says is None:
        walker.run(text)
    else:
        _until_it_says(walker, text, says)


def _until_it_says(walker: walk.Project, text: str, says: str) -> None:
    # Only the last line is repeated: what is before it is done once.
    *before, last = text.splitlines()
    for line in before:
        walker.run(line)
    end = time.monotonic() + PATIENCE_S
    while (said := walker.run(last).strip()) != says:
        assert time.monotonic() < end, f"{last}\nsays\n{said}\nand not\n{says}\n\n{walker.said()[-6000:]}"
        time.sleep(0.3)
