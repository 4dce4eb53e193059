"""What may happen next: messages, timers, answers of the provider, callbacks, owners, operators, people.

Each move has a price. What goes well, and what a fault leads to by itself, such as the end of a dead worker's
lease, is free; so is what a person does for a saga that needs attention. Any other fault, and any other
intervention, costs one of as many as a run may have.
"""

import dataclasses
import datetime
import functools
from collections.abc import Callable

from sagas import models
from sagas.declaration.definition import Approval
from sagas.declaration.states import Direction, SagaState
from sagas.engine import (
    approvals,
    dispatching,
    execution,
    inbox,
    operations,
    parallel,
    parents,
    recording,
    refusals,
    sweeping,
    transitions,
)
from sagas.engine.attempts import Attempt, Outcome, StepMessage, WorkerContext
from sagas.engine.kinds import OutcomeKind
from sagas.engine.seen import Seen
from tests.sagas.explorer import rules
from tests.sagas.explorer.memory import HOUR, LONG_AGO, NOW, Call, require
from tests.sagas.sample_app import functions

LOST = functions.Unknown("nobody knows")
NO = functions.Refused("no")
LATER = functions.Unavailable("later")
WHO = {"actor": "operator", "reason": "the explorer says so"}
PERSONS = ("Alice", "Bob")

FREE, FAULT = 0, 1


@dataclasses.dataclass(frozen=True)
class Move:
    """Something that may happen."""

    words: str
    make: Callable
    price: int = FREE
    asks: bool = False
    """Whether a person asks for it, who may be told that it is not possible."""


def moves(world):
    """Everything that may happen next."""
    for saga in world.sagas.values():
        if saga.finished_at is None:
            label = world.label(saga)
            for move in _of_saga(world, saga):
                yield dataclasses.replace(move, words=label + move.words)
            for move in _of_people(world, saga):
                yield dataclasses.replace(move, words=label + move.words, asks=True)
    for call in world.calls:
        label = world.label(world.sagas[call.saga])
        if _has_yet_to_begin(world, call):
            begins = functools.partial(_begin_to_wait, saga_id=call.saga, name=call.step)
            yield Move(f"{label}do {call.step}: the provider begins it, and has not answered yet", begins)
        for words, effect, outcome, price in _answers(world, call):
            make = functools.partial(_end_call, call=call, effect=effect, outcome=outcome)
            yield Move(f"{label}{'undo' if call.undo else 'do'} {call.step}: {words}", make, price)
    yield from _of_parents(world)
    yield from _of_callbacks(world)


# --- A saga, its messages and its clocks -------------------------------------------------------------


def _of_saga(world, saga):
    named = functools.partial
    pk = saga.pk
    stopped = saga.held_at is not None or saga.closed_at is not None
    working = saga.state in dispatching.WORKING
    for step in world.steps[pk]:
        cursor = step if step.is_member else saga
        if _may_come(saga, step, cursor):
            for said in world.shape.says.get(step.name, ({},)):
                comes = named(_deliver, saga_id=pk, name=step.name, said=said)
                words = "".join(f", and says {fact}: {value}" for fact, value in said.items())
                yield Move(f"the message of {step.name} comes{words}", comes)
            declared = saga.definition.all_steps[step.position]
            if not declared.remote and not step.is_member and saga.dispatches < execution.CRASH_SUSPICION:
                refused = named(_deliver, saga_id=pk, name=step.name, outcome=OutcomeKind.REFUSED)
                yield Move(f"the message of {step.name} comes, and it is refused", refused, FAULT)
        if step.is_member and step.wake_at is not None and working and not stopped:
            is_lost = step.dispatched_at is not None and step.state not in parallel.AT_WORK
            yield Move(
                f"the timer of {step.name} runs out", named(_wake, saga_id=pk, name=step.name), is_lost
            )
        if step.lease_until is not None and step.lease_until > NOW:
            lives = any((one.saga, one.step, one.fence) == (pk, step.name, step.fence) for one in world.calls)
            yield Move(f"the lease of {step.name} ends", named(_end_lease, saga_id=pk, name=step.name), lives)
        if step.wait_until is not None and step.wait_until > NOW and saga.direction == 1:
            expected = world.book(pk, step.name).begun or isinstance(
                saga.definition.all_steps[step.position], Approval
            )
            ends = named(_outwait, saga_id=pk, name=step.name)
            yield Move(f"the wait of {step.name} reaches its limit", ends, int(expected))
    if saga.wake_at is not None and not stopped:
        at_hand = world.steps[pk][min(saga.position, len(world.steps[pk]) - 1)]
        loses = saga.dispatched_at is not None and at_hand.state not in parallel.AT_WORK
        yield Move("the saga's timer runs out", named(_sweep, saga_id=pk), int(loses))
    if saga.in_line_for is not None and not stopped:
        yield Move("its turn in the line comes", named(_take, saga_id=pk))
    # A deadline for undoing is far longer than a lease.
    may_pass = saga.direction == 1 or not any(lease[0] == pk for lease in world.leases)
    if may_pass and saga.deadline_at is not None and saga.deadline_at > NOW:
        yield Move("its deadline passes", named(_outlast, saga_id=pk), FAULT)


