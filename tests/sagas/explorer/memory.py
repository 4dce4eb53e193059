"""The rows in memory: what a node of the graph is, and how the engine reads and writes it.

`in_use` has the engine find its rows here. Of a unit of work only the reading and the commit are replaced;
where the engine asks with SQL of its own, the question is answered here in Python, and a test on PostgreSQL
holds the two answers equal (tests/sagas/test_explorer.py).
"""

import collections
import contextlib
import dataclasses
import datetime
import functools
import json
import logging
import math
import re
import types
import typing
import uuid
from unittest import mock

from django.db import transaction
from django.db.models import base

from sagas import models
from sagas.declaration import phases, registry
from sagas.engine import children, circuits, inbox, parallel, parents, refusals, store, transport
from sagas.engine.children import Counted
from sagas.engine.store import UnitOfWork

ROOT = uuid.UUID(int=1)
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
SECOND = datetime.timedelta(seconds=1)
SOON = NOW + HOUR
LONG_AGO = NOW - 1000 * HOUR


class Violation(BaseException):
    """A rule is broken: the path is the counterexample. The engine would take an Exception for a bug."""


def require(holds, what):
    """Have a rule hold.

    Raises:
        Violation: it does not.
    """
    if not holds:
        raise Violation(what)


# --- What a node is ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Book:
    """What the provider knows of a key; of a local step, what is in our own database."""

    made: bool = False
    unmade: bool = False
    closed: bool = False
    """The tombstone: of its undo or, of a pivot, of its refusal, which holds for the key."""

    begun: bool = False
    """It will take effect, or be refused, later; a callback says so."""

    telling: str = ""
    """What a callback that is under way says: "settled" or "refused"."""


NOTHING = Book()


@dataclasses.dataclass(frozen=True)
class Call:
    """A function at work: what its worker knows."""

    saga: uuid.UUID
    step: str
    fence: int
    undo: bool
    doubtful: bool
    only_asks: bool


class Callback:
    """A stored callback, as a row of `Signal`."""

    wake_at = matched_at = compensated_at = attention_at = None
    attention = ""

    def __init__(self, **fields):
        self.mismatch, self.kind = "", ""
        self.__dict__.update(fields)

    def save(self, **_):
        """It is kept in memory."""

    @property
    def pk(self):
        return self.event_id


