"""mutmut in a copy of the tree: which mutants of a module there are, and which of them no test noticed."""

import collections
import dataclasses
import difflib
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence

from mutmut import stats

MUTMUT = [sys.executable, "-c", "from mutmut.__main__ import cli; cli()"]
"""Its command; `-m mutmut` executes its module twice, of which it warns."""

GENERATE = """
import os
from mutmut import __main__ as mutmut
os.makedirs("mutants", exist_ok=True)
mutmut.copy_src_dir()
mutmut.copy_also_copy_files()
mutmut.create_mutants(1)
"""
"""What `mutmut run` begins with, and no command of its own does."""

LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv", ".run", ".*_cache", ".hypothesis", ".schemathesis", ".site", "__pycache__"
)

KILLED, SURVIVED, TIMED_OUT, UNTESTED = "killed", "survived", "timed out", "no test calls it"

FATES = {"killed": KILLED, "survived": SURVIVED, "timeout": TIMED_OUT, "no tests": UNTESTED}
"""By mutmut's words."""


class Unusable(Exception):
    """mutmut could not try the mutants; what it said is the message."""


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """A mutant as one can find it again: mutmut's own names are numbers, which move when a function grows."""

    where: str
    """The function, with its module: `sagas.engine.parallel.is_free`."""

    was: str
    """The lines of code before the mutation, without their indentation."""

    now: str
    """The same after it."""

    nth: int = 1
    """Of those that are alike in one function, which."""

    def __str__(self) -> str:
        number = f" (number {self.nth} of its like)" if self.nth > 1 else ""
        return f"{self.where}{number}\n  - {_indented(self.was)}\n  + {_indented(self.now)}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is mutated, and which tests are to notice."""

    source: str
    """A directory of the tree that has all the modules in it."""

    modules: Sequence[str]
    """Paths from the tree's root."""

    tests: Sequence[str]
    """What pytest is given to choose them."""

    options: Sequence[str] = ()
    """What else pytest is given."""

    not_mutated: Sequence[str] = ()
    """Regular expressions: what a line has in it on which nothing is mutated."""


def copy(tree: pathlib.Path, to: pathlib.Path, plan: Plan) -> None:
    """Copy the tree, and write into the copy's pyproject.toml what mutmut is to do."""
    shutil.copytree(tree, to, ignore=LEFT_BEHIND, symlinks=True, dirs_exist_ok=True)
    also = sorted(one.name for one in to.iterdir() if one.name not in (plan.source, "mutants"))
    told = {
        "source_paths": [plan.source],
        "only_mutate": list(plan.modules),
        "also_copy": also,
        "pytest_add_cli_args_test_selection": list(plan.tests),
        "pytest_add_cli_args": list(plan.options),
        "do_not_mutate_patterns": list(plan.not_mutated),
        "use_git_change_detection": False,
        "on_dependency_change": "ignore",
        "timeout_multiplier": 5.0,
        "timeout_constant": 10.0,
    }
    settings = to / "pyproject.toml"
    known = settings.read_text() if settings.exists() else ""
    # JSON's lists, strings, numbers and truths are TOML's.
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items())
    settings.write_text(f"{known}\n[tool.mutmut]\n{lines}")


def generate(copied: pathlib.Path) -> None:
    """Have the mutants made that are not there yet.

    Arguments:
        copied: where `copy` has put the tree.

    Raises:
        Unusable: mutmut ended with an error.
    """
    _call([sys.executable, "-c", GENERATE], copied)


def run(copied: pathlib.Path, names: Sequence[str], *, processes: int = 1) -> None:
    """Have those mutants tried of which nothing is known yet.

    Arguments:
        copied: where `copy` has put the tree.
        names: which of them, as mutmut names them.
        processes: so many at a time.

    Raises:
        Unusable: mutmut ended with an error; also if the tests fail without any mutant.
    """
    if names:
        _call([*MUTMUT, "run", "--max-children", str(processes), *names], copied)


def _call(command: Sequence[str], copied: pathlib.Path) -> None:
    ended = subprocess.run(
        command,
        cwd=copied,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise Unusable("\n".join(ended.stdout.replace("\r", "\n").splitlines()[-60:]))


def environment() -> dict[str, str]:
    """Without a path: only the copy is imported."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@dataclasses.dataclass(frozen=True)
class Tried:
    """What became of one mutant."""

    name: str
    """As mutmut names it."""

    place: Place
    fate: str


UNTRIED = None
"""mutmut's code for a mutant of which nothing is known yet."""


def results(copied: pathlib.Path, module: str) -> list[Tried]:
    """What became of the mutants of a module that were tried.

    Raises:
        Unusable: mutmut cannot tell what became of one.
    """
    where = places(copied, module)
    found = []
    for name, code in _codes(copied, module).items():
        if code is UNTRIED:
            continue
        said = stats.status_by_exit_code[code]
        if said not in FATES:
            raise Unusable(f"mutmut says of {name} that it is: {said} ({code})")
        found.append(Tried(name, where[name], FATES[said]))
    return found


def untried(copied: pathlib.Path, module: str) -> set[str]:
    """The names of those of which nothing is known yet."""
    return {name for name, code in _codes(copied, module).items() if code is UNTRIED}


def _codes(copied: pathlib.Path, module: str) -> dict[str, int | None]:
    codes: dict[str, int | None] = json.loads((copied / f"mutants/{module}.meta").read_text())[
        "exit_code_by_key"
    ]
    return codes


def places(copied: pathlib.Path, module: str) -> dict[str, Place]:
    """Where the mutants of a module are, by mutmut's names, from what it has written beside the module."""
    spans = json.loads((copied / f"mutants/{module}.spans").read_text())["spans"]
    lines = (copied / "mutants" / module).read_text().splitlines()
    dotted = module.removesuffix(".py").replace("/", ".")
    seen: collections.Counter[tuple[str, str, str]] = collections.Counter()
    found = {}
    for name in _codes(copied, module):
        within = name.removeprefix(f"{dotted}.")
        mangled = within.partition("__mutmut_")[0]
        place = f"{dotted}.{_plain(mangled)}"
        was, now = _difference(*(_function(lines, spans[one]) for one in (f"{mangled}__mutmut_orig", within)))
        seen[place, was, now] += 1
        found[name] = Place(place, was, now, seen[place, was, now])
    return found


def _function(lines: Sequence[str], span: Sequence[int]) -> list[str]:
    first, last = span
    return lines[first - 1 : last]


def _difference(before: Sequence[str], after: Sequence[str]) -> tuple[str, str]:
    """The lines that differ; the name of the function, which mutmut changes, is its own."""
    said = [_without_number(line) for line in before], [_without_number(line) for line in after]
    taken: tuple[list[str], list[str]] = [], []
    for line in difflib.ndiff(*said):
        if line.startswith("- "):
            taken[0].append(line[2:].strip())
        elif line.startswith("+ "):
            taken[1].append(line[2:].strip())
    return "\n".join(taken[0]), "\n".join(taken[1])


def _without_number(line: str) -> str:
    start, mark, rest = line.partition("__mutmut_")
    return (
        start + rest[rest.index("(") :]
        if mark and start.lstrip().startswith(("def ", "async def "))
        else line
    )


def _plain(mangled: str) -> str:
    """`x_name` is a function's, `xǁClassǁname` a method's."""
    return mangled.removeprefix("x_") if mangled.startswith("x_") else mangled[2:].replace("ǁ", ".")


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")
