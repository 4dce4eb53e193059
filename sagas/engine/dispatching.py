"""When a saga is sent on: its next message, the pause before it, the circuit or the line that it waits for.

A step that is done at once with others has its own message, pause and circuit, on its own row; any other has
those of its saga's row. `UnitOfWork.cursor` is the one or the other.
"""

import datetime
import itertools
from collections.abc import Iterator, Sequence

from sagas import conf, models
from sagas.declaration import definition
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import children, circuits, parallel, sums, transport
from sagas.engine.kinds import Next
from sagas.engine.store import NOW, After, UnitOfWork

WINDOW = 8
"""Steps sent as one chain. A chain's messages carry all that is left of it, so a long one would grow
them quadratically, and past 2 KB; the last step of a window sends the next one, which costs no
message more."""

LONGEST_GRACE = datetime.timedelta(minutes=10)
"""However often a saga was redispatched in vain, it is looked at again after this long."""

PARKED_LOOK = datetime.timedelta(hours=1)
"""A saga that waits for a circuit is woken when it closes. If it is not, the sweep looks after so long."""

LINE_LOOK = datetime.timedelta(hours=1)
"""A saga that stands in a line is sent when its turn comes. If it is not, the sweep looks after so long."""

STAGE_LOOK = datetime.timedelta(hours=1)
"""Steps that are done at once each have a timer. Should none of them, the sweep looks after so long."""

WORKING = {SagaState.RUNNING, SagaState.COMPENSATING}


# --- Messages and pauses --------------------------------------------------------------------------


def grace(dispatches: int = 1) -> datetime.timedelta:
    """How long a message may be under way before the sweep asks after it: doubles with each in vain."""
    doubled: datetime.timedelta = conf.grace() * 2.0 ** min(max(dispatches - 1, 0), 16)
    return min(doubled, LONGEST_GRACE)


def dispatch_of(saga: models.SagaInstance, step: models.StepInstance | None = None) -> transport.Dispatch:
    """The next steps of the saga in its direction, at most a window of them; a member of a stage alone.

    `step` is the one that was at hand: if it is to be tried again, the dispatch says how often it was.
    """
    declared = saga.definition
    at_hand = step is not None and (step.is_member or step.position == saga.position)
    tried = _tried(saga, step) if step is not None and at_hand else 0
    if step is not None and step.epoch is not None:
        return _to(saga, step.epoch, (_message(declared.all_steps[step.position]),), tried, member=True)
    return _to(saga, saga.epoch, _window(declared, saga.direction, saga.position), tried)


def _to(
    saga: models.SagaInstance,
    epoch: int,
    sent: tuple[transport.Message, ...],
    tried: int,
    *,
    member: bool = False,
) -> transport.Dispatch:
    return transport.Dispatch(
        saga_id=saga.pk,
        epoch=epoch,
        name=saga.name,
        direction=Direction(saga.direction),
        messages=sent,
        inline=saga.definition.inline,
        member=member,
        tried=tried,
    )


def _window(declared: definition.Saga, direction: int, position: int) -> tuple[transport.Message, ...]:
    """The steps from that position on in that direction, at most a window of them.

    It ends before a stage at whose beginning there is more to do than to send its message.
    """
    steps: Iterator[definition.Step]
    if direction == Direction.FORWARD:
        behind = itertools.takewhile(
            lambda step: declared.stage_at(declared.positions[step.name]).is_plain,
            declared.all_steps[position + 1 :],
        )
        steps = itertools.chain([declared.all_steps[position]], behind)
    else:
        alone = itertools.takewhile(
            lambda step: declared.stage_at(declared.positions[step.name]).is_undone_by_message,
            reversed(declared.all_steps[: position + 1]),
        )
        steps = (step for step in alone if step.undo)
    return tuple(_message(step) for step in itertools.islice(steps, WINDOW))


def _message(step: definition.Step) -> transport.Message:
    return transport.Message(step=step.name, queue=step.queue, remote=step.remote)


def dispatch(work: UnitOfWork) -> None:
    """Have the saga sent on its way again, after the commit: at a stage, all of its steps that are due."""
    for onward in redispatch(work):
        work.send(onward)


