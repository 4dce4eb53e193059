"""Playing a declaration with what happened to sagas of yesterday: which of them would end otherwise.

The rows and events of a saga say what its steps answered: how often one was unavailable before it went well,
what was refused, what was told from outside, when somebody cancelled it. From the new declaration alone, and
without calling anything, it is played with these answers (`sagas.testing.scripts`). So it shows before a
deployment that a smaller budget, say, would have given up on orders which went well.

A saga is followed to its first rest: its end, or a person's being called. What nobody asked yesterday has no
answer: such a call is taken to go well, and is named. Nothing is written, and a replica will do.
"""

import argparse
import collections
import dataclasses
import datetime
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from django.core.management import base
from django.db import connections, transaction

from sagas import models
from sagas.declaration import definition, registry
from sagas.declaration.states import SagaState, StepState
from sagas.engine.kinds import Clock, EventKind, FailureKind
from sagas.testing import scripts

COMPLETED, COMPENSATED, ATTENTION = "completed", "compensated", "needs attention"
RESTS = (COMPLETED, COMPENSATED, ATTENTION)

ENDS = {
    EventKind.SAGA_COMPLETED: COMPLETED,
    EventKind.SAGA_COMPENSATED: COMPENSATED,
    EventKind.SAGA_ATTENTION: ATTENTION,
}

WORDS = {
    FailureKind.REFUSED: "fail",
    FailureKind.TRANSIENT: "flake",
    FailureKind.OUTAGE: "flake",
    FailureKind.UNKNOWN: "drop",
    FailureKind.BUG: "break",
}
"""What a failure is in a script's words. Whether what is unknown was done (lose) or not (drop) makes no
difference to what comes next; any other failure ends the step as a bug does."""

BY_HAND = {EventKind.OPERATOR_RESOLVE, EventKind.OPERATOR_SKIP, EventKind.OPERATOR_CLOSE}
"""An operator took the saga out of its declaration's hands."""

BATCH = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Act:
    """What somebody did, and how many calls of each function had been answered by then."""

    line: str
    step: str
    """The step that it is about; empty for the saga."""

    after: Mapping[tuple[str, str], int]
    during: bool = False
    """Whether it came during the last of them."""