def _may_come(saga, step, cursor):
    """Whether a message of the step is under way."""
    at_hand = step.is_member or step.position == saga.position
    expected = saga.state in dispatching.WORKING and saga.closed_at is None
    return at_hand and expected and cursor.dispatched_at is not None


def _deliver(world, saga_id, name, outcome=OutcomeKind.DONE, said=None):
    saga, step = world.sagas[saga_id], world.row(saga_id, name)
    forward = (saga_id, name) in world.sent_forward
    message = StepMessage(
        saga_id=saga_id, epoch=step.epoch if step.is_member else saga.epoch, step=name,
        context=WorkerContext(), direction=Direction.FORWARD if forward else Direction.BACKWARD,
    )  # fmt: skip
    work = world.work(saga_id, name)
    if execution.admit(work, message) is not None:
        return
    require(saga.held_at is None, f"{name} is attempted, and its saga is held")
    may_turn = saga.direction == 1 and not transitions.past_pivot(saga, step)
    late = may_turn and saga.deadline_at is not None and saga.deadline_at <= NOW
    require(not late, f"T2: an attempt at {name} after its deadline")
    attempt = execution.claim(work, message)
    if attempt.claimed:
        _begin_call(world, attempt)
        return
    # A local step that comes alone: called and recorded under the lock.
    if outcome == OutcomeKind.DONE:
        _do(world, attempt)
        execution._count(work, attempt)
        recording.record(work, attempt, Outcome(kind=outcome, facts=said or {}))
    else:
        execution._count(work, attempt)
        recording.record(work, attempt, Outcome(kind=outcome, error=NO))


def _wake(world, saga_id, name):
    step = world.row(saga_id, name)
    step.wake_at = NOW
    if step.dispatched_at is not None:
        step.dispatched_at = LONG_AGO  # The message is lost.
    sweeping._wake_member(world.work(saga_id, name), {})


def _sweep(world, saga_id):
    world.sagas[saga_id].wake_at = NOW
    sweeping._wake(world.work(saga_id))


def _take(world, saga_id):
    dispatching.dispatch(world.work(saga_id))


def _end_lease(world, saga_id, name):
    world.row(saga_id, name).lease_until = NOW


def _outwait(world, saga_id, name):
    world.row(saga_id, name).wait_until = NOW


def _outlast(world, saga_id):
    world.sagas[saga_id].deadline_at = NOW


# --- The provider ---------------------------------------------------------------------------------------


def _begin_call(world, attempt):
    saga_id, name = attempt.row.saga_id, attempt.step.name
    rules.check_claim(world, attempt)
    if not attempt.undo:
        world.leases |= {(saga_id, name, attempt.fence)}
    world.calls |= {Call(saga_id, name, attempt.fence, attempt.undo, attempt.doubtful, attempt.only_asks)}


