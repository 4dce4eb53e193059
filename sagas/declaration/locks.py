"""What a lock file says of declared sagas: names, versions, fingerprints, and a line for each step.

The file is TOML. The fingerprint decides whether a declaration is still the one that was locked; the lines
are what the fingerprint is made of, for those who review the change. Each saga has a table of its own, sorted
by name and version, and each step a line: two branches that change different sagas merge without a conflict.

Pure: the standard library only.
"""

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from sagas.declaration import definition

Name = tuple[str, int]
"""A saga's name and version."""

HEAD = """\
# Written by `manage.py saga lock`, to be committed and reviewed as a migration is.
# A version of which sagas may have begun stays as it is here: a changed saga gets the next version.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Locked:
    """What is written down of one version of a saga."""

    fingerprint: str
    inputs: tuple[str, ...]
    steps: tuple[str, ...]
    """A line for each step, its name first; then one for each stage whose steps are done at once."""


def lock(saga: definition.Saga) -> Locked:
    """What is to be written down of that declaration."""
    return Locked(
        fingerprint=saga.fingerprint,
        inputs=tuple(saga.inputs),
        steps=(*map(_line, saga.all_steps), *map(_stage_line, saga.at_once)),
    )


def locks(sagas: Iterable[definition.Saga]) -> dict[Name, Locked]:
    """The same of many, and of those that are their children."""
    found: dict[Name, Locked] = {}
    for saga in sagas:
        found[saga.name, saga.version] = lock(saga)
        found |= locks(step.child for step in saga.children)
    return found


def write(locked: Mapping[Name, Locked]) -> str:
    """The text of a lock file."""
    return HEAD + "".join(
        f"\n[{_quoted(f'{name} v{version}')}]\n"
        f"fingerprint = {_quoted(one.fingerprint)}\n"
        f"inputs = [{', '.join(map(_quoted, one.inputs))}]\n"
        f"steps = [\n{''.join(f'    {_quoted(line)},{chr(10)}' for line in one.steps)}]\n"
        for (name, version), one in sorted(locked.items())
    )


def read(text: str) -> dict[Name, Locked]:
    """What a lock file says.

    Raises:
        ValueError: it is none; a merge that is not done, say.
    """
    found = {}
    for title, said in tomllib.loads(text).items():
        name, _, version = title.rpartition(" v")
        if not (name and version.isdecimal() and isinstance(said, dict)):
            raise ValueError(f"{title!r} is no saga with a version.")
        try:
            found[name, int(version)] = Locked(
                fingerprint=str(said["fingerprint"]),
                inputs=tuple(map(str, said["inputs"])),
                steps=tuple(map(str, said["steps"])),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{title} is not written down whole: {error}.") from error
    return found


def changes(before: Locked, now: Locked) -> list[str]:
    """What a declaration has that its lock has not, and the reverse, in words."""
    said = ["it takes other inputs"] if before.inputs != now.inputs else []
    old, new = (dict(_split(line) for line in one.steps) for one in (before, now))
    said += [f"{name} is changed" for name in new if name in old and old[name] != new[name]]
    said += [f"{name} is new" for name in new if name not in old]
    said += [f"{name} is gone" for name in old if name not in new]
    if not said and before.steps != now.steps:
        said.append("its steps have another order")
    return said or ["what its steps' functions are given is changed"]


def _split(line: str) -> tuple[str, str]:
    name, _, rest = line.partition(": ")
    return name, rest


def _line(step: definition.Step) -> str:
    said = {
        name: value for name, value in (definition.shape_of(step) | definition.beyond(step)).items() if value
    }
    name = said.pop("name")
    if said["kind"] == "compensatable":
        del said["kind"]  # Most are.
    if not step.has_worker:
        del said["do"]
    do = said.pop("do", "")
    first = [_text(do)] if do else []
    words = [label if value is True else f"{label} {_text(value)}" for label, value in said.items()]
    return f"{name}: {'; '.join(first + words)}"


def _stage_line(stage: definition.Parallel) -> str:
    said = [f"undone {stage.undo}"]
    said += [f"{label} {value}" for label in ("when", "unless") if (value := getattr(stage, label))]
    return f"{', '.join(step.name for step in stage.steps)} at once: {'; '.join(said)}"


def _text(value: Any) -> str:
    """A value for a reader: names as they are, and anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str | int) for one in value):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False)


def _quoted(text: str) -> str:
    if '"' in text and "'" not in text and "\\" not in text and text.isprintable():
        return f"'{text}'"
    # A TOML string: what JSON writes is one, for JSON escapes all that TOML wants escaped but DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
