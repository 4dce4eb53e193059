"""What an attempt's outcome makes of its saga: done, again, waiting, failed, or for a person."""

import dataclasses
import datetime
import logging
import random
from typing import Any

from sagas import database, errors, models
from sagas.declaration import definition
from sagas.declaration.states import StepState
from sagas.engine import calls, circuits, dispatching, failures, inbox, messages, transitions
from sagas.engine.attempts import STOP, Attempt, Outcome, Recorded, Result
from sagas.engine.failures import Failure
from sagas.engine.kinds import Clock, EventKind, FailureKind, Next, OutcomeKind
from sagas.engine.store import NOW, After, UnitOfWork

logger = logging.getLogger("sagas")

LATE = definition.Retry(on=())
"""The pauses of a step that waits for a lock: a second, then ever longer, up to a minute."""

PASSING = (OutcomeKind.TRANSIENT, OutcomeKind.UNKNOWN, OutcomeKind.OUTAGE)
"""What may go well another time."""


def record(work: UnitOfWork, attempt: Attempt, outcome: Outcome) -> Recorded:
    """Write what came of it, and say how the saga goes on.

    The saga's end is not recorded if its owner's hook fails: then the outcome is the owner's failure, and
    the transaction must be rolled back. A hook that does not get a lock is late, as a function is.
    """
    excused = outcome.late or (attempt.step.remote and _tell_circuit(work, attempt, outcome))
    if not attempt.undo and not work.forward:
        after = _drained(work, attempt, outcome)
    elif outcome.done:
        after = _undone(work) if attempt.undo else _done(work, outcome)
    elif attempt.undo:
        after = _undo_failed(work, attempt, outcome, excused)
    else:
        after = _action_failed(work, attempt, outcome, excused)
    if not outcome.done:
        work.commit()
        return Recorded(outcome=outcome, result=result_of(work, after))
    try:
        work.commit()
    except errors.LostRace:
        raise
    except Exception as bug:
        if database.is_busy(bug):
            outcome = Outcome(kind=calls.lost(attempt.step), error=bug, late=True)
        elif database.is_passing(bug):
            raise
        else:
            logger.error("a saga's hook met a bug: %s", failures.traced(bug, {}))
            outcome = Outcome(kind=OutcomeKind.BUG, error=bug, owners=True)
    return Recorded(outcome=outcome, result=result_of(work, after) if outcome.done else STOP)


def result_of(work: UnitOfWork, after: Next) -> Result:
    """Add what a worker may carry on with where its own chain ends."""
    if after != Next.CONTINUE or work.saga.is_final:
        return Result(next=after)
    return Result(next=after, dispatch=work.onward) if work.onward is not None else continue_with(work.saga)


def continue_with(saga: models.SagaInstance) -> Result:
    """The chain goes on with the saga's next steps."""
    return Result(next=Next.CONTINUE, dispatch=dispatching.dispatch_of(saga))


def begins_to_wait(attempt: Attempt, outcome: Outcome) -> bool:
    """Whether the action went well, and what it waits for is not known yet."""
    return not attempt.undo and _awaited(attempt.step, _known(attempt.row, outcome)) is not None


def _known(step: models.StepInstance, outcome: Outcome) -> dict[str, Any]:
    """What is known of the action by now: its answer, and those of before."""
    return {**(step.facts or {}), **(outcome.facts or {})}


def _awaited(step: definition.Step, facts: dict[str, Any]) -> definition.Wait | None:
    """What the step has to wait for if no more than this is known; None for nothing."""
    return step.wait if step.wait is not None and not facts.get(step.wait.until) else None


def _done(work: UnitOfWork, outcome: Outcome) -> Next:
    facts = _known(work.step, outcome)
    work.set_step(facts=facts, error=None)
    if wait := _awaited(work.declared_step, facts):
        return _wait(work, wait)
    transitions.finish_step(work, facts)
    if transitions.compensate_if_cancelled(work):
        return Next.COMPENSATE
    return transitions.advance(work)


def _drained(work: UnitOfWork, attempt: Attempt, outcome: Outcome) -> Next:
    """An action ended after its saga had turned round: what came of it is kept, and will be undone.

    There is no further attempt, and nothing is waited for. Whoever records the last one has the undos sent.
    """
    work.set_step(wait_until=None)
    work.set_cursor(wake_at=None, dispatched_at=None, dispatches=0)
    if outcome.done:
        facts = _known(work.step, outcome)
        if _awaited(work.declared_step, facts):
            work.set_step(facts=facts, error=None)
            work.transition_step(StepState.WAITING, EventKind.STEP_WAITING, attempt=work.step.attempts)
        else:
            transitions.finish_step(work, facts)
    else:
        kept = _failure(work, attempt, outcome).as_json()
        doubtful = _unknown(outcome) or outcome.kind == OutcomeKind.MISMATCH
        to = StepState.UNKNOWN if doubtful or attempt.doubtful else StepState.FAILED
        work.set_step(error=kept, finished_at=NOW)
        work.transition_step(to, EventKind.STEP_FAILED, attempt=work.step.attempts, data=kept)
    if transitions.end_drain(work):
        dispatching.dispatch(work)
    return Next.STOP


