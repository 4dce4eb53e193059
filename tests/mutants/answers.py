"""What is said of mutants that no test notices, and of those for which a test was written: answers.toml."""

import ast
import collections
import dataclasses
import pathlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence

from tests.mutants.trial import KILLED, SURVIVED, UNTESTED, Place, Tried

FILE = pathlib.Path(__file__).with_name("answers.toml")

VERDICTS = ("equivalent", "accepted")
"""Nothing that anybody may rely on tells it from the original; or something would, and is not tested."""


class Invalid(Exception):
    """answers.toml says what it may not."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is said of one or several mutants."""

    verdict: str
    """One of `VERDICTS`; "killed" where a test was written that notices them."""

    says: str
    """The reason, or the test: a path and a name, as pytest takes it."""

    mutants: tuple[Place, ...]


def read(text: str) -> list[Answer]:
    """The answers in the file.

    Raises:
        Invalid: one is incomplete, has an unknown verdict, or speaks of a mutant that another speaks of.
    """
    found = []
    for entry in tomllib.loads(text).get("answer", []):
        try:
            verdict = entry["verdict"]
            says = entry["test" if verdict == "killed" else "because"]
            mutants = tuple(Place(**{**one, "nth": one.get("nth", 1)}) for one in entry["mutants"])
        except (KeyError, TypeError) as error:
            raise Invalid(f"{entry}: {error!r}") from None
        if verdict not in (*VERDICTS, "killed") or not says.strip() or not mutants:
            raise Invalid(f"{entry} has no verdict, no reason or no mutant.")
        found.append(Answer(verdict, says, mutants))
    twice = [place for place, count in collections.Counter(_places(found)).items() if count > 1]
    if twice:
        raise Invalid(f"Answered twice: {twice[0]}")
    return found


def complaints(tried: Iterable[Tried], there: Iterable[Place], answers: Sequence[Answer]) -> list[str]:
    """What the answers lack, and have too much.

    Arguments:
        tried: the mutants that were tried.
        there: all mutants that there are, of the modules of which some were tried.
        answers: the answers about those modules.
    """
    fates = {one.place: one.fate for one in tried}
    answered = {place: answer for answer in answers for place in answer.mutants}
    said = [
        f"No answer: {place}"
        for place, fate in fates.items()
        if fate in (SURVIVED, UNTESTED) and (place not in answered or answered[place].verdict not in VERDICTS)
    ]
    known = set(there)
    for place, answer in answered.items():
        if place not in known:
            said.append(f"Answered, and there is no such mutant any more: {place}")
        elif answer.verdict in VERDICTS and fates.get(place) == KILLED:
            said.append(f"Answered, and a test notices it now: {place}")
    return said


def of_modules(answers: Iterable[Answer], modules: Iterable[str]) -> list[Answer]:
    """The answers about those modules, each with no other mutants in it."""
    begins = tuple(dotted(module) + "." for module in modules)
    chosen = [
        dataclasses.replace(
            one, mutants=tuple(place for place in one.mutants if place.where.startswith(begins))
        )
        for one in answers
    ]
    return [one for one in chosen if one.mutants]


def dotted(module: str) -> str:
    """The name by which a module is imported, of its path."""
    return module.removesuffix(".py").replace("/", ".")


def misplaced(tree: pathlib.Path, answers: Iterable[Answer]) -> list[str]:
    """Mutants whose function is not there, or no longer has the line: seen without trying anything."""
    sources: dict[str, Mapping[str, str]] = {}
    said = []
    for place in _places(answers):
        module, function = _module_of(tree, place.where)
        if module not in sources:
            sources[module] = _functions(tree / module) if module else {}
        lines = [line.strip() for line in sources[module].get(function, "").splitlines()]
        if not lines or not all(line in lines for line in place.was.splitlines()):
            said.append(str(place))
    return said


def _places(answers: Iterable[Answer]) -> list[Place]:
    return [place for answer in answers for place in answer.mutants]


def _module_of(tree: pathlib.Path, where: str) -> tuple[str, str]:
    parts = where.split(".")
    for number in range(len(parts), 0, -1):
        path = "/".join(parts[:number]) + ".py"
        if (tree / path).is_file():
            return path, ".".join(parts[number:])
    return "", where


def _functions(path: pathlib.Path) -> dict[str, str]:
    text = path.read_text()
    found = {}
    for node in ast.parse(text).body:
        for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(inner, ast.FunctionDef):
                within = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
                found[within + inner.name] = ast.get_source_segment(text, inner) or ""
    return found
