"""What `manage.py doctor` asks and how it tells what it found: findings, and the registry of examinations.

An examination is a function beside what it examines. It yields what hurts as a `Finding`, and what is well as
a short sentence. Any app may register some, in a module `examinations` that `manage.py doctor` imports:

    @doctor.examination("The bank", needs={"database"})
    def look_at_the_bank() -> Iterator[doctor.Said]:
        yield "answers in 80 ms"
"""

import dataclasses
import enum
import importlib
import logging
from collections.abc import Callable, Iterable, Iterator

from django.core import checks
from django.db import Error
from django.utils import module_loading

logger = logging.getLogger("sagas")


class Severity(enum.Enum):
    """How much it hurts."""

    ERROR = "error"
    """Sagas are lost, done wrong, or stand still."""

    WARNING = "warning"
    """They go on, and something is slower, less safe or less seen than it should be."""


LEVELS = {Severity.ERROR: checks.ERROR, Severity.WARNING: checks.WARNING}
"""The same, as Django's checks have it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that hurts."""

    id: str
    severity: Severity
    what: str
    """What is wrong."""

    effect: str
    """What that does to sagas; empty where `what` says it."""

    change: str
    """The line to change, or the command to run."""

    def as_check(self) -> checks.CheckMessage:
        """The same as a message of `manage.py check`."""
        return _Check(self)


def error(id: str, what: str, effect: str, change: str) -> Finding:
    """One by which sagas are lost, done wrong, or stand still; the arguments are as a finding has them."""
    return Finding(id=id, severity=Severity.ERROR, what=what, effect=effect, change=change)


def warning(id: str, what: str, effect: str, change: str) -> Finding:
    """One with which they go on, and something is worse than it should be."""
    return Finding(id=id, severity=Severity.WARNING, what=what, effect=effect, change=change)


class _Check(checks.CheckMessage):
    """A finding that `manage.py check` tells."""

    def __init__(self, finding: Finding) -> None:
        text = " ".join(filter(None, [finding.what, finding.effect]))
        super().__init__(LEVELS[finding.severity], text, hint=finding.change, id=finding.id)
        self.finding = finding


Said = Finding | str
"""What an examination yields: a finding, or what is well."""


class Away(Exception):
    """What is examined does not answer: others that need it are left out."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examination:
    """One part of an installation that is looked at."""

    title: str
    look: Callable[[], Iterator[Said]]
    proves: str
    """What is there unless this raises `Away`; empty for nothing that others need."""

    needs: frozenset[str]
    """What has to be there for it: what an earlier examination proves."""


@dataclasses.dataclass(kw_only=True)
class Letter:
    """What was found, by the titles of the examinations."""

    findings: list[tuple[str, Finding]] = dataclasses.field(default_factory=list)
    well: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """What could not be looked at, and why."""

    def add(self, title: str, said: Said) -> None:
        """Keep it; what two examinations find is kept once."""
        if isinstance(said, str):
            self.well.append((title, said))
        elif said not in [finding for _, finding in self.findings]:
            self.findings.append((title, said))


_examinations: dict[str, Examination] = {}


def examination(
    title: str, *, proves: str = "", needs: Iterable[str] = ()
) -> Callable[[Callable[[], Iterator[Said]]], Callable[[], Iterator[Said]]]:
    """Register a function as an examination; they are carried out in this order.

    Arguments:
        title: what it looks at; of two with one title the later one counts.
        proves: what is there unless it raises `Away`.
        needs: without which it is left out; the engine proves `database`, `tables` and `broker`.
    """

    def register(look: Callable[[], Iterator[Said]]) -> Callable[[], Iterator[Said]]:
        _examinations[title] = Examination(title=title, look=look, proves=proves, needs=frozenset(needs))
        return look

    return register


_modules: list[str] = []


def look_in(module: str) -> None:
    """Have a module that no app has, a project's say, imported before anything is examined.

    Arguments:
        module: its dotted name, such as `shop.examinations`.
    """
    _modules.append(module)


def examine() -> Letter:
    """Carry out every examination."""
    importlib.import_module("sagas.examinations")  # It proves what others need.
    module_loading.autodiscover_modules("examinations")
    for module in _modules:
        importlib.import_module(module)
    letter, away = Letter(), set[str]()
    for one in _examinations.values():
        if missing := one.needs & away:
            letter.left_out.append((one.title, f"no {' and no '.join(sorted(missing))}"))
            away |= {one.proves}
            continue
        try:
            for said in one.look():
                letter.add(one.title, said)
        except Away as told:
            letter.add(one.title, told.finding)
            away |= {one.proves}
        except Exception as cause:  # A part that cannot be examined must not hide the others.
            if not isinstance(cause, Error):
                logger.exception("%s could not be examined", one.title)
            letter.add(one.title, unexamined(one.title, cause))
            away |= {one.proves}
    letter.findings.sort(key=lambda found: -LEVELS[found[1].severity])
    return letter


def unexamined(title: str, cause: Exception) -> Finding:
    """That something could not be looked at is a finding, too."""
    return error(
        "sagas.D000",
        what=f"{title}: this could not be examined: {first_line(cause)}",
        effect="Nobody knows whether it is well.",
        change="Mend what it says, and ask again.",
    )


def first_line(error: BaseException) -> str:
    """What an error says, without the rest."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


effects: dict[str, str] = {}
"""What findings of `manage.py check` do that do not say so themselves, by their id: each app adds its own."""


lines: dict[str, str] = {}
"""The line to change for those that have no hint, by their id: each app adds its own."""

told_better: set[str] = set()
"""Those of which an examination says more: each app adds its own."""


def of_checks(found: Iterable[checks.CheckMessage]) -> Iterator[Finding]:
    """Findings of what `manage.py check` says; silenced messages and mere remarks are left out.

    Arguments:
        found: its messages.
    """
    for message in found:
        if message.is_silenced() or message.level < checks.WARNING or message.id in told_better:
            continue
        if isinstance(message, _Check):
            yield message.finding
            continue
        id = message.id or ""
        yield Finding(
            id=id,
            severity=Severity.ERROR if message.level >= checks.ERROR else Severity.WARNING,
            what=f"{message.obj}: {message.msg}" if isinstance(message.obj, str) else str(message.msg),
            effect=effects.get(id, ""),
            change=message.hint or lines.get(id) or "See what it names.",
        )