class World:
    """A node of the graph: rows, workers, callbacks, and the books of the provider."""

    def __init__(self, shape, faults):
        registry.add(shape.saga)
        self.shape = shape
        self.faults = faults
        """How many more may happen."""
        self.sagas, self.steps, self.books = {}, {}, {}
        self.calls = frozenset()
        self.leases = frozenset()
        """Of attempts at actions: who may still record something, by saga, step and fence."""
        self.signals = []
        self.looks = frozenset()
        """Who is about to have a saga look at the children of a step."""
        self.held = frozenset()
        """Whose rows another session holds during a look."""
        self.events = []
        self.sent_forward = frozenset()
        """Of which steps the message that is under way was sent on the way forward."""
        saga = shape.saga
        sent = int(saga.stages[0].is_plain)
        self.add(
            row(
                models.SagaInstance,
                id=ROOT,
                name=saga.name,
                version=1,
                key="one",
                state="running",
                direction=1,
                position=0,
                epoch=sent,
                facts=dict(shape.facts),
                resumes=0,
                dispatches=sent,
                deadline_at=NOW + HOUR,
                dispatched_at=NOW if sent else None,
                wake_at=NOW + HOUR,
            )
        )

    def add(self, saga):
        """Insert a saga's row and those of its steps."""
        first = 100 * len(self.sagas)
        self.sagas[saga.pk] = saga
        self.steps[saga.pk] = [
            row(
                models.StepInstance, id=first + number, saga_id=saga.pk, position=number, name=step.name,
                state="pending", attempts=0, undo_attempts=0, fence=0, excused=0, undo_excused=0,
            )
            for number, step in enumerate(saga.definition.all_steps)
        ]  # fmt: skip
        for step in self.steps[saga.pk]:
            step.saga = saga
            self.sent_forward |= {(saga.pk, step.name)}
        _have_steps(saga, self.steps[saga.pk])

    def copy(self):
        """Another one, for a move to change."""
        other = object.__new__(World)
        other.shape, other.faults = self.shape, self.faults
        other.sagas = {pk: _copied(saga) for pk, saga in self.sagas.items()}
        other.steps = {
            pk: [_copied(step, saga=other.sagas[pk]) for step in steps] for pk, steps in self.steps.items()
        }
        for pk, steps in other.steps.items():
            _have_steps(other.sagas[pk], steps)
        other.books = dict(self.books)
        other.calls, other.leases, other.looks = self.calls, self.leases, self.looks
        other.held = self.held
        other.signals = [Callback(**signal.__dict__) for signal in self.signals]
        other.sent_forward, other.events = self.sent_forward, []
        return other

    @functools.cached_property
    def phases(self):
        """Where its stages and its children stand; asked for when a move is over."""
        stages = {
            (pk, stage.first): phases.of_stage(stage, saga, [self.steps[pk][at] for at in stage.positions])
            for pk, saga in self.sagas.items()
            for stage in saga.definition.stages
            if stage.parallel is not None
        }
        found = {pk: one for pk, one in self.sagas.items() if one.parent_id is not None}
        return {
            "stage": stages,
            "child": {pk: phases.of_child(one, len(one.definition.all_steps)) for pk, one in found.items()},
        }

    @property
    def root(self):
        return self.sagas[ROOT]

    def row(self, saga_id, name):
        return self.steps[saga_id][self.sagas[saga_id].definition.positions[name]]

    def book(self, saga_id, name):
        return self.books.get((saga_id, name), NOTHING)

    def change(self, saga_id, name, **fields):
        self.books[saga_id, name] = dataclasses.replace(self.book(saga_id, name), **fields)

    def work(self, saga_id, name=None):
        """The rows under their lock, at that step or where the saga is."""
        steps = self.steps[saga_id]
        at = self.row(saga_id, name) if name else steps[min(self.sagas[saga_id].position, len(steps) - 1)]
        return Rows(self, at)

    def label(self, saga):
        """Which saga a line of the timeline is about, where there are several."""
        if saga.parent_id is not None:
            return f"child {saga.parent_item}: "
        return "parent: " if saga.definition.children else ""

    # --- What tells one node from another ----------------------------------------------------------

    def key(self):
        """Of a moment, whether it has come; of a fence, whose it is; of a count, whether it is spent.

        Children, and members of one kind, are told apart by nothing but how they stand.
        """
        kept = sorted(self._key_of(saga) for pk, saga in self.sagas.items() if pk != ROOT)
        return self._key_of(self.root), tuple(kept), self.faults

    def _key_of(self, saga):
        steps = self.steps[saga.pk]
        alike = self.shape.alike if saga.pk == ROOT else ()
        keys = [self._key_of_step(saga, step) for step in steps]
        if alike:
            places = [step.position for step in steps if step.name in alike]
            for place, key in zip(places, sorted(keys[place] for place in places), strict=True):
                keys[place] = key
        whose = (self.root.attention or {}).get("child") == str(saga.pk)
        return (
            str(saga.state),
            int(saga.direction),
            saga.position,
            (
                saga.epoch == 0, saga.dispatches == 0, saga.dispatches >= 2, saga.wake_at is None,
                saga.dispatched_at is None, saga.cancel_requested_at is None, _moment(saga.deadline_at),
                saga.in_line_for is None, saga.held_at is None, saga.closed_at is None,
                saga.tells_parent_at is None, whose, *self._key_as_child(saga),
            ),
            tuple(keys),
        )  # fmt: skip

    def _key_as_child(self, saga):
        """As what its parent counts it, and whether that looks for it among those still to be started."""
        if saga.parent_id is None:
            return "", False
        kept = self.row(saga.parent_id, saga.parent_step).standing
        return str(saga.counted_as or ""), kept is not None and saga.parent_item < kept["first"]

    def _key_of_step(self, saga, step):
        at = (saga.pk, step.name)
        seen = _seen_of(saga.name)[step.position]
        book = self.books.get(at, NOTHING)
        calls = [one for one in self.calls if one.step == step.name and one.saga == saga.pk]
        signals = [one for one in self.signals if one.step_key == step.key] if seen.has_callbacks else ()
        error = step.error and step.error["kind"] in ("refused", "mismatch")
        return (
            str(step.state), min(step.attempts, seen.attempts), min(step.undo_attempts, seen.undo_attempts),
            "" if step.facts is None else repr(step.facts),
            0 if error is None else 1 + bool(error),
            (
                step.epoch is None, step.wake_at is None, step.dispatched_at is None, not step.dispatches,
                step.standing is None,
                saga.attention is not None and saga.attention["step"] == step.name,
                at in self.sent_forward, at in self.looks, any(lease[:2] == at for lease in self.leases),
            ),
            _moment(step.lease_until), _moment(step.wait_until),
            self._order(saga, step) if seen.in_reverse else 0,
            (book.made, book.unmade, book.closed, book.begun, book.telling),
            self._key_of_calls(step, calls) if calls else (),
            tuple(sorted(
                (one.event_id, str(one.fate), one.compensated_at is None) for one in signals
            )) if signals else (),
        )  # fmt: skip

    def _key_of_calls(self, step, calls):
        kinds = [(one.fence == step.fence, one.undo, one.doubtful, one.only_asks) for one in calls]
        # Without a bound any number of workers may have lost their leases: of a kind one is as good as all.
        return tuple(sorted(set(kinds) if self.faults == math.inf else kinds))

    def _order(self, saga, step):
        """When it began, beside the others of its stage."""
        if step.started_at is None:
            return 0
        began = [one.started_at for one in self.steps[saga.pk] if one.started_at is not None]
        return sorted(began).index(step.started_at) + 1

    def settle(self, before=None):
        """After a move: only whether a moment has come counts, and in which order steps began."""
        self.held = frozenset()
        for pk, saga in self.sagas.items():
            steps = self.steps[pk]
            _settle(saga, _SAGA_TIMES, ("dispatched_at", "tells_parent_at"))
            for step in steps:
                _settle(step, _STEP_TIMES, ("dispatched_at",))
                if step.lease_until is not None and step.lease_until <= NOW:
                    self.leases = frozenset(one for one in self.leases if one[:2] != (pk, step.name))
            began = [step for step in steps if step.started_at is not None]
            for number, step in enumerate(sorted(began, key=lambda step: step.started_at)):
                step.started_at = _BEGAN[number]
            if before is not None and pk in before.sagas:
                self._note_sent(saga, before)

    def _note_sent(self, saga, before):
        """Which way the messages go that are under way now."""
        if saga.direction == -1:
            self.sent_forward -= {
                (saga.pk, step.name)
                for step, was in zip(self.steps[saga.pk], before.steps[saga.pk], strict=True)
                if step.epoch != was.epoch or not step.is_member
            }


