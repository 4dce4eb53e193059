"""Every interleaving of a stage of three members, on the engine's own decisions and without a database.

The decisions are the engine's: `admit`, `claim`, `record`, the sweep's, the inbox's, the owner's cancel.
Each decides into a `UnitOfWork`; here its rows are in memory (`Rows`), and an interleaving is a path through
a graph whose nodes are what the rows, the workers and the provider's books say. Time is an adversary: what
has a timer may run out at any moment, in any order. So no more of a moment counts than whether it has come.

All of the graph is seen that so many faults lead to; without a bound on them it is too large. What cannot be
seen here is PostgreSQL: locks, and transactions that are rolled back. Those are for the simulator and the
races.
"""

import collections
import dataclasses
import datetime
import functools
import uuid

from django.db.models import base

from sagas import models
from sagas.declaration import registry
from sagas.declaration.states import Direction
from sagas.engine import dispatching, execution, inbox, operations, parallel, recording, sweeping
from sagas.engine.attempts import Attempt, Outcome, StepMessage, WorkerContext
from sagas.engine.kinds import OutcomeKind
from sagas.engine.store import UnitOfWork
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

ONCE = toys.Retry(on=[functions.Unavailable], attempts=1, first=toys.NO_TIME)
ONCE_MORE = dataclasses.replace(ONCE, attempts=2)

STAGE = toys.saga(
    "toy-explored",
    toys.local("a"),
    toys.at_once("all", toys.waits("w"), toys.remote("r", **toys.ASK, retry=ONCE_MORE), toys.local("l")),
    toys.local("z"),
    retry=ONCE,
    undo_retry=ONCE,
    on_completed=None,
    on_compensated=None,
    on_attention=None,
)
MEMBERS = ("w", "r", "l")

SAGA_ID = uuid.UUID(int=1)
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
LONG_AGO = NOW - 1000 * HOUR

LOST = functions.Unknown("nobody knows")
NO = functions.Refused("no")


class Violation(AssertionError):
    """A rule is broken: the path is the counterexample."""


# --- What a node is ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Book:
    """What the provider knows of a key."""

    made: bool = False
    unmade: bool = False
    closed: bool = False
    begun: bool = False


@dataclasses.dataclass(frozen=True)
class Call:
    """A function at work: what its worker knows."""

    step: str
    fence: int
    undo: bool
    doubtful: bool
    only_asks: bool


_SAGA_TIMES = ("wake_at", "dispatched_at", "deadline_at", "cancel_requested_at")
_STEP_TIMES = ("lease_until", "wait_until", "wake_at", "dispatched_at")