def _answers(world, call):
    """What may come of a call, as `calls.call` has it: its effect, what its worker knows, and the price."""
    book, step = world.book(call.saga, call.step), world.sagas[call.saga].definition.step(call.step)
    asks = not call.undo and step.ask is not None and (call.doubtful or call.only_asks)
    if asks and book.made:
        yield "asked, it has happened", False, OutcomeKind.DONE, FREE
    elif not call.undo and book.closed and not book.made and not book.begun:
        yield "refused by its tombstone", False, OutcomeKind.REFUSED, FREE
    else:
        yield "well", True, OutcomeKind.DONE, FREE
        if call.undo or not (book.made or book.begun):
            yield "refused", False, OutcomeKind.REFUSED, FAULT
    if call.undo or call.doubtful or call.only_asks or not (book.made or book.begun):
        # Of what it has begun a provider does not say that it did not happen.
        yield "not now", False, OutcomeKind.UNKNOWN if call.doubtful else OutcomeKind.TRANSIENT, FAULT
    yield "its worker is killed", False, None, FAULT
    if step.remote:
        yield "its answer is lost", True, OutcomeKind.UNKNOWN, FAULT
        yield "its request is lost", False, OutcomeKind.UNKNOWN, FAULT
        yield "its worker is killed when it is done", True, None, FAULT


def _has_yet_to_begin(world, call):
    """Whether a callback may come before the answer to the call that it is about."""
    book = world.book(call.saga, call.step)
    waits = world.sagas[call.saga].definition.step(call.step).wait is not None
    return waits and not call.undo and not (book.begun or book.made or book.closed or book.telling)


def _begin_to_wait(world, saga_id, name):
    world.change(saga_id, name, begun=True)


def _end_call(world, call, effect, outcome):
    world.calls -= {call}
    name, declared = call.step, world.sagas[call.saga].definition
    work = world.work(call.saga, name)
    attempt = Attempt(
        message=StepMessage(
            saga_id=call.saga, epoch=0, step=name, context=WorkerContext(),
            direction=Direction.BACKWARD if call.undo else Direction.FORWARD,
        ),
        declared=declared, step=declared.step(name), row=work.step, fence=call.fence, begun_at=NOW,
        waited=datetime.timedelta(0), claimed=True, doubtful=call.doubtful, only_asks=call.only_asks,
    )  # fmt: skip
    void = execution._is_void(work, attempt)
    if outcome == OutcomeKind.REFUSED and attempt.step.kind == "pivot":
        world.change(call.saga, name, closed=True)
    if effect and (attempt.step.remote or not void):
        _do(world, attempt)  # A local one that lost its fence is rolled back.
    if outcome is None or void:
        return
    world.leases -= {(call.saga, name, call.fence)}
    facts, error = None, None
    if outcome == OutcomeKind.DONE:
        # What a first answer says of a wait is that it has begun.
        asked = call.doubtful or call.only_asks
        facts = {} if call.undo else {"settled": asked and world.book(call.saga, name).made}
    else:
        error = {OutcomeKind.REFUSED: NO, OutcomeKind.TRANSIENT: LATER}.get(outcome, LOST)
    work.set_step(lease_until=None)
    doubtful = call.doubtful and outcome != OutcomeKind.DONE
    recording.record(work, attempt, Outcome(kind=outcome, facts=facts, error=error, doubtful=doubtful))


def _do(world, attempt):
    if attempt.undo:
        take_back(world, attempt.row, local=not attempt.step.remote)
    else:
        _take_effect(world, attempt.row, attempt.step)


def _take_effect(world, step, declared):
    """The provider does it: once for a key, and never after its tombstone (E1, E5); a wait only begins."""
    at = (step.saga_id, step.name)
    book = world.book(*at)
    if not declared.remote:
        require(not book.closed, f"E3: {step.name} is done after its undo")
        require(not book.made, f"E1: {step.name} is done twice")
    if book.closed or book.made:
        return
    world.change(*at, **{"begun" if declared.wait else "made": True})


def take_back(world, step, *, local=False):
    """Content to find nothing (E4); what was begun may yet be settled, late."""
    at = (step.saga_id, step.name)
    book = world.book(*at)
    require(not (local and book.closed), f"E2: {step.name} is undone twice")
    world.change(*at, closed=True, unmade=book.made)


# --- Callbacks ------------------------------------------------------------------------------------------