class _Seen(typing.NamedTuple):
    """What of a step's declaration decides what of its row counts."""

    attempts: int
    undo_attempts: int
    has_callbacks: bool
    in_reverse: bool


@functools.cache
def _seen_of(name):
    declared, found = registry.get(name, 1), []
    for step in declared.all_steps:
        parallel = declared.stage_at(declared.positions[step.name]).parallel
        budgets = (declared.retry_of(step, undo=undo).attempts for undo in (False, True))
        in_reverse = parallel is not None and parallel.undo == "reverse"
        found.append(_Seen(*budgets, step.wait is not None and step.has_worker, in_reverse))
    return found


_BEGAN = [LONG_AGO + number * SECOND for number in range(10)]
_SAGA_TIMES = ("wake_at", "deadline_at", "dispatched_at", "tells_parent_at")
_STEP_TIMES = ("lease_until", "wait_until", "wake_at", "dispatched_at")


def _settle(one, names, of_past):
    fields = one.__dict__
    for name in names:
        at = fields[name]
        if at is not None and at is not NOW and at is not SOON:
            fields[name] = SOON if at > NOW and name not in of_past else NOW


def _moment(at):
    return 0 if at is None else 1 + (at > NOW)


def row(model, **fields):
    """A row that is in the database, as far as its model knows."""
    found = model(**fields)
    found._state = base.ModelState()
    found._state.adding = False
    return found


def _have_steps(saga, steps):
    """A refusal may ask about the steps beside one: `reading.have_fetched` without querysets."""
    saga._prefetched_objects_cache = {"steps": Query(steps)}


