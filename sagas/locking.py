"""Lock files: what each app's `saga.py` declares, written down beside it as `saga.lock` and held to it.

As a migration tells what becomes of the tables, the lock tells in review what becomes of the sagas; and a
change that live sagas would meet is refused by `manage.py check`, before there is a database.
"""

import dataclasses
import enum
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.apps import apps
from django.core.management import base

from sagas.declaration import definition, locks, registry

FILE = "saga.lock"

LOCK = "manage.py saga lock"


class Matter(enum.Enum):
    """What is between a declaration and its lock."""

    UNREADABLE = "the file is no lock"
    MISSING = "it is declared, and not locked"
    CHANGED = "it is declared otherwise than it is locked"
    REMOVED = "it is locked, and no longer declared"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """Where an app's declarations and its lock are not the same."""

    matter: Matter
    saga: str
    """Its name; empty where the file cannot be read."""

    text: str
    hint: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declarations:
    """What one app declares, and where that is locked."""

    label: str
    path: pathlib.Path
    declared: Mapping[locks.Name, locks.Locked]

    @property
    def shown(self) -> str:
        """Its file, for people: from where the command runs, if it is below."""
        here = pathlib.Path.cwd()
        return str(self.path.relative_to(here) if self.path.is_relative_to(here) else self.path)

    @property
    def is_locked(self) -> bool:
        """Whether there is a file."""
        return self.path.exists()

    def locked(self) -> dict[locks.Name, locks.Locked]:
        """What the file says; nothing without one.

        Raises:
            ValueError: it is no lock.
        """
        return locks.read(self.path.read_text("utf-8")) if self.is_locked else {}

    def differences(self) -> Iterator[Difference]:
        """Where the file, and what is declared now, are not the same."""
        try:
            locked = self.locked()
        except ValueError as error:
            yield Difference(
                matter=Matter.UNREADABLE,
                saga="",
                text=f"{self.shown} cannot be read: {error}",
                hint=f"End the merge that it is in, if it is in one: take either side, and run `{LOCK}`.",
            )
            return
        for (name, version), one in self.declared.items():
            before = locked.get((name, version))
            if before is None:
                yield Difference(
                    matter=Matter.MISSING,
                    saga=name,
                    text=f"{name} v{version} is not in {self.shown}.",
                    hint=f"Run `{LOCK}`, and commit what it writes.",
                )
            elif before.fingerprint != one.fingerprint:
                yield Difference(
                    matter=Matter.CHANGED,
                    saga=name,
                    text=f"{name} v{version} is not what {self.shown} has:"
                    f" {', '.join(locks.changes(before, one))}.",
                    hint=self._raise_version(name, version),
                )
        for name, version in sorted(locked.keys() - self.declared.keys()):
            yield Difference(
                matter=Matter.REMOVED,
                saga=name,
                text=f"{name} v{version} is in {self.shown}, and no longer declared: its live sagas wait for"
                " it.",
                hint="Keep it declared until none is live (`manage.py check --database default` says E011"
                f" before that); then `{LOCK}` takes it out.",
            )

    def _raise_version(self, name: str, version: int) -> str:
        free = 1 + max(known for saga, known in self.declared if saga == name)
        return (
            f"Sagas that began with version {version} need it as it was: put that back, declare the change as"
            f" version {free} beside it, and run `{LOCK}`. If none has begun anywhere yet, run"
            f" `{LOCK} --replace {name}`."
        )


def declarations() -> list[Declarations]:
    """What each app of the project declares; what was installed as a package is not ours to lock."""
    found = []
    for app in apps.get_app_configs():
        module = sys.modules.get(f"{app.name}.saga")
        path = pathlib.Path(app.path) / FILE
        if module is None or {"site-packages", "dist-packages"} & set(path.parts):
            continue
        sagas = [value for value in vars(module).values() if isinstance(value, definition.Saga)]
        if sagas or path.exists():
            found.append(Declarations(label=app.label, path=path, declared=locks.locks(sagas)))
    return found


# --- The command -----------------------------------------------------------------------------------


def add_arguments(functions: Any) -> None:
    """The command, for `manage.py saga`."""
    locking = functions.add_parser(
        "lock", help="write down what each app declares, in a saga.lock beside its saga.py"
    )
    locking.add_argument("app", nargs="*", help="only these, by their labels (all)")
    locking.add_argument(
        "--check", action="store_true", help="write nothing, and fail where a file is not up to date: for CI"
    )
    locking.add_argument(
        "--replace",
        action="append",
        default=[],
        metavar="SAGA",
        help="lock this one as it now is, without a new version: no saga of that version has begun anywhere",
    )


def run(options: Mapping[str, Any], *, write: Callable[[str], object]) -> None:
    """Write the files, or say where they are not up to date. Needs no database.

    Raises:
        CommandError: a declaration was refused, or changed without a new version; or a file is not up to
            date, where that was the question. Nothing was written.
    """
    if registry.refused:
        raise base.CommandError("\n".join(str(bad) for bad in registry.refused))
    known = {one.label: one for one in declarations()}
    if unknown := [label for label in options["app"] if label not in known]:
        raise base.CommandError(
            f"No app that declares sagas: {', '.join(unknown)}. Some are: {', '.join(known)}."
        )
    chosen = [known[label] for label in options["app"]] or list(known.values())
    names = {name for one in chosen for name, _ in one.declared}
    if unknown := [name for name in options["replace"] if name not in names]:
        raise base.CommandError(f"No saga is declared as {', '.join(unknown)}.")
    found = {one.label: list(one.differences()) for one in chosen}
    refused = [
        each
        for differences in found.values()
        for each in differences
        if each.matter is Matter.CHANGED and each.saga not in options["replace"]
    ]
    if options["check"]:
        _verify(chosen, found)
        write("Every saga.lock is up to date.")
        return
    if refused:
        raise base.CommandError("\n".join(f"{each.text}\n  {each.hint}" for each in refused))
    for one in chosen:
        _write(one, found[one.label], write)


def _verify(chosen: list[Declarations], found: Mapping[str, list[Difference]]) -> None:
    told = [f"{each.text}\n  {each.hint}" for one in chosen for each in found[one.label]]
    told += [
        f"{one.shown} is not as `{LOCK}` writes it."
        for one in chosen
        if not found[one.label] and one.path.read_text("utf-8") != locks.write(one.declared)
    ]
    if told:
        raise base.CommandError("\n".join(told))


def _write(one: Declarations, differences: list[Difference], write: Callable[[str], object]) -> None:
    text = locks.write(one.declared)
    if one.is_locked and one.path.read_text("utf-8") == text:
        write(f"{one.shown}: up to date.")
        return
    one.path.write_text(text, "utf-8")
    write(f"{one.shown}: written.")
    for each in differences:
        if each.matter is Matter.REMOVED:
            write(
                f"  {each.saga}: a version is gone. Be sure that none of its sagas is live: manage.py check"
                " --database default"
            )
