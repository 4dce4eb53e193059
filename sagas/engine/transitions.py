"""What a saga may do next: go on, end, compensate, call a person. Each only decides, into a `UnitOfWork`.

Forwards and backwards are one algorithm with a sign: `states.Direction`.
"""

import datetime
import random
from collections.abc import Sequence
from typing import Any

from sagas import conf, errors, models
from sagas.declaration import definition, registry
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import circuits, failures, messages, transport
from sagas.engine.failures import Failure
from sagas.engine.kinds import Clock, EventKind, FailureKind, Next
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

MOST_RESUMES = 1000
"""No more are counted: the pause has long been the longest."""

WORKING = {SagaState.RUNNING, SagaState.COMPENSATING}

AT_WORK = {StepState.RUNNING, StepState.UNDOING}

FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD


# --- Messages and pauses --------------------------------------------------------------------------


def grace(dispatches: int = 1) -> datetime.timedelta:
    """How long a message may be under way before the sweep asks after it: doubles with each in vain."""
    doubled: datetime.timedelta = conf.grace() * 2.0 ** min(dispatches - 1, 16)
    return min(doubled, LONGEST_GRACE)


def dispatch_of(saga: models.SagaInstance, step: models.StepInstance | None = None) -> transport.Dispatch:
    """The next steps of the saga in its direction, at most a window of them.

    `step` is the one that was at hand: if it is to be tried again, the dispatch says how often it was.
    """
    declared = saga.definition
    return transport.Dispatch(
        saga_id=saga.pk,
        epoch=saga.epoch,
        name=saga.name,
        direction=Direction(saga.direction),
        messages=_window(declared, saga.direction, saga.position),
        inline=declared.inline,
        tried=_tried(saga, step) if step is not None and step.position == saga.position else 0,
    )


def _window(declared: definition.Saga, direction: int, position: int) -> tuple[transport.Message, ...]:
    """The steps from that position on in that direction, at most a window of them."""
    if direction == FORWARD:
        steps = list(declared.steps[position:])
    else:
        steps = [step for step in reversed(declared.steps[: position + 1]) if step.undo]
    return tuple(
        transport.Message(step=step.name, queue=step.queue, remote=step.remote) for step in steps[:WINDOW]
    )


def dispatch(work: UnitOfWork) -> None:
    """Have the saga sent on its way again, after the commit."""
    if onward := redispatch(work):
        work.send(onward)


def redispatch(work: UnitOfWork) -> transport.Dispatch | None:
    """Raise the epoch, so that every earlier message is void; what is to be sent, or carried on with.

    A saga that has ended, or needs attention, is left alone. One that an open circuit would turn away is
    parked instead.
    """
    saga = work.saga
    if saga.state not in WORKING:
        return None
    if work.step.position == saga.position and not admitted(work):
        park(work)
        return None
    _unpark(work)
    dispatches = saga.dispatches + 1
    work.set(epoch=saga.epoch + 1, dispatches=dispatches, dispatched_at=NOW)
    look_within(work, grace(dispatches))
    return dispatch_of(saga, work.step)


def line_up(work: UnitOfWork) -> None:
    """Have the saga sent on as `dispatch` does, but when its turn comes in the line of its step's queue.

    What the sweep finds due goes this way: there may be thousands, and live messages must not wait behind
    them. Older messages are void only then, so one that was merely late may still be carried out.
    """
    saga = work.saga
    if saga.state not in WORKING:
        return
    if work.step.position == saga.position and not admitted(work):
        park(work)
        return
    _unpark(work)
    work.set(in_line_for=queue_of(saga), wake_at=_no_later_than_deadline(work, LINE_LOOK))


def look_within(work: UnitOfWork, delay: datetime.timedelta) -> None:
    """Have the sweep look again after so long at the latest: a message or an attempt is under way.

    Where it will sooner anyway that stays: the sweep knows what has gone on meanwhile, and a row
    whose `wake_at` stays is written without touching an index (HOT).
    """
    _leave_line(work)
    wake_at = work.saga.wake_at
    if wake_at is None or not work.now < wake_at <= work.now + delay:
        work.set(wake_at=_no_later_than_deadline(work, delay))