def _copied(found, **related):
    other = found.__class__.__new__(found.__class__)
    other.__dict__.update(found.__dict__)
    other.__dict__.pop("_prefetched_objects_cache", None)  # It is of the other one's rows.
    other._state = base.ModelState()
    other._state.adding = False
    other._state.fields_cache.update(related)
    return other


# --- How the engine reads and writes it -----------------------------------------------------------------


class Rows(UnitOfWork):
    """The engine's unit of work on rows in memory: what is decided is so at once, and nothing is sent.

    Which message is under way the rows say themselves (`dispatched_at`, and their epoch). Every circuit is
    closed.
    """

    def __init__(self, world, step):
        super().__init__(step.saga, step, NOW)
        self.world = world

    def members(self, stage):
        return [self.world.steps[self.saga.pk][position] for position in stage.positions]

    def below(self, position):
        return [step for step in reversed(self.world.steps[self.saga.pk]) if step.position < position]

    def admitted(self, queue, *, untried, take):
        return True

    def found_unavailable(self, queue, **what):
        return False

    def note(self, kind, *, subject="", from_state="", to_state="", **rest):
        super().note(kind, subject=subject)
        self.world.events.append((self.saga.pk, str(kind), subject, str(from_state), str(to_state)))

    def count(self, metric, *labels):
        """Sums decide nothing, and are not looked at here."""

    def commit(self):
        more, told, unneeded = self._more, self._told, self._unneeded
        self._more, self._told, self._unneeded = [], [], []
        self._hooks, self._notices, self._dispatches, self._alerts, self._also = [], [], [], [], []
        self._saga_set, self._step_set, self._events = {}, {}, []
        self._aside = {pk: (found, found.state, {}) for pk, (found, _, _) in self._aside.items()}
        for signal in self.world.signals:
            if signal.step_key in unneeded and signal.fate == models.Signal.Fate.STORED:
                signal.fate = models.Signal.Fate.NOTED
        for write in more:
            write()
        for tell in told:
            is_tell = isinstance(tell, children._Tell)
            self.world.looks |= {(tell.parent_id, tell.step) if is_tell else tell.args}


class Query:
    """Of a queryset, what the engine uses where it asks for children and callbacks."""

    def __init__(self, rows):
        self._rows = list(rows)

    def filter(self, **wanted):
        return Query(one for one in self._rows if all(_has(one, *each) for each in wanted.items()))

    def select_for_update(self, **_):
        return self

    def only(self, *_):
        return self

    def order_by(self, name):
        return Query(sorted(self._rows, key=lambda one: getattr(one, name)))

    def values_list(self, name, *, flat):
        return [getattr(one, name) for one in self._rows]

    def update(self, **fields):
        fields = {
            name: NOW if isinstance(value, models.ClockTimestamp) else value for name, value in fields.items()
        }
        for one in self._rows:
            one.__dict__.update(fields)

    def first(self):
        return self._rows[0] if self._rows else None

    def exists(self):
        return bool(self._rows)

    def __iter__(self):
        return iter(self._rows)


_LOOKUPS = {
    "": lambda value, wanted: value == wanted or (isinstance(value, uuid.UUID) and str(value) == wanted),
    "lt": lambda value, wanted: value < wanted,
    "isnull": lambda value, wanted: (value is None) == wanted,
}


def _has(one, lookup, wanted):
    name, _, how = lookup.partition("__")
    return _LOOKUPS[how](getattr(one, name), wanted)


class _Table:
    """Of a manager, the same: the rows of the world that is in use."""

    def __init__(self, rows):
        self._rows = rows

    def filter(self, **wanted):
        return Query(self._rows()).filter(**wanted)

    def select_for_update(self, **_):
        return Query(self._rows())


def _stored(**told):
    """The inbox's: the callback as it is stored, and whether it is new."""
    for one in _using.world.signals:
        if (one.source, one.event_id) == (told["source"], told["event_id"]):
            return one, False
    fresh = Callback(id=told["event_id"], fate=models.Signal.Fate.STORED, **told)
    _using.world.signals.append(fresh)
    return fresh, True


class _Using:
    world: World


_using = _Using()


def use(world):
    """Have the engine read and write that world from now on."""
    _using.world = world