def _undone(work: UnitOfWork) -> Next:
    work.transition_step(StepState.UNDONE, EventKind.UNDO_DONE, attempt=work.step.undo_attempts)
    work.set_step(undone_at=NOW)
    return transitions.advance(work)


def _wait(
    work: UnitOfWork,
    wait: definition.Wait,
    *,
    out: bool = False,
    late: datetime.timedelta | None = None,
) -> Next:
    """Begin to wait, or go on waiting; when the limit is over the step has failed.

    A callback that came before the step waited for it lies in the inbox, and is taken up now. Where the
    provider could not be asked because it is out, or the database was in the way, it is asked once more.

    Arguments:
        work: the saga, at the step.
        wait: what the step declares.
        out: whether the provider is out: it is asked when it works again.
        late: if the database was in the way, how long until it is asked again.
    """
    if work.step.wait_until is None:
        work.set_step(wait_until=After(wait.limit))
    work.transition_step(StepState.WAITING, EventKind.STEP_WAITING, attempt=work.step.attempts)
    if ended := inbox.take_stored(work):
        return ended
    if transitions.compensate_if_cancelled(work):
        return Next.COMPENSATE
    if late is not None:
        dispatching.wake_after(work, late)
        return Next.STOP
    if out:
        dispatching.park(work)
        return Next.STOP
    left = (work.step.wait_until or work.now) - work.now
    if left <= datetime.timedelta(0):
        return transitions.fail(work, failures.wait_over(work.step, work.now))
    dispatching.wake_after(work, min(left, wait.poll) if wait.poll is not None else left)
    return Next.STOP


def _action_failed(work: UnitOfWork, attempt: Attempt, outcome: Outcome, excused: bool) -> Next:
    """An action that did not go well: again, or compensate, or call a person.

    `excused` says that the provider is out, or the database in the way: that is not held against the saga,
    and only clocks end it (R4).
    """
    step, declared, now = work.step, attempt.step, work.now
    failure = _failure(work, attempt, outcome)
    if outcome.late and declared.budget is not None:
        work.set_step(started_at=step.started_at or now)
    work.set_step(error=failure.as_json())
    if outcome.owners:
        return transitions.fail(work, failure, owners=True)
    if outcome.kind == OutcomeKind.MISMATCH:
        return transitions.stop_at_mismatch(work, failure)
    if attempt.only_asks and outcome.kind != OutcomeKind.REFUSED:
        # The wait goes on: not to be told is no answer. Its limit decides.
        assert declared.wait is not None, "only a step with a wait waits"
        if step.wait_until is None or step.wait_until > now or excused:
            late = _late_pause(failure) if outcome.late else None
            return _wait(work, declared.wait, out=excused, late=late)
        failure = dataclasses.replace(failure, clock=Clock.WAIT)
    elif outcome.kind in PASSING:
        out_of_time = transitions.out_of_time(work)
        if excused and attempt.claimed:
            work.set_step(excused=step.excused + 1)
        if not out_of_time and (excused or not transitions.budget_spent(work)):
            return _again(work, outcome, failure, excused)
        if out_of_time:
            failure = dataclasses.replace(failure, clock=Clock.BUDGET)
    # It may have happened: the answer was lost, the function broke off, or no more is known than its begin.
    unknown = _unknown(outcome)
    begun = attempt.only_asks and outcome.kind != OutcomeKind.REFUSED
    happened = unknown or (outcome.kind == OutcomeKind.BUG and declared.remote) or begun
    return transitions.fail(work, failure, unknown=unknown, provable=not happened)


def _unknown(outcome: Outcome) -> bool:
    """Whether the action may have happened: in this attempt, or in an earlier one that is still in doubt."""
    return outcome.kind == OutcomeKind.UNKNOWN or (outcome.kind == OutcomeKind.OUTAGE and outcome.doubtful)