def _of_callbacks(world):
    named = functools.partial
    for (saga_id, name), book in world.books.items():
        label = world.label(world.sagas[saga_id])
        at = {"saga_id": saga_id, "name": name}
        if book.begun:
            yield Move(f"{label}the provider settles {name}", named(_settle, **at, what="settled"))
            yield Move(f"{label}the provider gives {name} up", named(_settle, **at, what="refused"), FAULT)
        if book.telling:
            said = f"{label}the callback of {name} comes ({book.telling})"
            yield Move(said, named(_call_back, **at))
            yield Move(f"{said}, and will come again", named(_call_back, **at, again=True), FAULT)
            yield Move(f"{said}, and another will", named(_call_back, **at, other=True), FAULT)
            if not book.closed:
                # Of what is settled after its undo nothing but the callback tells: it is sent until it comes.
                yield Move(f"{label}the callback of {name} is lost", named(_lose, **at), FAULT)
    for number, signal in enumerate(world.signals):
        if signal.fate == models.Signal.Fate.LATE and signal.compensated_at is None:
            yield Move("the late callback is compensated", named(_compensate_late, number=number))


def _settle(world, saga_id, name, what):
    world.change(saga_id, name, begun=False, made=what == "settled", telling=what)
    if what == "refused" and world.sagas[saga_id].definition.step(name).kind == "pivot":
        world.change(saga_id, name, closed=True)


def _call_back(world, saga_id, name, again=False, other=False):
    telling = world.book(saga_id, name).telling
    said, _, number = telling.partition("-")
    following = telling if again else f"{said}-again" if other else ""
    world.change(saga_id, name, telling=following)
    key = world.row(saga_id, name).key
    refused = {"refused": "it will not be done"} if said == "refused" else {"facts": {"settled": True}}
    inbox.receive(source="world", event_id=f"{name}-{said}-{number}", key=key, **refused)


def _lose(world, saga_id, name):
    world.change(saga_id, name, telling="")


def _compensate_late(world, number):
    signal = world.signals[number]
    signal.compensated_at, signal.wake_at = NOW, None
    row = next(row for rows in world.steps.values() for row in rows if row.key == signal.step_key)
    take_back(world, row)


# --- Parents --------------------------------------------------------------------------------------------


def _of_parents(world):
    named = functools.partial
    for saga_id, step in world.looks:
        label = world.label(world.sagas[saga_id])
        at = {"saga_id": saga_id, "name": step}
        yield Move(f"{label}it looks at the children of {step}", named(_look, **at))
        yield Move(f"{label}who was to have it look at {step} is killed", named(_do_not_look, **at), FAULT)
    tell = [saga for saga in world.sagas.values() if saga.tells_parent_at is not None]
    for saga_id, step in {(saga.parent_id, saga.parent_step) for saga in tell} - world.looks:
        label = world.label(world.sagas[saga_id])
        yield Move(f"{label}the sweep has it look at {step}", named(_look, saga_id=saga_id, name=step))
    for saga in tell:
        if (saga.parent_id, saga.parent_step) in world.looks:
            label, held = world.label(world.sagas[saga.parent_id]), f"another holds child {saga.parent_item}"
            looks = named(_look, saga_id=saga.parent_id, name=saga.parent_step, held=frozenset({saga.pk}))
            yield Move(f"{label}it looks at the children of {saga.parent_step}, and {held}", looks, FAULT)


def _look(world, saga_id, name, held=frozenset()):
    world.looks -= {(saga_id, name)}
    world.held = held
    parents.take_up(saga_id, name)


def _do_not_look(world, saga_id, name):
    world.looks -= {(saga_id, name)}


# --- People ---------------------------------------------------------------------------------------------


def _of_people(world, saga):
    named = functools.partial
    pk = saga.pk
    if saga.closed_at is not None:
        return
    if saga.parent_id is None and saga.cancel_requested_at is None and saga.direction == 1:
        yield Move("its owner cancels it", named(_cancel, saga_id=pk), FAULT)
    steps = world.steps[pk]
    stage = saga.definition.stage_at(min(saga.position, len(steps) - 1))
    called = saga.state == SagaState.NEEDS_ATTENTION
    for number, position in enumerate(stage.positions):
        step = steps[position]
        # Of what nothing takes back they say nothing while a request, or what has begun, may come to it.
        knows = saga.definition.all_steps[position].undoable or not (
            world.book(pk, step.name).begun
            or any((call.saga, call.step) == (pk, step.name) for call in world.calls)
        )
        for what in _OF_STEPS:
            if (knows or what != "resolve") and not getattr(refusals, what)(saga, step, saga.definition, NOW):
                make = named(_operate, saga_id=pk, name=step.name, what=what)
                words = f"an operator has {step.name} {_PAST[what]}"
                yield Move(words, make, FREE if called else FAULT)
        for what in _OF_SAGAS if number == 0 else ():
            if not getattr(refusals, what)(saga, step, saga.definition, NOW):
                free = what == "release" or (called and what != "hold")
                make = named(_operate, saga_id=pk, name=step.name, what=what)
                yield Move(f"an operator has it {_PAST[what]}", make, FREE if free else FAULT)
        if not refusals.answer(saga, step, saga.definition, NOW):
            for person in PERSONS:
                if person not in [one["actor"] for one in (step.facts or {}).get(approvals.APPROVALS, ())]:
                    answers = named(_answer, saga_id=pk, name=step.name, person=person)
                    yield Move(f"{person} approves {step.name}", answers)
                    break  # Who comes first does not matter.
            yield Move(f"a person refuses {step.name}", named(_refuse, saga_id=pk, name=step.name), FAULT)


