"""What other apps add to the console: whom a saga is about, and what it did to money, stock and parcels.

The engine knows none of them. An app that declares a saga says, in its own admin.py:

    panels.add("order-fulfilment", Orders())

with an object that has the methods of `Subjects`.
"""

import dataclasses
import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from django.db.models import OuterRef, Subquery, Value, functions

from sagas import errors, models
from sagas.console import families, formatting, history, summary
from sagas.console.history import Answer
from sagas.declaration.states import StepState

__all__ = [
    "Answer",
    "Entry",
    "Moment",
    "Panel",
    "Story",
    "Subject",
    "Subjects",
    "add",
    "amounts",
    "awaited",
    "consequences",
    "describe",
    "label",
    "of",
    "registered",
    "search",
    "status",
    "story",
    "totals",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """The business thing that a saga is about, in a line."""

    text: str
    url: str = ""
    who: str = ""
    """The customer, say; shown to whoever may see sagas."""

    amount: str = ""
    id: uuid.UUID | None = None
    """By which it is found in the app's own API; the console's API shows it, with the number."""

    number: str = ""
    """What people call it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of a panel."""

    label: str
    value: Any
    url: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """What one service holds for a saga, and what is left of it."""

    title: str
    net: str
    """The net position, in a few words: what is held, or that nothing is."""

    tone: str = "plain"
    """plain, good, warning or undone."""

    url: str = ""
    """Of the row in its own admin."""

    at_stake: bool = False
    """Whether the verdict says it too while the saga is not over, as it is about money that is held."""

    entries: Sequence[Entry] = ()
    heads: Sequence[str] = ()
    lines: Sequence[Sequence[Any]] = ()
    """A small table: a ledger, movements, tracking."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """A step in the story of a saga."""

    label: str
    """What people call it."""

    state: str
    at: datetime.datetime | None
    """When it was done, or undone; None while it is neither."""

    error: str
    """What went wrong with it last, in the viewer's language; empty where nothing did."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Story:
    """What became of a saga, for a page of another app: in sentences, its steps, and what is left of each."""

    saga: models.SagaInstance
    state: str
    tone: str
    what: str
    next: str
    who: str
    moments: Sequence[Moment]
    panels: Sequence[Panel]


class Subjects(Protocol):
    """What an app tells of the sagas that it declares."""

    def describe(self, saga_ids: Iterable[uuid.UUID]) -> Mapping[uuid.UUID, Subject]:
        """The subject of each of these sagas, in a bounded number of statements."""

    def search(self, term: str) -> Iterable[uuid.UUID]:
        """The sagas that people mean by this word: a number, a customer, a provider's reference."""

    def numbered(self, number: str) -> Any:
        """A queryset of the ids of sagas about the thing with this number, by an index."""

    def amounting(self, least: int, most: int | None) -> Any:
        """A queryset of the ids of sagas about this much money, in minor units."""

    def panels(self, saga: models.SagaInstance, answers: Mapping[str, Answer]) -> Iterable[Panel]:
        """What each service holds for the saga.

        `answers` says for which steps a person answers, and how: a service whose books know nothing of
        that must not be shown as if the saga still waited for it.
        """


_subjects: dict[str, Subjects] = {}


def add(name: str, subjects: Subjects) -> None:
    """Have an app tell of the sagas with this name."""
    _subjects[name] = subjects


def registered() -> list[Subjects]:
    """What every app tells, each once."""
    return list(dict.fromkeys(_subjects.values()))


def describe(sagas: Iterable[models.SagaInstance]) -> dict[uuid.UUID, Subject]:
    """The subjects of these sagas, as far as anybody knows them.

    A child of which no app tells is named after its parent: which of its step's children it is, and whose.
    """
    rows = list(sagas)
    subjects = _told(rows)
    parents = families.parents(saga for saga in rows if saga.pk not in subjects)
    if parents:
        above = {parent.saga.pk: parent.saga for parent in parents.values()}
        known = describe(above.values())
        subjects.update((pk, _of_child(one, known.get(one.saga.pk))) for pk, one in parents.items())
    return subjects


def _told(rows: Iterable[models.SagaInstance]) -> dict[uuid.UUID, Subject]:
    """The subjects of which an app tells."""
    by_name: dict[str, list[uuid.UUID]] = {}
    for saga in rows:
        by_name.setdefault(saga.name, []).append(saga.pk)
    subjects: dict[uuid.UUID, Subject] = {}
    for name, ids in by_name.items():
        if name in _subjects:
            subjects.update(_subjects[name].describe(ids))
    return subjects


def _of_child(parent: families.Parent, about: Subject | None) -> Subject:
    text = f"{parent.label} · {about.text if about is not None else parent.saga.key}"
    return Subject(text=text, who=about.who if about is not None else "")


def attach(sagas: Sequence[Any]) -> None:
    """Give each of these sagas its `subject`; None where nobody knows it."""
    subjects = describe(sagas)
    for saga in sagas:
        saga.subject = subjects.get(saga.pk)


def attach_known(sagas: Sequence[Any]) -> None:
    """The same for children beside their parent: none is named after that."""
    subjects = _told(sagas)
    for saga in sagas:
        saga.subject = subjects.get(saga.pk)


def of(record: history.History) -> list[Panel]:
    """The panels of one saga."""
    subjects = _subjects.get(record.saga.name)
    return list(subjects.panels(record.saga, history.standing(record))) if subjects is not None else []


def story(saga_id: uuid.UUID) -> Story | None:
    """What became of a saga, wherever it is, at the price of its page; None where there is none."""
    try:
        record = history.read(saga_id)
    except errors.NotFound:
        return None
    said = summary.of(record)
    return Story(
        saga=record.saga,
        state="closed" if record.saga.closed_at is not None else record.saga.state,
        tone=said.tone,
        what=said.what,
        next=said.next,
        who=" ".join(filter(None, (said.who, said.advice))),
        moments=[_moment(record.saga.name, step) for step in record.steps],
        panels=of(record),
    )


def _moment(saga: str, step: models.StepInstance) -> Moment:
    failed = step.state not in (StepState.DONE, StepState.SKIPPED, StepState.PENDING)
    return Moment(
        label=label(saga, step.name),
        state=history.stands(step.saga, step),
        at=step.undone_at or step.finished_at,
        error=formatting.spoken((step.error or {}).get("message", "")) if failed else "",
    )


def label(saga: str, step: str) -> str:
    """What people call a step of the sagas with that name, in the viewer's language; else its name in words.

    An app that names its steps has the method `label(step)`, empty for a step that it does not name.
    """
    name = getattr(_subjects.get(saga), "label", None)
    plain = step.replace("-", " ")
    return (name(step) if name is not None else "") or plain[:1].upper() + plain[1:]


def awaited(saga: str, step: str) -> str:
    """What a step of the sagas with that name waits for once it has begun; empty where nobody has said it.

    An app that can tell has the method `awaits(step)`: the payer's PIX, say.
    """
    name = getattr(_subjects.get(saga), "awaits", None)
    return name(step) if name is not None else ""


def status(saga: str, state: str) -> str:
    """How people call what a saga with that name is about, when it is in that state, or `closed`.

    An app that has such words has the method `status(state)`; else it is empty.
    """
    words = getattr(_subjects.get(saga), "status", None)
    return words(state) if words is not None else ""


def consequences(record: history.History, intervention: str, *, turns_back: bool) -> list[str]:
    """What an intervention in a saga makes of the money, or of what else is at stake.

    An app that knows has the method `consequences(saga, intervention, step, turns_back)`, which returns
    sentences: `step` is what the intervention is about, and `turns_back` says whether all is undone then.

    Arguments:
        record: the saga, as the console reads it.
        intervention: its name, such as `compensate`.
        turns_back: whether all is undone then.
    """
    words = getattr(_subjects.get(record.saga.name), "consequences", None)
    return list(words(record.saga, intervention, record.step, turns_back)) if words is not None else []


def totals(saga_ids: Sequence[uuid.UUID]) -> list[str]:
    """How much money these sagas are about together, in words.

    An app whose sagas are about money has the method `total(saga_ids)`, empty where none of them is its own.
    """
    found = [words(saga_ids) for one in registered() if (words := getattr(one, "total", None)) is not None]
    return [text for text in found if text]


def amounts() -> Any:
    """An expression: how much money a saga is about, in minor units; -1 where no app knows. None without any.

    An app that can tell has the method `amounts(saga_id)`, which returns a queryset of at most one number.
    """
    known = [words(OuterRef("pk")) for one in registered() if (words := getattr(one, "amounts", None))]
    return functions.Coalesce(*(Subquery(one) for one in known), Value(-1)) if known else None


def search(term: str) -> set[uuid.UUID]:
    """The sagas that any app finds under this word."""
    return {saga_id for subjects in registered() for saga_id in subjects.search(term)}


def numbered(number: str) -> list[Any]:
    """From each app, a queryset of the ids of sagas about the thing with this number."""
    return [subjects.numbered(number) for subjects in registered()]