def wake_after(work: UnitOfWork, delay: datetime.timedelta) -> None:
    """No message is under way: have the sweep look again after so long, or at the deadline."""
    _unpark(work)
    work.set(wake_at=_no_later_than_deadline(work, delay), dispatched_at=None, dispatches=0)


def _no_later_than_deadline(work: UnitOfWork, delay: datetime.timedelta) -> After:
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
    # What was read with the lock holds for an attempt that is made at once, and for nothing later.
    known = work.open_circuits if take else None
    return circuits.admits(declared.queue, work.saga.pk, untried=untried, take=take, known=known)


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
    work.set(
        parked_for=declared.queue,
        parked_rank=min(_tried(saga, step), circuits.ANY_RANK),
        wake_at=_no_later_than_deadline(work, look),
        dispatched_at=None,
        dispatches=0,
    )


def _unpark(work: UnitOfWork) -> None:
    _leave_line(work)
    if work.saga.parked_for is not None:
        work.set(parked_for=None)


def _leave_line(work: UnitOfWork) -> None:
    if work.saga.in_line_for is not None:
        work.set(in_line_for=None)


def _tried(saga: models.SagaInstance, step: models.StepInstance) -> int:
    return step.attempts if saga.direction == FORWARD else step.undo_attempts


# --- Forwards -------------------------------------------------------------------------------------


def finish_step(work: UnitOfWork, facts: dict[str, Any], **event: Any) -> None:
    """The action is done: its facts are kept on its row, and its outputs go to later steps."""
    declared = work.declared_step
    work.transition_step(StepState.DONE, EventKind.STEP_DONE, attempt=work.step.attempts, **event)
    work.set_step(finished_at=NOW, wait_until=None, facts=facts, error=None)
    if declared.outputs or declared.secrets:
        kept = _without(work.saga.facts, declared.secrets)
        work.set(facts={**kept, **{name: facts.get(name) for name in declared.outputs}})


def advance(work: UnitOfWork) -> Next:
    """The step is done, or undone: the next one is due, or the saga ends."""
    _unpark(work)
    saga = work.saga
    if saga.resumes:
        work.set(resumes=0)
    position = work.step.position + 1 if work.forward else next_to_undo(work, below=work.step.position)
    if position is None:
        _finish(work, SagaState.COMPENSATED)
    elif position >= len(work.declared.steps):
        work.set(position=position)
        _finish(work, SagaState.COMPLETED)
    else:
        work.set(position=position, dispatched_at=NOW, dispatches=1)
        look_within(work, grace())
    return Next.CONTINUE


def fail(
    work: UnitOfWork,
    failure: Failure,
    *,
    unknown: bool = False,
    provable: bool = False,
    owners: bool = False,
    **event: Any,
) -> Next:
    """The step has failed: the saga compensates, or calls a person where it no longer can (P1, P4).

    Arguments:
        work: the saga, at the step.
        failure: why.
        unknown: it may have happened.
        provable: it surely did not, so that even a pivot leaves both ways open.
        owners: the last step went well, but the owner's `on_completed` met a bug, and all was rolled back.
            That is no reason to undo an order that was delivered: it is done again when the hook is mended.
        event: what the events say beside it.
    """
    kind = work.declared_step.kind
    # What cannot be undone, and is not proven to have failed, may have happened: there is no way back
    # from it (P1), and it is asked about before it is tried again (U2).
    doubtful = unknown or (work.declared_step.remote if owners else kind != "compensatable" and not provable)
    to = StepState.UNKNOWN if doubtful else StepState.FAILED
    kept = failure.as_json()
    work.set_step(error=kept, wait_until=None, finished_at=NOW)
    work.transition_step(to, EventKind.STEP_FAILED, attempt=work.step.attempts, data=kept, **event)
    if not owners and (kind == "compensatable" or (kind == "pivot" and provable)):
        start_compensation(work, failure, **event)
        return Next.COMPENSATE
    keep_first_failure(work, failure)
    why = messages.OWNER_FAILED if owners else messages.PAST_UNDOING
    require_attention(
        work,
        why=why % {"step": work.step.name, "error": failure.error, "message": failure.message},
        advice=messages.SEE_TO_THE_HOOK if owners else messages.SEE_TO_THE_CAUSE,
        resume=failure.kind != FailureKind.REFUSED,
    )
    return Next.STOP