def dispatch_at_hand(work: UnitOfWork) -> None:
    """The same for the step at hand alone where others of its stage are on their way."""
    if work.step.is_member and work.saga.dispatches:
        onward = redispatch_step(work) if parallel.is_wanted(work) else []
    else:
        onward = redispatch(work)
    for one in onward:
        work.send(one)


def follow(work: UnitOfWork, after: Next) -> None:
    """Have sent on its way what is next, where no worker has the saga in its hands."""
    if work.onward is not None:
        work.send(work.onward)
        work.onward = None
    elif after != Next.STOP or _stands_still(work):
        dispatch(work)


def _stands_still(work: UnitOfWork) -> bool:
    """Whether the steps of a stage wait to be sent, since a person was called for one of them."""
    saga = work.saga
    return saga.state in WORKING and work.stage.parallel is not None and saga.dispatches == 0


def redispatch(work: UnitOfWork) -> list[transport.Dispatch]:
    """Raise the epochs, so that every earlier message is void; what is to be sent, or carried on with.

    A saga that has ended, or needs attention, is left alone. One that an open circuit would turn away is
    parked instead.
    """
    if work.saga.state not in WORKING or children.waits_for_parent(work.saga):
        return []
    if not_entered(work):
        work.set(wake_at=NOW)
        return []
    if work.stage.parallel is not None:
        return _redispatch_members(work)
    if work.step.position == work.saga.position:
        return redispatch_step(work)
    # At hand is a step of the stage that the saga has just left.
    with work.at(work.members(work.stage)[0]):
        return redispatch_step(work)


def redispatch_step(work: UnitOfWork) -> list[transport.Dispatch]:
    """The same for the step at hand alone: it is one, or one that is parked."""
    if not work.declared_step.has_worker:
        _look_at_children(work)
        return []
    if at_hand(work) and not admitted(work):
        park(work)
        return []
    unpark(work)
    cursor = work.cursor
    dispatches = (cursor.dispatches or 0) + 1
    if dispatches > 1:
        work.also(sums.count(sums.REDISPATCHES, work.saga.name, work.declared_step.queue))
    work.set_cursor(epoch=(cursor.epoch or 0) + 1, dispatches=dispatches, dispatched_at=NOW)
    look_within(work, grace(dispatches))
    return [dispatch_of(work.saga, work.step)]


def _look_at_children(work: UnitOfWork) -> None:
    """No message leads to a step without a worker: its children are looked at, or people are asked anyway."""
    if not isinstance(work.declared_step, definition.Child):
        return
    if work.forward:
        children.look(work)
    else:
        children.begin_undo(work)


def _redispatch_members(work: UnitOfWork) -> list[transport.Dispatch]:
    """Those of the stage's steps that are due; while the stage drains, none is."""
    if parallel.is_draining(work):
        return []
    found: list[transport.Dispatch] = []
    for row in parallel.due(work):
        with work.at(row):
            found += redispatch_step(work)
    look_after_stage(work)
    return found


def send_members(work: UnitOfWork, rows: Sequence[models.StepInstance]) -> Next:
    """Have steps of the saga's stage sent on their way for the first time in its direction.

    Returns:
        What the chain is to do next: the first of them is left to the worker at hand (`work.onward`).
    """
    for row in rows:
        with work.at(row):
            if not work.declared_step.has_worker:
                _look_at_children(work)
                continue
            work.set_step(epoch=(row.epoch or 0) + 1, dispatches=1, dispatched_at=NOW, wake_at=After(grace()))
            onward = dispatch_of(work.saga, row)
        if work.onward is None:
            work.onward = onward
        else:
            work.send(onward)
    look_after_stage(work)
    return Next.CONTINUE if work.onward is not None else Next.STOP


def look_after_stage(work: UnitOfWork) -> None:
    """While a saga is at steps that are done at once its row has no message, and looks after the deadline."""
    work.set(dispatched_at=None, dispatches=1, wake_at=no_later_than_deadline(work, STAGE_LOOK))


def not_entered(work: UnitOfWork) -> bool:
    """Whether the saga has not begun, and its first stage is one that the sweep has to enter."""
    return work.saga.epoch == 0 and (not work.stage.is_plain or work.saga.parent_id is not None)


def at_hand(work: UnitOfWork) -> bool:
    """Whether the step is what the saga is at."""
    if work.step.is_member:
        return work.step.position in work.stage.positions
    return work.step.position == work.saga.position