@contextlib.contextmanager
def in_use():
    """Have the engine's questions answered from memory, and nothing sent, for as long."""
    logger = logging.getLogger("sagas")
    quiet, logger.disabled = logger.disabled, True
    tables = (
        (models.SagaInstance, lambda: _using.world.sagas.values()),
        (models.Signal, lambda: _using.world.signals),
    )
    replaced = [
        *((model, "objects", _Table(rows)) for model, rows in tables),
        (models, "database_now", lambda: NOW),
        (store, "lock", lambda saga_id, step=None, **_: _using.world.work(saga_id, step)),
        (store, "lock_all", lambda saga_ids, _: [_using.world.work(saga_id) for saga_id in saga_ids]),
        (store, "begin", _begin),
        (children, "is_first", lambda *_: True),  # Of two looks one comes after the other.
        (children, "is_told", _look_once_more),
        (children, "connection", types.SimpleNamespace(cursor=_Cursor)),
        (parents, "connection", types.SimpleNamespace(cursor=_Cursor)),
        (parents, "_could_not_look", _raise),
        (inbox, "_owner_failed", _raise),
        (inbox, "_stored", _stored),
        (transaction, "atomic", lambda **_: contextlib.nullcontext()),
        (transaction, "on_commit", _ignore),
        (transport, "after_commit", _ignore),
        (circuits, "let_through", _ignore),
        (refusals, "_", str),  # Nobody reads what is refused.
    ]
    try:
        with contextlib.ExitStack() as stack:
            for target, name, instead in replaced:
                stack.enter_context(mock.patch.object(target, name, instead))
            yield
    finally:
        logger.disabled = quiet


def _ignore(*_, **__):
    """Nothing is sent, and nobody is called."""


def _raise(*_):
    raise  # What the engine has caught and would tell a person of.


# --- Questions that the engine asks with SQL of its own ---------------------------------------------------


def _children(parent_id, step):
    found = [one for one in _using.world.sagas.values() if one.parent_id == parent_id]
    return [one for one in found if one.parent_step == step]


def _begin(sagas, *, grace, line_look, actor):
    for saga in sagas:
        fresh = row(
            models.SagaInstance, id=_id_of_child(saga), name=saga.name, version=1,
            key=saga.key, state="running", direction=1, position=0, epoch=0, facts=saga.facts, resumes=0,
            dispatches=0, deadline_at=NOW + HOUR, wake_at=NOW + HOUR, parent_id=saga.parent_id,
            parent_step=saga.parent_step, parent_item=saga.parent_item, counted_as=saga.counted_as,
        )  # fmt: skip
        _using.world.add(fresh)


def _id_of_child(saga):
    return uuid.UUID(int=16 * saga.parent_id.int + 1 + saga.parent_item)


def _look_once_more(parent_id, step):
    """Who has looked looks once more, but others may come before that: it is a move of its own."""
    if is_told(parent_id, step):
        _using.world.looks |= {(parent_id, step)}
    return False


def is_told(parent_id, step):
    """`children.is_told`, of rows in memory."""
    return any(
        one.tells_parent_at is not None and one.pk not in _using.world.held
        for one in _children(parent_id, step)
    )


def counted(one, steps):
    """As what a child is to be counted that has so many steps: `children._COUNTED`, of a row in memory."""
    if one.closed_at is not None:
        return Counted.ASIDE
    if one.state == "compensated":
        return Counted.UNDONE
    if one.state == "completed" or (one.state == "running" and one.position >= steps):
        return Counted.DONE
    called = one.state == "needs_attention"
    if one.direction < 0 or one.cancel_requested_at is not None:
        return Counted.BACK_ATTENTION if called else Counted.BACK
    if called:
        return Counted.ATTENTION
    return Counted.UNSTARTED if one.epoch == 0 and one.in_line_for is None else Counted.GOING


def _hear(about, *, anew=False):
    told = collections.Counter()
    first = {}
    for one in _children(about["parent"], about["step"]):
        is_now = counted(one, about["steps"])
        wanted = one.tells_parent_at is not None or (anew and one.counted_as != is_now)
        if wanted and one.pk not in _using.world.held:
            told[one.counted_as, is_now] += 1
            first[one.counted_as, is_now] = min(
                one.parent_item, first.get((one.counted_as, is_now), math.inf)
            )
            one.counted_as, one.tells_parent_at = is_now, None
    return [(*of, count, first[of]) for of, count in told.items()]