def _again(work: UnitOfWork, outcome: Outcome, failure: Failure, excused: bool) -> Next:
    """Another attempt after a pause, or once the provider is back: no message carries the time."""
    step, data = work.step, failure.as_json()
    unknown = _unknown(outcome)
    to = StepState.UNKNOWN if unknown else StepState.PENDING
    kind = EventKind.STEP_RETRY
    if unknown or outcome.late:
        kind = EventKind.STEP_UNKNOWN if unknown else EventKind.STEP_LATE
    if step.state == to:
        work.note(kind, subject=step.name, attempt=step.attempts, data=data)
    else:
        work.transition_step(to, kind, attempt=step.attempts, data=data)
    if transitions.compensate_if_cancelled(work):
        return Next.COMPENSATE
    if excused and not outcome.late:
        dispatching.park(work)
    else:
        dispatching.wake_after(work, _late_pause(failure) if outcome.late else _pause(work))
    return Next.STOP


def _undo_failed(work: UnitOfWork, attempt: Attempt, outcome: Outcome, excused: bool) -> Next:
    """An undo that did not go well: again, or call a person."""
    step = work.step
    failure = _failure(work, attempt, outcome)
    data = failure.as_json()
    work.set_step(error=data)
    if excused and attempt.claimed:
        work.set_step(undo_excused=step.undo_excused + 1)
    if outcome.late:
        work.note(EventKind.UNDO_LATE, subject=step.name, attempt=step.undo_attempts, data=data)
        dispatching.wake_after(work, _late_pause(failure))
        return Next.STOP
    if step.state != StepState.UNDOING:
        work.transition_step(StepState.UNDOING, EventKind.UNDO_STARTED, attempt=step.undo_attempts)
    if outcome.kind in PASSING and (excused or not transitions.budget_spent(work)):
        work.note(EventKind.UNDO_RETRY, subject=step.name, attempt=step.undo_attempts, data=data)
        if excused:
            dispatching.park(work)
        else:
            dispatching.wake_after(work, _pause(work))
        return Next.STOP
    transitions.fail_undo(work, failure)
    return Next.STOP


def _failure(work: UnitOfWork, attempt: Attempt, outcome: Outcome) -> Failure:
    """The failure that an outcome is; one that was late says what it waits for, and how often by now."""
    failure = failures.failure(
        work.step,
        FailureKind(outcome.kind),
        now=work.now,
        error=outcome.error,
        clock=outcome.clock,
        undo=attempt.undo,
    )
    if not outcome.late:
        return failure
    message = messages.DATABASE_AWAY
    if database.is_busy(outcome.error):
        table = database.held_table(outcome.error)
        message = messages.LOCK_HELD_IN % {"table": table} if table else messages.LOCK_HELD
    return dataclasses.replace(
        failure,
        kind=failure.kind if attempt.step.remote else FailureKind.LATE,
        message=message,
        late=1 + (work.step.error or {}).get("late", 0),
    )


def _late_pause(failure: Failure) -> datetime.timedelta:
    """How long until a step that was late is looked at again."""
    return LATE.pause(attempt=failure.late, chance=random.random())  # noqa: S311 - no secret


def _pause(work: UnitOfWork) -> datetime.timedelta:
    """How long until the step's next attempt in this direction."""
    undo = not work.forward
    attempts = max(transitions.counted(work.step, undo=undo), 1)
    retry = work.declared.retry_of(work.declared_step, undo=undo)
    return retry.pause(attempt=attempts, chance=random.random())  # noqa: S311 - no secret


# --- What the circuit is told ---------------------------------------------------------------------


def _tell_circuit(work: UnitOfWork, attempt: Attempt, outcome: Outcome) -> bool:
    """Tell the service's circuit what came of it; says whether an outage excuses the failure (R4)."""
    saga = work.saga
    if outcome.kind in (OutcomeKind.DONE, OutcomeKind.REFUSED, OutcomeKind.MISMATCH):
        work.also(circuits.worked(attempt.step.queue, begun_at=attempt.begun_at))
    elif outcome.kind in PASSING:
        assert outcome.error is not None, "what failed has an error"
        error = {
            "error": type(outcome.error).__name__,
            "kind": outcome.kind,
            # It is shown beside every saga of the service: this one's facts are struck out (A3).
            "message": failures.text_of(outcome.error, without=saga.facts),
            "step": attempt.step.name,
        }
        return work.found_unavailable(
            attempt.step.queue,
            troubled_since=_troubled_since(attempt),
            error=error,
            outage=outcome.kind == OutcomeKind.OUTAGE,
        )
    return False


def _troubled_since(attempt: Attempt) -> datetime.datetime | None:
    """When the first of the attempts began that failed at the service, at this action or at its undo."""
    row = attempt.row
    undone = attempt.undo and row.facts is not None
    return row.undo_started_at if undone else row.started_at