class World:
    """A node of the graph: rows, workers, and the books of the provider."""

    def __init__(self, faults):
        registry.add(STAGE)
        self.faults = faults
        """How many more may happen."""
        self.saga = _row(
            models.SagaInstance, id=SAGA_ID, name=STAGE.name, version=1, key="one", state="running",
            direction=1, position=0, epoch=1, facts={}, resumes=0, dispatches=1, deadline_at=NOW + HOUR,
            dispatched_at=NOW, wake_at=NOW + HOUR,
        )  # fmt: skip
        self.steps = [
            _row(
                models.StepInstance, id=number, saga_id=SAGA_ID, position=number, name=step.name,
                state="pending", attempts=0, undo_attempts=0, fence=0, excused=0, undo_excused=0,
            )
            for number, step in enumerate(STAGE.all_steps)
        ]  # fmt: skip
        self.books = {step.name: Book() for step in STAGE.all_steps}
        self.calls = frozenset()
        self.leases = frozenset()
        """Of attempts at actions: who may still record something, by step and fence."""
        self.late = False
        """Whether a late callback is still to be compensated."""
        self.events = []
        self.sent_forward = frozenset(step.name for step in self.steps)
        """Of which steps the message that is under way was sent on the way forward."""
        for step in self.steps:
            step.saga = self.saga

    def copy(self):
        """Another one, for a move to change."""
        other = object.__new__(World)
        other.saga = _copied(self.saga)
        other.steps = [_copied(step, saga=other.saga) for step in self.steps]
        other.books = dict(self.books)
        other.calls, other.late, other.events = self.calls, self.late, []
        other.leases = self.leases
        other.sent_forward, other.faults = self.sent_forward, self.faults
        return other

    def row(self, name):
        return self.steps[STAGE.positions[name]]

    def work(self, name=None):
        """The rows under their lock, at that step or where the saga is."""
        step = self.row(name) if name else self.steps[min(self.saga.position, len(self.steps) - 1)]
        return Rows(self, step)

    @property
    def ended(self):
        return self.saga.finished_at is not None

    def key(self):
        """What tells one node from another: of a moment, whether it has come; of a fence, whose it is."""
        saga = self.saga
        return (
            (
                saga.state,
                saga.direction,
                saga.position,
                saga.dispatches == 0,
                saga.wake_at is None,
                saga.dispatched_at is None,
                saga.cancel_requested_at is None,
                saga.deadline_at is None or saga.deadline_at > NOW,
                saga.in_line_for is None,
            ),
            tuple(
                (
                    step.state,
                    step.attempts,
                    step.undo_attempts,
                    step.facts is None,
                    step.is_member,
                    step.wake_at is None,
                    step.dispatched_at is None,
                    step.lease_until is None or step.lease_until > NOW,
                    step.wait_until is None or step.wait_until > NOW,
                )
                for step in self.steps
            ),
            tuple(self.books.values()),
            frozenset(
                (call.step, call.fence == self.row(call.step).fence, call.undo, call.doubtful, call.only_asks)
                for call in self.calls
            ),
            self.late,
            self.sent_forward,
            self.faults,
            frozenset(name for name, _ in self.leases),
        )

    def note_sent(self, before):
        """Which way the messages go that are under way now."""
        turned = {
            step.name
            for step, was in zip(self.steps, before.steps, strict=True)
            if self.saga.direction == -1 and (step.epoch != was.epoch or not step.is_member)
        }
        self.sent_forward -= turned

    def settle(self):
        """Only whether a moment has come counts: what lies ahead is an hour ahead, whatever it was."""
        for row, names in ((self.saga, _SAGA_TIMES), *((step, _STEP_TIMES) for step in self.steps)):
            for name in names:
                at = getattr(row, name)
                if at is not None and name not in ("dispatched_at", "cancel_requested_at"):
                    setattr(row, name, NOW + HOUR if at > NOW else NOW)
                elif at is not None:
                    setattr(row, name, NOW)


def _row(model, **fields):
    row = model(**fields)
    row._state = base.ModelState()
    row._state.adding = False
    return row


def _copied(row, **related):
    other = row.__class__.__new__(row.__class__)
    other.__dict__.update(row.__dict__)
    other._state = base.ModelState()
    other._state.adding = False
    other._state.fields_cache.update(related)
    return other


class Rows(UnitOfWork):
    """The engine's unit of work on rows in memory: what is decided is so at once, and nothing is sent.

    Which message is under way the rows say themselves (`dispatched_at`, and their epoch). Every circuit is
    closed, and no callback lies in the inbox.
    """

    def __init__(self, world, step):
        super().__init__(world.saga, step, NOW)
        self.world = world
        self.inbox_is_empty = True

    def members(self, stage):
        return [self.world.steps[position] for position in stage.positions]

    def below(self, position):
        return self.world.steps[:position][::-1]

    def admitted(self, queue, *, untried, take):
        return True

    def found_unavailable(self, queue, **what):
        return False

    def note(self, kind, *, subject="", from_state="", to_state="", **rest):
        self.world.events.append((str(kind), subject, str(from_state), str(to_state)))

    def commit(self):
        self._also = []