def _count(about):
    found = _children(about["parent"], about["step"])
    items = collections.defaultdict(list)
    for one in found:
        items[one.counted_as].append(one.parent_item)
    return [(name, len(numbers), min(numbers)) for name, numbers in items.items()]


def _next(parameters):
    parent_id, step, first, room = parameters
    wait = [
        one
        for one in _children(parent_id, step)
        if one.parent_item >= first and one.epoch == 0 and one.state == "running"
        if one.closed_at is None and one.in_line_for is None
    ]
    wait.sort(key=lambda one: one.parent_item)
    return [(one.pk, one.parent_item, one.counted_as) for one in wait[:room]]


def _complete(parameters):
    parent_ids, step, steps = parameters
    ended = [
        one
        for parent_id in parent_ids
        for one in _children(parent_id, step)
        if one.state == "running" and one.position >= steps
    ]
    for one in ended:
        one.state, one.finished_at = "completed", NOW
        one.wake_at = one.dispatched_at = one.deadline_at = one.held_at = one.tells_parent_at = None
        _using.world.events.append((one.pk, "saga.completed", "", "running", "completed"))
    return [(one.pk, one.key, json.dumps(one.facts)) for one in sorted(ended, key=lambda one: one.pk)]


def _send(parameters):
    *_, chosen = parameters
    for pk in chosen:
        one = _using.world.sagas[pk]
        one.epoch, one.dispatches, one.dispatched_at, one.counted_as = 1, 1, NOW, Counted.GOING
        one.wake_at = one.deadline_at = SOON
    return [(pk, 1) for pk in chosen]


def _line_up(parameters):
    queue, *_, chosen = parameters
    for pk in chosen:
        one = _using.world.sagas[pk]
        one.in_line_for, one.counted_as = queue, Counted.GOING
        one.wake_at = one.deadline_at = SOON
    return []


_WANTED = re.compile(
    re.escape(parents._WANTED)
    .replace(re.escape("{which}"), "(?P<which>.*)")
    .replace(re.escape("{batch}"), "(?P<batch>.*)")
    .replace(re.escape("{locked}"), "(?P<locked>.*)")
)
_WHICH = {
    "true": lambda one, *_: True,
    "epoch = 0": lambda one, *_: one.epoch == 0,
    "position < %s": lambda one, steps: one.position < steps,
}


def _wanted(parameters, *, which, batch, locked):
    parent_id, step, *more = parameters
    found = [
        one
        for one in _children(parent_id, step)
        if one.direction == 1 and one.finished_at is None and one.closed_at is None
        if one.cancel_requested_at is None and _WHICH[which](one, *more)
        if not (locked and one.pk in _using.world.held)
    ]
    found.sort(key=lambda one: one.parent_item)
    return [(one.pk,) for one in found[: int(batch)]]


_ANSWERS = {
    "_HEAR": (children._HEAR, _hear),
    "_HEAR_ALL": (children._HEAR_ALL, functools.partial(_hear, anew=True)),
    "_COUNT": (children._COUNT, _count),
    "_NEXT": (children._NEXT, _next),
    "_COMPLETE": (children._COMPLETE, _complete),
    "_SEND": (parents._SEND, _send),
    "_LINE_UP": (parents._LINE_UP, _line_up),
}
_BY_STATEMENT = dict(_ANSWERS.values())


def name_of(statement):
    """How the engine calls a statement; none, where it is not answered here."""
    found = [name for name, (known, _) in _ANSWERS.items() if known == statement]
    return found[0] if found else "_WANTED" if _WANTED.fullmatch(statement) else ""


def answer_to(statement):
    """What answers a statement in memory, given its parameters; None, where it is not answered here."""
    if statement in _BY_STATEMENT:
        return _BY_STATEMENT[statement]
    wanted = _WANTED.fullmatch(statement)
    return wanted and functools.partial(_wanted, **wanted.groupdict())


class _Cursor:
    """The statements of a parent that counts, starts, turns and completes its children."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def execute(self, statement, parameters):
        self._rows = answer_to(statement)(parameters)

    def fetchall(self):
        return self._rows


def is_at_work(step):
    """Whether a worker holds the lease of an attempt at the step."""
    return step.state in parallel.AT_WORK and step.lease_until is not None and step.lease_until > NOW