def line_up(work: UnitOfWork) -> None:
    """Have the saga sent on as `dispatch` does, but when its turn comes in the line of its step's queue.

    What the sweep finds due goes this way: there may be thousands, and live messages must not wait behind
    them. Older messages are void only then, so one that was merely late may still be carried out.
    """
    saga = work.saga
    if saga.state not in WORKING:
        return
    if not work.stage.is_sent_alone:
        # There is no line for the steps of a stage: the sweep sends no more than a batch of them at a time.
        dispatch_at_hand(work)
        return
    if at_hand(work) and not admitted(work):
        park(work)
        return
    unpark(work)
    work.set(in_line_for=queue_of(saga), wake_at=no_later_than_deadline(work, LINE_LOOK))


def look_within(work: UnitOfWork, delay: datetime.timedelta) -> None:
    """Have the sweep look again after so long at the latest: a message or an attempt is under way.

    Where it will sooner anyway that stays: the sweep knows what has gone on meanwhile, and a row
    whose `wake_at` stays is written without touching an index (HOT).
    """
    _leave_line(work)
    wake_at = work.cursor.wake_at
    if wake_at is None or not work.now < wake_at <= work.now + delay:
        work.set_cursor(wake_at=no_later_than_deadline(work, delay))


def wake_after(work: UnitOfWork, delay: datetime.timedelta) -> None:
    """No message is under way: have the sweep look again after so long, or at the deadline."""
    unpark(work)
    work.set_cursor(wake_at=no_later_than_deadline(work, delay), dispatched_at=None, dispatches=0)


def look_after_saga(work: UnitOfWork, delay: datetime.timedelta) -> None:
    """The same for the saga's own message, whatever step is at hand."""
    wake_at = work.saga.wake_at
    if wake_at is None or not work.now < wake_at <= work.now + delay:
        work.set(wake_at=no_later_than_deadline(work, delay))


def no_later_than_deadline(work: UnitOfWork, delay: datetime.timedelta) -> After:
    """So long from now, or at the deadline where that comes first."""
    deadline = work.saga.deadline_at
    if deadline is None:
        return After(delay)
    return After(max(min(delay, deadline - work.now), datetime.timedelta(0)))


# --- Circuits -------------------------------------------------------------------------------------


def admitted(work: UnitOfWork, *, take: bool = False) -> bool:
    """Whether the service of the step at hand lets this saga through now; a local step has none.

    Arguments:
        take: whether the attempt is made at once.
    """
    declared = work.declared_step
    cannot_ask = work.step.state == StepState.WAITING and declared.ask is None
    if not declared.remote or cannot_ask:
        return True
    untried = _tried(work.saga, work.step) == 0
    return work.admitted(declared.queue, untried=untried, take=take)


def park(work: UnitOfWork) -> None:
    """Have the saga wait for the open circuit of its step's service: no message, no timer, no attempt.

    It is woken when the circuit closes. Clocks go on: the deadline, the limit of a wait and the time
    that all attempts may take.
    """
    saga, step, declared = work.saga, work.step, work.declared_step
    ends = [step.wait_until] if step.state == StepState.WAITING else []
    if work.forward and step.started_at is not None and declared.budget is not None and not ends:
        ends.append(step.started_at + declared.budget)
    look = min([PARKED_LOOK, *(end - work.now for end in ends if end is not None and end > work.now)])
    _leave_line(work)
    work.set_cursor(
        parked_for=declared.queue,
        parked_rank=min(_tried(saga, step), circuits.ANY_RANK),
        wake_at=no_later_than_deadline(work, look),
        dispatched_at=None,
        dispatches=0,
    )


def unpark(work: UnitOfWork) -> None:
    """It waits for no circuit and stands in no line any more."""
    _leave_line(work)
    if work.cursor.parked_for is not None:
        work.set_cursor(parked_for=None)


def _leave_line(work: UnitOfWork) -> None:
    if work.saga.in_line_for is not None:
        work.set(in_line_for=None)


def _tried(saga: models.SagaInstance, step: models.StepInstance) -> int:
    return step.attempts if saga.direction == Direction.FORWARD else step.undo_attempts


def queue_of(saga: models.SagaInstance) -> str:
    """The queue of the step at the saga's position."""
    steps = saga.definition.all_steps
    return steps[min(saga.position, len(steps) - 1)].queue