class Callback:
    """A stored callback that says that what `w` waits for has happened."""

    source, event_id, kind, mismatch, refused = "world", "1", "", "", None
    facts = {"settled": True}
    fate = None
    wake_at = None

    def save(self, **_):
        """It is kept in memory."""


# --- What may happen ---------------------------------------------------------------------------------


def moves(world):
    """Everything that may happen next: in words, what makes it so, and whether it is a fault.

    What a fault leads to by itself, such as the end of a dead worker's lease, is none.
    """
    if not world.ended:
        for step in world.steps:
            yield from _moves_of(world, step)
        if world.saga.wake_at is not None and world.saga.state != "needs_attention":
            yield "the saga's timer runs out", _sweep, world.saga.dispatched_at is not None
        if world.saga.in_line_for is not None:
            yield "its turn in the line comes", _take, False
        if world.saga.cancel_requested_at is None and world.saga.direction == 1:
            yield "it is cancelled", _cancel, True
            if world.saga.deadline_at > NOW:
                yield "its deadline passes", _outlast, True
    for call in world.calls:
        for words, effect, outcome, is_fault in _answers(world, call):
            move = functools.partial(_end_call, call=call, effect=effect, outcome=outcome)
            yield f"{'undo' if call.undo else 'do'} {call.step}: {words}", move, is_fault
    if world.books["w"].begun:
        yield "a callback tells that w is settled", _settle, False
    if world.late:
        yield "the late callback is compensated", _compensate_late, False


def _moves_of(world, step):
    named = functools.partial
    cursor = step if step.is_member else world.saga
    if cursor.dispatched_at is not None and (step.is_member or step.position == world.saga.position):
        yield f"the message of {step.name} comes", named(_deliver, name=step.name), False
    if step.is_member and step.wake_at is not None:
        is_lost = step.dispatched_at is not None and step.state not in parallel.AT_WORK
        yield f"the timer of {step.name} runs out", named(_wake, name=step.name), is_lost
    if step.lease_until is not None and step.lease_until > NOW:
        lives = any(call.step == step.name and call.fence == step.fence for call in world.calls)
        yield f"the lease of {step.name} ends", named(_end_lease, name=step.name), lives
    if step.wait_until is not None and step.wait_until > NOW and world.saga.direction == 1:
        yield f"the wait of {step.name} reaches its limit", named(_outwait, name=step.name), True


def _answers(world, call):
    """What may come of a call: in words, its effect, what its worker knows, and whether it is a fault."""
    book, remote = world.books[call.step], STAGE.step(call.step).remote
    if call.undo:
        yield "well", True, OutcomeKind.DONE, False
        yield "refused", False, OutcomeKind.REFUSED, True
        if remote:
            yield "its answer is lost", True, OutcomeKind.UNKNOWN, True
    elif call.doubtful and call.step == "r":
        # It is asked about first (U2); if it has not happened, it is done now.
        yield "asked", not book.made, OutcomeKind.DONE, False
    elif book.closed and not book.made and not book.begun:
        yield "refused by its tombstone", False, OutcomeKind.REFUSED, False
    else:
        yield "well", True, OutcomeKind.DONE, False
        if not book.made and not book.begun:
            yield "refused", False, OutcomeKind.REFUSED, True
        if remote:
            yield "its answer is lost", True, OutcomeKind.UNKNOWN, True
            yield "its request is lost", False, OutcomeKind.UNKNOWN, True
    yield "its worker is killed", False, None, True
    if remote:
        yield "its worker is killed when it is done", True, None, True


def _deliver(world, name):
    row = world.row(name)
    epoch = row.epoch if row.is_member else world.saga.epoch
    message = StepMessage(
        saga_id=SAGA_ID, epoch=epoch, step=name, context=WorkerContext(),
        direction=Direction.FORWARD if name in world.sent_forward else Direction.BACKWARD,
    )  # fmt: skip
    work = world.work(name)
    if execution.admit(work, message) is not None:
        return
    attempt = execution.claim(work, message)
    if attempt.claimed:
        _begin_call(world, attempt)
        return
    # A local step that comes alone: called and recorded under the lock.
    if attempt.undo:
        _take_back(world, name)
    else:
        _effect(world, name)
    execution._count(work, attempt)
    recording.record(work, attempt, Outcome(kind=OutcomeKind.DONE, facts={}))