def stop_at_mismatch(work: UnitOfWork, failure: Failure, **event: Any) -> Next:
    """Something happened, and it is not what was asked: a person is called, and nothing goes on before.

    It is no refusal, for undoing has something to take back, and no unknown outcome, for asking again
    gives the same answer. If the saga is not wanted any more, it compensates all the same: its undo takes
    back what was really done.
    """
    kept = failure.as_json()
    work.set_step(error=kept, wait_until=None)
    work.transition_step(
        StepState.UNKNOWN, EventKind.STEP_UNKNOWN, attempt=work.step.attempts, data=kept, **event
    )
    if compensate_if_cancelled(work):
        return Next.COMPENSATE
    keep_first_failure(work, failure)
    require_attention(
        work,
        why=messages.MISMATCH % {"step": work.step.name, "message": failure.message},
        advice=messages.SETTLE_MISMATCH,
        resume=False,
    )
    return Next.STOP


def mark_unknown(work: UnitOfWork, failure: dict[str, Any]) -> None:
    """The worker vanished with the step: a remote action is unknown (U1), a local one was rolled back."""
    attempts = work.step.attempts
    if work.declared_step.remote:
        work.transition_step(StepState.UNKNOWN, EventKind.STEP_UNKNOWN, attempt=attempts, data=failure)
    else:
        work.transition_step(StepState.PENDING, EventKind.STEP_RETRY, attempt=attempts, data=failure)


# --- Backwards ------------------------------------------------------------------------------------


def start_compensation(work: UnitOfWork, failure: Failure, **event: Any) -> None:
    """Turn the saga round: everything begun is undone, the last begun first (O1).

    1. A remote step whose lease ran out may have happened: it is unknown, and is undone too (U3).
    2. The first failure is kept (A2).
    3. The saga compensates from its last begun step; if none was begun it ends at once.
    """
    if work.step.state == StepState.RUNNING:
        mark_unknown(work, {"clock": Clock.LEASE})
        work.set_step(lease_until=None)
    keep_first_failure(work, failure)
    work.transition(SagaState.COMPENSATING, EventKind.SAGA_COMPENSATING, data=failure.as_json(), **event)
    _unpark(work)
    work.set(
        direction=BACKWARD,
        attention=None,
        dispatches=0,
        dispatched_at=None,
        deadline_at=After(work.declared.undo_deadline),
        wake_at=After(grace()),
    )
    position = next_to_undo(work, below=len(work.declared.steps), with_current=True)
    if position is None:
        work.set(position=0)
        _finish(work, SagaState.COMPENSATED)
    else:
        work.set(position=position)


def compensate_if_cancelled(work: UnitOfWork) -> bool:
    """Compensate if that was asked for meanwhile, and the step can still be undone."""
    saga = work.saga
    if saga.cancel_requested_at is None or work.step.position >= work.declared.pivot:
        return False
    cancelled = failures.failure(work.step, FailureKind.CANCELLED, now=work.now, message=saga.cancel_reason)
    start_compensation(work, cancelled, actor=saga.cancel_actor, reason=saga.cancel_reason)
    return True


def fail_undo(work: UnitOfWork, failure: Failure) -> None:
    """The undo was refused, met a bug, or spent its budget: a person is called, and nothing is dropped."""
    kept = failure.as_json()
    work.set_step(error=kept)
    work.transition_step(
        StepState.UNDO_FAILED, EventKind.UNDO_FAILED, attempt=work.step.undo_attempts, data=kept
    )
    require_attention(
        work,
        why=messages.UNDO_FAILED % {"step": work.step.name, "message": failure.message},
        advice=messages.SETTLE_WITH_PROVIDER,
        resume=failure.kind not in (FailureKind.REFUSED, FailureKind.MISMATCH),
    )