_OF_STEPS = ("retry", "resume", "ask", "resolve", "skip")
_OF_SAGAS = ("compensate", "hold", "release", "extend", "close")
_PAST = {
    "retry": "tried again", "resume": "resumed", "ask": "asked about", "resolve": "settled, as it is",
    "skip": "left out", "compensate": "undone", "hold": "held", "release": "released",
    "extend": "given more time", "close": "put aside for good",
}  # fmt: skip


def _operate(world, saga_id, name, what):
    """An operator, who looked just now, and says what is true."""
    step = world.row(saga_id, name)
    seen, more = Seen.of(step.saga, step), {}
    if what == "resolve":
        book = world.book(saga_id, name)
        more["happened"] = book.made if step.saga.direction == 1 else book.closed
    if what == "extend":
        more["by"] = HOUR
    getattr(operations, what)(saga_id, seen=seen, **more, **WHO)


def _cancel(world, saga_id):
    operations.cancel(saga_id, actor="customer", reason="changed my mind")


def _answer(world, saga_id, name, person):
    operations.approve(saga_id, name, actor=person)


def _refuse(world, saga_id, name):
    operations.refuse(saga_id, name, actor=PERSONS[0], reason="no")


# --- What comes too late --------------------------------------------------------------------------------


def strays(world):
    """What may still come, and must change nothing: messages of before, and all to a saga that is over."""
    named = functools.partial
    for pk, saga in world.sagas.items():
        label = world.label(saga)
        for step in world.steps[pk]:
            for direction, epoch in _messages_of_before(world, saga, step):
                comes = named(_deliver_stray, saga_id=pk, name=step.name, direction=direction, epoch=epoch)
                yield Move(f"{label}a message of {step.name} comes ({direction.name.lower()})", comes)
        if saga.finished_at is None and saga.closed_at is None:
            continue
        yield Move(f"{label}its owner cancels it", named(_cancel, saga_id=pk))
        for what in _PAST:
            step = world.steps[pk][-1]
            make = named(_operate, saga_id=pk, name=step.name, what=what)
            yield Move(f"{label}an operator has it {_PAST[what]}", make)
        if saga.parent_id is not None:
            yield Move(f"{label}its parent looks at it", named(_look_again, saga_id=pk))


def _messages_of_before(world, saga, step):
    """Messages of a step that come late or once more: all that there can be, but the one under way.

    Every older epoch is as good as any other. One of a member's own epoch went one way, and no other.
    """
    cursor = step if step.is_member else saga
    epoch = cursor.epoch or 0
    way = Direction.FORWARD if (saga.pk, step.name) in world.sent_forward else Direction.BACKWARD
    under_way = (way, epoch) if _may_come(saga, step, cursor) else None
    ways = [way] if step.is_member else Direction
    every = [*((one, epoch) for one in ways), *((one, epoch - 1) for one in Direction)]
    return [one for one in every if one != under_way]


def _deliver_stray(world, saga_id, name, direction, epoch):
    message = StepMessage(
        saga_id=saga_id, epoch=epoch, step=name, direction=direction, context=WorkerContext()
    )
    admitted = execution.admit(world.work(saga_id, name), message) is None
    require(not admitted, f"D3, T3: {name} is attempted by a message of before")


def _look_again(world, saga_id):
    saga = world.sagas[saga_id]
    if world.sagas[saga.parent_id].finished_at is not None:
        parents.take_up(saga.parent_id, saga.parent_step)