def _begin_call(world, attempt):
    call = Call(attempt.step.name, attempt.fence, attempt.undo, attempt.doubtful, attempt.only_asks)
    if attempt.undo:
        at_work = sorted(name for name, _ in world.leases)
        _require(not at_work, f"O2: {call.step} is undone while the lease of {at_work} lives")
    else:
        world.leases |= {(call.step, call.fence)}
    world.calls |= {call}


def _end_call(world, call, effect, outcome):
    world.calls -= {call}
    name, declared = call.step, STAGE.step(call.step)
    work = world.work(name)
    attempt = _attempt(world, work, call)
    void = work.step.fence != call.fence or work.step.state not in parallel.AT_WORK
    if effect and (declared.remote or not void):
        # A local one that lost its fence is rolled back.
        if call.undo:
            _take_back(world, name)
        else:
            _effect(world, name)
    if outcome is None or void:
        return
    world.leases -= {(name, call.fence)}
    facts, error = None, None
    if outcome == OutcomeKind.DONE:
        facts = {} if call.undo else {"settled": world.books[name].made}
    else:
        error = NO if outcome == OutcomeKind.REFUSED else LOST
    work.set_step(lease_until=None)
    recording.record(work, attempt, Outcome(kind=outcome, facts=facts, error=error))


def _attempt(world, work, call):
    direction = Direction.BACKWARD if call.undo else Direction.FORWARD
    message = StepMessage(
        saga_id=SAGA_ID, epoch=0, step=call.step, direction=direction, context=WorkerContext()
    )
    return Attempt(
        message=message, declared=STAGE, step=STAGE.step(call.step), row=work.step, fence=call.fence,
        begun_at=NOW, claimed=True, doubtful=call.doubtful, only_asks=call.only_asks,
    )  # fmt: skip


def _effect(world, name):
    """The provider does it: once for a key, and never after its tombstone (E1, E5); `w` only begins."""
    book = world.books[name]
    if book.closed or book.made:
        return
    world.books[name] = dataclasses.replace(book, **{"begun" if name == "w" else "made": True})


def _take_back(world, name):
    """Content to find nothing (E4); what was begun may yet be settled, late."""
    book = world.books[name]
    world.books[name] = dataclasses.replace(book, closed=True, unmade=book.made)


def _wake(world, name):
    row = world.row(name)
    row.wake_at = NOW
    if row.dispatched_at is not None:
        row.dispatched_at = LONG_AGO  # The message is lost.
    sweeping._wake_member(world.work(name), {})


def _sweep(world):
    world.saga.wake_at = NOW
    sweeping._wake(world.work())


def _take(world):
    dispatching.dispatch(world.work())


def _end_lease(world, name):
    row = world.row(name)
    row.lease_until = NOW
    world.leases -= {(name, row.fence)}


def _outwait(world, name):
    world.row(name).wait_until = NOW


def _outlast(world):
    world.saga.deadline_at = NOW


def _cancel(world):
    operations.decide_cancel(world.work(), actor="customer", reason="changed my mind")


def _settle(world):
    world.books["w"] = dataclasses.replace(world.books["w"], begun=False, made=True)
    callback, row = Callback(), world.row("w")
    before = _frozen(world)
    inbox._act(world.work("w"), callback)
    _require(not world.ended or row.finished_at is None or _frozen(world) == before, "T3: a late callback")
    world.late = callback.fate == models.Signal.Fate.LATE


def _frozen(world):
    return world.saga.state, tuple(step.state for step in world.steps)


def _compensate_late(world):
    world.late = False
    _take_back(world, "w")


# --- What must hold ----------------------------------------------------------------------------------