def next_to_undo(work: UnitOfWork, *, below: int, with_current: bool = False) -> int | None:
    """The highest position below that was begun and is not undone yet; None when nothing is left.

    Arguments:
        work: the saga, at a step.
        below: the position that it is to be below.
        with_current: whether the step at hand, as it is about to be written, may be the one.
    """
    saga, current, declared = work.saga, work.step, work.declared
    if not declared.has_optional_steps and (not with_current or current.position == saga.position):
        # Nothing was left out on the way, so every step before this one was begun: no need to look.
        top = current.position - (not current.begun) if with_current else below - 1
        return next((position for position in range(top, -1, -1) if declared.steps[position].undo), None)
    steps = saga.steps.filter(position__lt=below)  # type: ignore[arg-type]
    for step in steps.order_by("-position"):
        row = current if with_current and current.pk == step.pk else step
        if row.begun and row.state != StepState.UNDONE and declared.steps[row.position].undo:
            return row.position
    return None


# --- The end --------------------------------------------------------------------------------------


def _finish(work: UnitOfWork, state: SagaState) -> None:
    """End the saga, and tell its owner in the same transaction (I1)."""
    declared = work.declared
    completed = state == SagaState.COMPLETED
    work.transition(state, EventKind.SAGA_COMPLETED if completed else EventKind.SAGA_COMPENSATED)
    _unpark(work)
    work.set(finished_at=NOW, wake_at=None, dispatched_at=None, deadline_at=None, held_at=None)
    _leave_nothing(work)
    work.call(declared.on_completed if completed else declared.on_compensated)


def close(work: UnitOfWork) -> None:
    """Nothing moves a saga any more that is put aside: what an end clears away goes, and its owner is told.

    One whose version is gone can be put aside too; its owner is told by the newest version's hook.
    """
    try:
        hook = work.declared.on_closed
        _leave_nothing(work)
    except errors.UnknownSaga:
        versions = reversed(registry.versions(work.saga.name))
        hook = next((newest.on_closed for newest in versions), None)
    work.call(hook)


def _leave_nothing(work: UnitOfWork) -> None:
    """Nothing of the saga will be done any more.

    Its steps' secrets are struck out, and callbacks that came before their step waited, and were never
    needed, are not left lying there.
    """
    declared, saga = work.declared, work.saga
    secrets = [name for step in declared.steps for name in step.secrets]
    if any(name in saga.facts for name in secrets):
        work.set(facts=_without(saga.facts, secrets))
    work.drop_callbacks([f"{saga.pk}.{step.name}" for step in declared.steps if step.wait is not None])


def _without(facts: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in names}


# --- People ---------------------------------------------------------------------------------------


def require_attention(work: UnitOfWork, *, why: str, advice: str, resume: bool, **event: Any) -> None:
    """Call a person: once for all by the alert (A4), and for as long as it lasts in the lists.

    Arguments:
        work: the saga, at the step that is in the way.
        why: a sentence.
        advice: a sentence: what a person may do.
        resume: whether trying again by itself now and then may help; a refusal does not change.
        event: what the event says beside it.
    """
    saga, declared = work.saga, work.declared
    attention = {"step": work.step.name, "why": why, "advice": advice, "since": work.now.isoformat()}
    work.transition(SagaState.NEEDS_ATTENTION, EventKind.SAGA_ATTENTION, data=attention, **event)
    _unpark(work)
    pause = declared.resume_pause(resumes=saga.resumes, chance=random.random())  # noqa: S311 - no secret
    work.set(
        attention=attention,
        dispatched_at=None,
        dispatches=1,
        wake_at=After(pause) if resume else None,
    )
    if saga.alerted_at is None:
        work.set(alerted_at=NOW)
        work.tell(declared.on_attention)
        work.alert("saga %s (%s) needs attention: %s %s", saga.pk, saga.name, why, advice)