@dataclasses.dataclass(kw_only=True)
class Record:
    """What happened to a saga and to its children, to its first rest."""

    saga: models.SagaInstance
    facts: dict[str, Any]
    answers: dict[tuple[str, str], list[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )
    acts: list[Act] = dataclasses.field(default_factory=list)
    lines: list[str] = dataclasses.field(default_factory=list)
    branches: dict[str, int] = dataclasses.field(default_factory=dict)
    ended: str = ""
    left_out: str = ""
    """Why it cannot be rehearsed."""


class Recorded:
    """The world as it was, for one rehearsal (`scripts.World`)."""

    def __init__(self, record: Record, saga: definition.Saga) -> None:
        self._answers = {call: collections.deque(given) for call, given in record.answers.items()}
        self._acts = [act for act in record.acts if not act.step or _has(saga, act.step)]
        self._known = {call for call in record.answers if _has(saga, call[1])}
        self._calls: collections.Counter[tuple[str, str]] = collections.Counter()
        self._outwaits = False
        self.branches = record.branches
        self.assumed: list[str] = []
        """The calls that nobody had made, and that are taken to go well."""

    def answer(self, function: str, step: str) -> tuple[str, str]:
        """What the same attempt was answered; to ask first is part of it.

        An action that surely did not happen after a doubt had been asked about, and had not happened before.
        """
        if function == "ask" and self._outwaits:
            return "begin", ""
        call = ("undo" if function == "undo" else "do", step)
        left = self._answers.get(call)
        if function == "ask" and left and left[0] in ("flake", "fail"):
            return "miss", ""
        self._calls[call] += 1
        if not left:
            self.assumed.append(" ".join(call))
        answer = left.popleft() if left else "well"
        act = self._acts[0] if self._acts else None
        if act is None or not act.during or not self._is_time(act):
            return answer, ""
        self._acts.remove(act)
        return answer, "cancelled"

    def act_due(self, played: Sequence[str], waiting: Sequence[str] | None) -> str | None:
        """What ends a wait comes when nothing else is to be done; a cancellation once so much happened."""
        self._outwaits = False
        if set(played) & set(RESTS):
            return None
        if waiting is None:
            due = bool(self._acts) and not self._acts[0].step and self._is_time(self._acts[0])
            return self._acts.pop(0).line if due else None
        for act in self._acts:
            if act.step in waiting or not act.step:
                self._acts.remove(act)
                self._outwaits = act.line.startswith("outwait ")
                return act.line
        return None

    def _is_time(self, act: Act) -> bool:
        return all(self._calls[call] >= count for call, count in act.after.items() if call in self._known)


def _has(saga: definition.Saga, step: str) -> bool:
    """Whether the saga has the step, or a child whose step it is."""
    name, _, rest = step.partition(".")
    if name not in saga.positions:
        return False
    declared = saga.step(name)
    if not rest:
        return True
    return isinstance(declared, definition.Child) and _has(declared.child, rest.partition(".")[2])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """What came of one saga's rehearsal."""

    record: Record
    would_end: str
    parts: str
    """Where the ways part: what was, and what would be."""

    assumed: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether it would end otherwise."""
        return self.would_end != self.record.ended


def rehearse(record: Record, saga: definition.Saga) -> Rehearsed:
    """Play a declaration with what happened to a saga.

    Arguments:
        record: what happened; with a reason to be left out it is not asked for here.
        saga: the declaration.
    """
    world = Recorded(record, saga)
    played = scripts.play(saga, world, record.facts)
    rests = [number for number, line in enumerate(played) if line in RESTS]
    played = played[: rests[0] + 1] if rests else [*played, "waits"]
    return Rehearsed(
        record=record,
        would_end=played[-1],
        parts=_parting(record.lines, played),
        assumed=tuple(dict.fromkeys(world.assumed)),
    )


def _parting(was: Sequence[str], would: Sequence[str]) -> str:
    """The first line that each has and the other has not; steps that are done at once come in any order."""
    would = [re.sub(r"\bask\b", "do", line) for line in would]
    was = [re.sub(r"^(\w+) do ", r"\1 ", line) for line in was]
    would = [re.sub(r"^(\w+) do ", r"\1 ", line) for line in would]
    only_was, only_would = _without(was, would), _without(would, was)
    return f"{next(iter(only_was), 'nothing')} | {next(iter(only_would), 'nothing')}"


def _without(lines: Sequence[str], others: Sequence[str]) -> list[str]:
    left = collections.Counter(others)
    found = []
    for line in lines:
        if left[line]:
            left[line] -= 1
        else:
            found.append(line)
    return found


# --- Reading what happened -------------------------------------------------------------------------


def records(
    *, name: str, since: datetime.datetime, limit: int, database: str = "default"
) -> Iterator[Record]:
    """What happened to the sagas of a name that have come to a rest, the newest first, with their children.

    Arguments:
        name: of the declaration.
        since: those that began then or later.
        limit: at most so many.
        database: the alias of the connection; it is only read.
    """
    rested = models.SagaInstance.objects.using(database).filter(
        name=name, parent_id=None, created_at__gte=since
    )
    ids = list(
        rested.exclude(state__in=[SagaState.RUNNING, SagaState.COMPENSATING])
        .order_by("-created_at")
        .values_list("pk", flat=True)[:limit]
    )
    for first in range(0, len(ids), BATCH):
        yield from _of(ids[first : first + BATCH], database)


def _of(ids: Sequence[uuid.UUID], database: str) -> Iterator[Record]:
    rows = models.SagaInstance.objects.using(database)
    sagas = rows.in_bulk(ids)
    family = dict(sagas)
    above = list(sagas)
    while above:
        children = list(rows.filter(parent_id__in=above))
        family |= {child.pk: child for child in children}
        above = [child.pk for child in children]
    steps = collections.defaultdict(list)
    for row in models.StepInstance.objects.using(database).filter(saga_id__in=family):
        steps[row.saga_id].append(row)
    root = {saga_id: _root(saga_id, family) for saga_id in family}
    events = collections.defaultdict(list)
    for event in models.Event.objects.using(database).filter(saga_id__in=family).order_by("id"):
        events[root[event.saga_id]].append(event)
    members = collections.defaultdict(list)
    for saga_id, of in root.items():
        members[of].append(family[saga_id])
    for saga_id in ids:
        if saga_id in sagas:
            yield _Reader(sagas[saga_id], members[saga_id], steps).read(events[saga_id])


def _root(saga_id: uuid.UUID, family: Mapping[uuid.UUID, models.SagaInstance]) -> uuid.UUID:
    while (parent := family[saga_id].parent_id) in family:
        assert parent is not None
        saga_id = parent
    return saga_id


class _Reader:
    """Tells what happened in a script's words, from the events of a saga and of its children."""

    def __init__(
        self,
        saga: models.SagaInstance,
        family: Sequence[models.SagaInstance],
        steps: Mapping[uuid.UUID, Sequence[models.StepInstance]],
    ) -> None:
        self.record = Record(saga=saga, facts=dict(saga.facts))
        self.family = {one.pk: one for one in family}
        self.places = {one.pk: self._place_of(one) for one in family}
        self.broods = {(one.parent_id, one.parent_step) for one in family}
        self.excused = {
            (which, self._name(row.saga_id, row.name)): count
            for one in family
            for row in steps[one.pk]
            for which, count in (("do", row.excused), ("undo", row.undo_excused))
        }
        self.cancelled: dict[uuid.UUID, int] = {}
        """By saga, how much had been answered when somebody cancelled it."""

        self.asking: set[str] = set()
        """The steps of which it is being asked whether their wait is over."""

        for place in self.places.values():
            step, _, number = place.rpartition(".")
            if step:
                self.record.branches[step] = max(self.record.branches.get(step, 0), int(number) + 1)

    def read(self, events: Sequence[models.Event]) -> Record:
        """What the events say, up to the saga's first rest."""
        for event in events:
            kind = event.kind
            if event.saga_id == self.record.saga.pk and kind in ENDS:
                if event.reason in (Clock.DEADLINE, Clock.UNDO_DEADLINE):
                    self._act("outlast", "")
                self.record.ended = ENDS[EventKind(kind)]
                self.record.lines.append(self.record.ended)
                return self.record
            if kind in BY_HAND:
                self.record.left_out = f"an operator took it on ({kind})"
                return self.record
            if kind == EventKind.CANCEL_REQUESTED:
                self.cancelled.setdefault(event.saga_id, self._answered_so_far())
            elif kind == EventKind.SAGA_COMPENSATING:
                self._turned(event)
            elif event.subject and not self._is_child(event):
                self._step(event)
        self.record.left_out = "its events do not say how it ended"
        return self.record

    def _turned(self, event: models.Event) -> None:
        """It turned round: somebody wanted it to, or a clock ran out; else a step's failure says so."""
        place = self.places[event.saga_id]
        if event.data.get("clock") == Clock.DEADLINE:
            self._act(f"outlast {place}".strip(), "")
        elif event.data.get("kind") in (FailureKind.CANCELLED, FailureKind.OPERATOR):
            before = self.cancelled.get(event.saga_id, self._answered_so_far())
            self._act(f"cancel {place}".strip(), "", during=before < self._answered_so_far())

    def _step(self, event: models.Event) -> None:
        name, kind, data = self._name(event.saga_id, event.subject), event.kind, event.data
        waited = event.from_state == StepState.WAITING or name in self.asking
        failure = WORDS.get(data.get("kind"), "break")
        if data.get("kind") == FailureKind.MISMATCH:
            self.record.left_out = "what happened was not what was asked (mismatch)"
        elif kind == EventKind.STEP_STARTED:
            self.asking.discard(name)
        elif kind == EventKind.STEP_ASKED:
            self.asking.add(name)
        elif kind == EventKind.STEP_DONE:
            self._came("tell", waited, name, "well")
        elif kind == EventKind.STEP_WAITING and not waited:
            self._answered("do", name, "begin")
        elif kind == EventKind.STEP_RETRY:
            self._answered("do", name, "flake" if data.get("clock") == Clock.LEASE else failure)
        elif kind == EventKind.STEP_UNKNOWN and not waited:
            self._answered("do", name, "drop")
        elif kind == EventKind.STEP_FAILED:
            surely_not = event.to_state == StepState.FAILED
            word = "outwait" if data.get("clock") == Clock.WAIT and not surely_not else "tell no"
            if data.get("clock") == Clock.BUDGET:
                failure = "fail" if surely_not else "break"
            elif failure == "flake" and not surely_not:
                failure = "drop"  # It did not happen this time, and may have before.
            self._came(word, waited, name, failure)
        elif kind == EventKind.UNDO_DONE:
            self._answered("undo", name, "well")
        elif kind == EventKind.UNDO_RETRY:
            self._answered("undo", name, failure if data.get("kind") else "drop")
        elif kind == EventKind.UNDO_FAILED:
            self._answered("undo", name, failure)
        if kind != EventKind.STEP_ASKED:
            self.asking.discard(name)

    def _answered(self, function: str, name: str, answer: str) -> None:
        call = (function, name)
        if answer in ("flake", "drop") and self.excused.get(call, 0):
            self.excused[call] -= 1  # An outage's failure is held against nobody, and changes nothing.
            return
        self.record.answers[call].append(answer)
        self.record.lines.append(str(scripts.Line(function, name, answer)))

    def _came(self, word: str, waited: bool, name: str, answer: str) -> None:
        """What became of an action: where it was waited for, that is somebody's act."""
        if waited:
            act, *more = word.split()
            self._act(" ".join([act, name, *more]), name)
        else:
            self._answered("do", name, answer)

    def _answered_so_far(self) -> int:
        return sum(map(len, self.record.answers.values()))

    def _act(self, line: str, step: str, *, during: bool = False) -> None:
        after = {call: len(given) for call, given in self.record.answers.items()}
        self.record.acts.append(Act(line=line, step=step, after=after, during=during))
        self.record.lines.append(line)

    def _name(self, saga_id: uuid.UUID, step: str) -> str:
        place = self.places[saga_id]
        return f"{place}.{step}" if place else step

    def _place_of(self, saga: models.SagaInstance) -> str:
        """How a script names a child, such as `deliver.0`; empty for the saga itself."""
        place = ""
        while saga.pk != self.record.saga.pk:
            place = f"{saga.parent_step}.{saga.parent_item}" + (f".{place}" if place else "")
            assert saga.parent_id is not None
            saga = self.family[saga.parent_id]
        return place

    def _is_child(self, event: models.Event) -> bool:
        declared = self._declared(event)
        return (event.saga_id, event.subject) in self.broods or isinstance(declared, definition.Child)

    def _declared(self, event: models.Event) -> definition.Step | None:
        declared = _as_begun(self.family[event.saga_id])
        return declared.step(event.subject) if declared and event.subject in declared.positions else None


def _as_begun(saga: models.SagaInstance) -> definition.Saga | None:
    """The declaration that it began with, if that is still declared as it was."""
    declared = [one for one in registry.versions(saga.name) if one.version == saga.version]
    return declared[0] if declared and declared[0].fingerprint == saga.fingerprint else None


# --- The command -----------------------------------------------------------------------------------


def add_arguments(functions: Any) -> None:
    """The command, for `manage.py saga`."""
    rehearsing = functions.add_parser(
        "rehearse",
        help="play the newest declaration with what happened to sagas of yesterday; writes nothing",
    )
    rehearsing.add_argument("--name", help="only of this declaration (all)")
    rehearsing.add_argument("--version", type=int, help="this version of it (the newest that is declared)")
    rehearsing.add_argument(
        "--since",
        type=_since,
        default="1d",
        help="those that began so long ago at most, or from a day on: 7d, 12h, 2024-01-31 (1d)",
    )
    rehearsing.add_argument(
        "--limit", type=int, default=1000, help="at most so many of each declaration, the newest first (1000)"
    )
    rehearsing.add_argument("--database", default="default", help="the alias to read from, a replica's say")


def run(options: Mapping[str, Any], *, write: Callable[[str], object]) -> None:
    """Rehearse, and tell what would end otherwise; then the exit code is 1.

    Raises:
        CommandError: no such saga is declared.
    """
    chosen = _chosen(options["name"], options["version"])
    rehearsed: list[Rehearsed] = []
    left_out: list[Record] = []
    database = options["database"]
    with transaction.atomic(using=database):
        with connections[database].cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
        for saga in chosen:
            for record in records(
                name=saga.name, since=options["since"], limit=options["limit"], database=database
            ):
                _check(record)
                if record.left_out:
                    left_out.append(record)
                else:
                    rehearsed.append(rehearse(record, saga))
    differ = [one for one in rehearsed if one.differs]
    for line in _table(differ):
        write(line)
    for record in left_out:
        write(f"Not rehearsed: {record.saga}  {record.saga.pk}: {record.left_out}.")
    by = ", ".join(map(str, chosen))
    write(f"{len(differ)} of {len(rehearsed)} sagas would end otherwise with {by}.")
    if assumed := collections.Counter(call for one in rehearsed for call in one.assumed):
        told = ", ".join(f"{call} ({count})" for call, count in sorted(assumed.items()))
        write(f"Taken to go well, because nobody had asked: {told}.")
    if differ:
        sys.exit(1)


def _chosen(name: str | None, version: int | None) -> list[definition.Saga]:
    children = {step.child.name for saga in registry.everything() for step in saga.children}
    newest = {saga.name: saga for saga in registry.everything()}
    if name is None:
        if version is not None:
            raise base.CommandError("Say with --name of which saga that is the version.")
        return [saga for saga in newest.values() if saga.name not in children]
    found = [saga for saga in registry.versions(name) if version in (None, saga.version)]
    if not found:
        raise base.CommandError(f"{name} is not declared in that version. Declared are: {', '.join(newest)}.")
    return found[-1:]


def _check(record: Record) -> None:
    """Leave out a saga whose end its record does not explain: its own declaration, too, must lead there."""
    declared = _as_begun(record.saga)
    if not record.left_out and declared is not None:
        again = rehearse(record, declared)
        if again.differs:
            record.left_out = (
                f"played with its own declaration it ends as {again.would_end}, and not as {record.ended}"
            )


def _table(differ: Sequence[Rehearsed]) -> Iterator[str]:
    if not differ:
        return
    rows = [("saga", "ended as", "would end as", "where they part: was | would be")]
    rows += [
        (
            f"{one.record.saga} v{one.record.saga.version}  {one.record.saga.pk}",
            one.record.ended,
            one.would_end,
            one.parts,
        )
        for one in differ
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for *cells, last in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last])


def _since(text: str) -> datetime.datetime:
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if found := re.fullmatch(r"(\d{1,6})([mhd])", text):
        return datetime.datetime.now(datetime.UTC) - datetime.timedelta(**{units[found[2]]: int(found[1])})
    try:
        return datetime.datetime.combine(datetime.date.fromisoformat(text), datetime.time(), datetime.UTC)
    except ValueError:
        raise argparse.ArgumentTypeError("7d, 12h, 90m, or a day such as 2024-01-31") from None