def _require(holds, what):
    if not holds:
        raise Violation(what)


def check(world, before):
    """The rules that a single move can break, from the events that it wrote and the rows that it left."""
    was_back = before.saga.direction == -1
    for kind, subject, _, _ in world.events:
        step = subject and STAGE.step(subject)
        if kind in ("step.started", "step.asked"):
            _require(not was_back, f"O2: an attempt at {subject} on the way back")
        if kind in ("undo.started", "undo.done") and step.has_worker:
            _require(world.saga.direction == -1, f"O2: an undo of {subject} on the way forward")
            last = STAGE.stage_at(STAGE.positions[subject]).last
            for other in before.steps:
                if other.position > last:
                    _require(not other.begun or other.state == "undone", f"O1: {subject} before {other.name}")
            _require(
                not any(row.state == "running" for row in before.steps if kind == "undo.started"),
                f"O2: the undo of {subject} while an attempt is not recorded",
            )
    for name, book in world.books.items():
        _require(not book.unmade or book.made, f"E2: {name} was undone without having been done")
    if world.saga.state == "completed":
        _require(all(step.state == "done" for step in world.steps), "T5: completed without all steps")
    if world.saga.state == "compensated":
        left = [row.name for row in world.steps if row.begun and row.state != "undone"]
        _require(not left, f"T5: compensated, and {left} are not undone")
    if world.ended and not world.calls and not world.late and not world.books["w"].begun:
        undone = world.saga.state == "compensated"
        for name, book in world.books.items():
            _require(not undone or book.made == book.unmade, f"E2: compensated, and {name} was left")
            _require(undone or (book.made and not book.unmade), f"E2: completed, and {name} was not made")


def is_at_rest(world):
    """Whether nothing has to happen any more: it has ended, or a person was called."""
    return world.ended or world.saga.state == "needs_attention"


# --- The graph -----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Found:
    """What an exploration has seen."""

    nodes: int
    moves: int
    ends: collections.Counter


class Counterexample(AssertionError):
    """A path to where a rule is broken."""

    def __init__(self, what, path):
        lines = [f"{number:3}. {words}" for number, words in enumerate(path, 1)]
        super().__init__("\n".join([what, *lines]))


def explore(faults):
    """Go every way on which no more than so many faults lie.

    Raises:
        Counterexample: a rule is broken, with a timeline than which none is shorter.
    """
    first = World(faults)
    first.settle()
    came_from = {first.key(): None}
    leads_to = collections.defaultdict(set)
    queue, rests, made = collections.deque([first]), set(), 0
    ends = collections.Counter()
    while queue:
        world = queue.popleft()
        here = world.key()
        if is_at_rest(world):
            rests.add(here)
            ends[world.saga.state] += 1
        for words, move, is_fault in moves(world):
            if is_fault and not world.faults:
                continue
            made += 1
            other = world.copy()
            other.faults -= is_fault
            try:
                move(other)
                other.note_sent(world)
                check(other, world)
            except Exception as broken:
                path = [*_path(came_from, here), words]
                raise Counterexample(f"{type(broken).__name__}: {broken}", path) from broken
            other.settle()
            there = other.key()
            leads_to[there].add(here)
            if there not in came_from:
                came_from[there] = here, words
                queue.append(other)
    _require_that_all_come_to_rest(came_from, leads_to, rests)
    return Found(len(came_from), made, ends)


def _require_that_all_come_to_rest(came_from, leads_to, rests):
    """T1, T2: from wherever it is, there is a way to an end or to a person."""
    fine, queue = set(rests), collections.deque(rests)
    while queue:
        for before in leads_to[queue.popleft()] - fine:
            fine.add(before)
            queue.append(before)
    for node in came_from:
        if node not in fine:
            raise Counterexample("T2: from here it never comes to rest", _path(came_from, node))


def _path(came_from, node):
    words = []
    while came_from[node] is not None:
        node, word = came_from[node]
        words.append(word)
    return words[::-1]