def keep_first_failure(work: UnitOfWork, failure: Failure) -> None:
    """The first failure is kept for ever (A2)."""
    if work.saga.failure is None:
        work.set(failure=failure.as_json())


def resume(work: UnitOfWork, **event: Any) -> None:
    """Let a saga that needs attention try again, in the direction it was going.

    Its budget stays spent: each time it is resumed buys one more attempt. Where it resumes by itself, the
    next pause is longer; where a person resumes it, the pauses begin anew.
    """
    by_itself = event.get("actor", "engine") == "engine"
    work.set(resumes=min(work.saga.resumes + 1, MOST_RESUMES) if by_itself else 0)
    if work.forward and work.step.state == StepState.FAILED:
        work.transition_step(StepState.PENDING, EventKind.STEP_REOPENED, **event)
    reopen(work, **event)
    work.set(dispatches=0, dispatched_at=None, wake_at=NOW)


def reopen(work: UnitOfWork, **event: Any) -> None:
    """A saga that needs attention goes its way again, and a clock that had run out begins anew.

    With the old one it would be stopped before it had tried anything; without any, a provider that is
    still out would keep it for ever out of sight (T2). One that can still turn round does so.
    """
    saga, declared = work.saga, work.declared
    to = SagaState.RUNNING if work.forward else SagaState.COMPENSATING
    work.transition(to, EventKind.SAGA_RESUMED, **event)
    work.set(attention=None)
    over = saga.deadline_at is None or saga.deadline_at <= work.now
    if over and (not work.forward or past_pivot(saga, work.step)):
        work.set(deadline_at=After(declared.deadline if work.forward else declared.undo_deadline))


# --- Questions ------------------------------------------------------------------------------------


def is_free(step: models.StepInstance, now: datetime.datetime) -> bool:
    """Whether no attempt may be under way now, so that others may act on the step (O2)."""
    return step.lease_until is None or step.lease_until <= now or step.state not in AT_WORK


def in_doubt(saga: models.SagaInstance, step: models.StepInstance) -> bool:
    """Whether a person may say what became of the step: of its action, or on the way back of its undo."""
    if saga.direction == FORWARD:
        begun = step.state in (StepState.UNKNOWN, StepState.FAILED, StepState.WAITING)
        return begun or (step.state == StepState.PENDING and bool(step.error))
    return step.state == StepState.UNDO_FAILED or (step.state == StepState.UNDOING and bool(step.error))


def past_pivot(saga: models.SagaInstance, step: models.StepInstance | None) -> bool:
    """Whether the saga can no longer turn round by itself (P1).

    A pivot that is at work, waits, or may have happened counts as passed: it blocks both
    directions until that is settled (P4).
    """
    pivot = saga.definition.pivot
    if pivot >= len(saga.definition.steps):
        return False
    if saga.position > pivot:
        return True
    if saga.position < pivot or step is None:
        return False
    if saga.definition.steps[pivot].kind == "retriable":
        return True
    return step.state in (StepState.RUNNING, StepState.WAITING, StepState.UNKNOWN, StepState.DONE)


def budget_spent(work: UnitOfWork) -> bool:
    """Whether the step's attempts in this direction, or their time, are used up (R1)."""
    undo = not work.forward
    spent = counted(work.step, undo=undo) >= work.declared.retry_of(work.declared_step, undo=undo).attempts
    return spent or (work.forward and out_of_time(work))


def counted(step: models.StepInstance, *, undo: bool) -> int:
    """How many attempts are held against the budget: not those that an outage excuses (R4)."""
    if undo:
        return step.undo_attempts - step.undo_excused
    return step.attempts - step.excused


def out_of_time(work: UnitOfWork) -> bool:
    """Whether the budget of time for all attempts at the action is used up."""
    budget, started_at = work.declared_step.budget, work.step.started_at
    return budget is not None and started_at is not None and work.now - started_at >= budget


def queue_of(saga: models.SagaInstance) -> str:
    """The queue of the step at the saga's position."""
    steps = saga.definition.steps
    return steps[min(saga.position, len(steps) - 1)].queue
