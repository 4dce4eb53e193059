"""One step of one saga, forwards or back, by one of two protocols that share `admit`, `call` and `record`.

A local step is one transaction: lock, call, record. The action and its record commit together, so it
takes effect exactly once however often its message comes (E1).

A remote step is two: the intent is committed before the call, the call runs with no transaction
open, and its outcome is committed after, by the worker that still holds the fence (D6). What happened
between them is known, or is *unknown* and is asked about (U1, U2).
"""

import dataclasses
import datetime
import logging
import time
import uuid
from typing import Any

from django.db import IntegrityError, connection, transaction

from sagas import database, errors, reading
from sagas.declaration import registry
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import (
    calls,
    dispatching,
    failures,
    inbox,
    parallel,
    recording,
    store,
    sums,
    transitions,
    transport,
)
from sagas.engine.attempts import (
    STOP,
    Attempt,
    Lane,
    NoLane,
    Outcome,
    Recorded,
    Result,
    StepMessage,
    WorkerContext,
)
from sagas.engine.kinds import Clock, EventKind, FailureKind, Next, OutcomeKind
from sagas.engine.store import NOW, After, UnitOfWork

logger = logging.getLogger("sagas")

LEASE_MARGIN = datetime.timedelta(seconds=15)
"""On top of the attempt's timeout: time for the hard limit, and for recording the outcome."""

CRASH_SUSPICION = 2
"""Dispatches without progress after which a local step is claimed in a transaction of its own, so
that one that kills its worker is counted and ends like any other that keeps failing."""

SECOND_LOOK_MS = 100
"""How long a local step that was late waits for a lock when it comes again. The first time it waits as long
as its connection does; were it to do so each time, a hundred orders of one product would take all workers."""


# --- The two protocols ----------------------------------------------------------------------------


def perform(
    saga_id: uuid.UUID | str,
    *,
    epoch: int,
    step: str,
    direction: Direction,
    context: WorkerContext | None = None,
    lane: Lane | None = None,
) -> Result:
    """Carry out one step, or leave quietly if the row does not want it; then those that the lane takes.

    1. Lock the row; leave unless the saga goes this way, is at this step, and in this epoch.
    2. A local step is called and recorded in the same transaction (`execute_local`).
    3. For a remote one the intent is committed; then `execute_remote`.
    4. Go on with the next step, if the lane takes it: in a transaction of its own, under the same rules.

    Arguments:
        saga_id: the instance.
        epoch: of the dispatch that sent the message.
        step: the step's name.
        direction: FORWARD for its action, BACKWARD for its undo.
        context: the task and the worker that carry it out.
        lane: takes the saga's next steps as well; without one they are left to the chain.

    Returns:
        What the chain is to do next.

    Raises:
        django.db.Error: the database is gone, or another session holds the instance's own row; the sweep
            takes over.
    """
    message = StepMessage(
        saga_id=saga_id, epoch=epoch, step=step, direction=direction, context=context or WorkerContext()
    )
    lane = lane or NoLane()
    return go_on(_carry_out(message, lane), lane)


def go_on(result: Result, lane: Lane) -> Result:
    """Carry out the steps that come next, for as long as the lane takes them.

    Arguments:
        result: what was to be next.
        lane: whether this worker takes it.

    Returns:
        What is to be next now.

    Raises:
        django.db.Error: as `perform` does.
    """
    while result.dispatch is not None and lane.takes(result.dispatch):
        result = _carry_out(_next(result.dispatch, lane), lane)
    return result


def _next(dispatch: transport.Dispatch, lane: Lane) -> StepMessage:
    """What the message of the dispatch's first step would say; the lane takes it, so none is sent."""
    return StepMessage(
        saga_id=dispatch.saga_id,
        epoch=dispatch.epoch,
        step=dispatch.messages[0].step,
        direction=dispatch.direction,
        context=lane.enter(dispatch),
    )


def _carry_out(message: StepMessage, lane: Lane) -> Result:
    """The step of a message, and those behind it that can share a transaction's end with it."""
    left = _take_up(message, lane)
    while isinstance(left, Attempt):
        if left.step.remote:
            left = execute_remote(left, lane)
        else:
            left = _execute_beside_others(left) if left.row.is_member else _record_claimed(left, None)
    return left


class _Steps:
    """Steps that follow each other in one block of transactions: local ones, for as long as all goes well.

    Arguments:
        message: the first one's.
        lane: whether this worker takes the next one.
    """

    def __init__(self, message: StepMessage, lane: Lane) -> None:
        self.message = message
        """The message of the step at hand."""

        self._lane = lane

    def carry_out(self, transactions: store.Transactions, work: UnitOfWork) -> Result | Attempt | Outcome:
        """Begin with the step of the locked rows.

        Returns:
            What is to be next; or an attempt that is claimed, and is made when this block has ended; or why a
            local step failed, where that is to be recorded after it.
        """
        while True:
            if leave := admit(work, self.message):
                return leave
            attempt = claim(work, self.message)
            if attempt.claimed:
                return attempt
            recorded = execute_local(work, attempt)
            if not recorded.outcome.done:
                # What comes of it is recorded under another lock, after all that the function took.
                self.message = dataclasses.replace(self.message, waited=attempt.waited)
                if not transactions.can_start_over or database.is_away(recorded.outcome.error):
                    return recorded.outcome
                work = transactions.start_over(self.message.saga_id, self.message.step)
                return _record_failure(work, self.message, recorded.outcome)
            onward = recorded.result.dispatch
            if onward is None or not transactions.alone or not self._lane.takes(onward):
                return recorded.result
            work = transactions.turn(onward.saga_id, onward.messages[0].step)
            self.message = _next(onward, self._lane)


def _take_up(message: StepMessage, lane: Lane) -> Result | Attempt:
    """Lock the rows and carry out the step; a remote one is only claimed."""
    steps = _Steps(message, lane)
    try:
        with store.Transactions.begin() as transactions:
            left = steps.carry_out(transactions, transactions.lock(message.saga_id, message.step))
    except errors.NotFound:
        if reading.archived(message.saga_id) is None:
            raise
        return STOP  # A message of old: its saga has long ended.
    except IntegrityError as error:
        left = _refused_at_commit(error)
    return _record_rolled_back(steps.message, left) if isinstance(left, Outcome) else left


def execute_local(work: UnitOfWork, attempt: Attempt) -> Recorded:
    """Call a local step's function and record it, in the transaction that holds the lock.

    Where the function or the saga's owner fails, the whole transaction is rolled back: it did not happen.
    That it failed is then recorded in a transaction of its own.
    """
    if (work.step.error or {}).get("kind") == FailureKind.LATE:
        _do_not_wait_long()
    outcome = calls.call(attempt)
    if not outcome.done:
        transaction.set_rollback(True)
        return Recorded(outcome=outcome, result=STOP)
    if not attempt.claimed:
        _count(work, attempt)
    recorded = recording.record(work, attempt, outcome)
    if not recorded.outcome.done:
        transaction.set_rollback(True)
    return recorded


def _execute_beside_others(attempt: Attempt) -> Result:
    """Call a local step's function and record it in one transaction, and lock only after the call.

    The function's siblings in its stage want the lock of the saga's row as well, and would take turns. That
    the attempt is still wanted the fence says, under the lock: where another worker took over, all that the
    function did is rolled back, and it has happened once at most.
    """
    try:
        with store.Transactions.begin() as transactions:
            if (attempt.row.error or {}).get("kind") == FailureKind.LATE:
                _do_not_wait_long()
            outcome = calls.call(attempt)
            result = STOP
            if outcome.done:
                work = transactions.lock(attempt.message.saga_id, attempt.step.name)
                if _is_void(work, attempt):
                    transaction.set_rollback(True)
                    return STOP
                work.set_step(lease_until=None)
                recorded = recording.record(work, attempt, outcome)
                outcome, result = recorded.outcome, recorded.result
            if not outcome.done:
                transaction.set_rollback(True)
    except IntegrityError as error:
        return _record_claimed(attempt, _refused_at_commit(error))
    if not outcome.done:
        database.let_go(outcome.error)
        return _record_claimed(attempt, outcome)
    return result


def _is_void(work: UnitOfWork, attempt: Attempt) -> bool:
    """Whether the lease ran out and another worker took over: what this one knows comes too late (D6)."""
    if work.step.fence == attempt.fence and work.step.state in parallel.AT_WORK:
        return False
    logger.warning("saga %s: %s lost its lease, its outcome is void", work.saga.pk, work.step.name)
    work.count(sums.VOIDED, work.saga.name, work.step.name, sums.Void.LOST_LEASE)
    return True


def _do_not_wait_long() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {SECOND_LOOK_MS}")


def execute_remote(attempt: Attempt, lane: Lane) -> Result | Attempt:
    """Call a claimed remote step's function with no transaction open, then record the outcome.

    What went well is recorded in one statement, which holds only if nobody has touched the saga since the
    claim. Otherwise, and where there is more to decide, the rows are read once more under their lock.

    Returns:
        What is to be next; or, where the lane took a step behind it, its claimed attempt.
    """
    began = time.monotonic()
    outcome = calls.call(attempt)
    database.let_go(outcome.error)
    if outcome.done and not recording.begins_to_wait(attempt, outcome) and not attempt.row.is_member:
        took = datetime.timedelta(seconds=time.monotonic() - began)
        return _record_unread(attempt, outcome, attempt.begun_at + took, lane)
    return _record_claimed(attempt, outcome)


def _record_unread(
    attempt: Attempt, outcome: Outcome, now: datetime.datetime, lane: Lane
) -> Result | Attempt:
    """Record that a claimed remote step went well, without reading the rows again; then go on with the lane.

    If somebody has written them meanwhile, nothing is recorded so, and they are read.
    """
    steps: _Steps | None = None
    left: Result | Attempt | Outcome
    try:
        with store.Transactions.begin() as transactions:
            work = transactions.trust(attempt.row.saga, attempt.row, now)
            work.set_step(lease_until=None)
            recorded = recording.record(work, attempt, outcome)
            left, onward = recorded.result, recorded.result.dispatch
            if recorded.outcome is not outcome:
                transaction.set_rollback(True)
            elif onward is not None and transactions.alone and lane.takes(onward):
                work = transactions.turn(onward.saga_id, onward.messages[0].step)
                steps = _Steps(_next(onward, lane), lane)
                left = steps.carry_out(transactions, work)
    except IntegrityError as error:
        if steps is None:
            return _record_claimed(attempt, _refused_at_commit(error))
        left = _refused_at_commit(error)
    except errors.LostRace:
        if steps is None:
            return _record_claimed(attempt, outcome)
        raise
    if recorded.outcome is not outcome:
        database.let_go(recorded.outcome.error)
        return _record_claimed(attempt, recorded.outcome)
    if isinstance(left, Outcome):
        assert steps is not None, "only a step behind this one was rolled back"
        return _record_rolled_back(steps.message, left)
    return left


def _record_rolled_back(message: StepMessage, outcome: Outcome) -> Result:
    """Record that a local step failed, unless another worker has meanwhile gone on."""
    database.let_go(outcome.error)
    with store.Transactions.begin() as transactions:
        return _record_failure(transactions.lock(message.saga_id, message.step), message, outcome)


def _record_failure(work: UnitOfWork, message: StepMessage, outcome: Outcome) -> Result:
    """Record what came of a function that was rolled back, in the transaction that holds the lock anew."""
    if leave := admit(work, message):
        return leave
    attempt = claim(work, message)
    if not attempt.claimed and not outcome.late:
        _count(work, attempt)
    return recording.record(work, attempt, outcome).result


def _record_claimed(attempt: Attempt, outcome: Outcome | None) -> Result:
    """Record the outcome of a claimed attempt; a claimed local step is executed here.

    Where the saga's owner fails to take it, that is what is recorded, in a second transaction.
    """
    saga_id, step = attempt.message.saga_id, attempt.step
    try:
        with store.Transactions.begin() as transactions:
            work = transactions.lock(saga_id, step.name, inbox=attempt.row.key if step.wait else None)
            if _is_void(work, attempt):
                return STOP
            work.set_step(lease_until=None)
            recorded = (
                execute_local(work, attempt) if outcome is None else recording.record(work, attempt, outcome)
            )
            if outcome is not None and recorded.outcome is not outcome:
                transaction.set_rollback(True)
    except IntegrityError as error:
        return _record_claimed(attempt, _refused_at_commit(error))
    if outcome is not recorded.outcome and not recorded.outcome.done:
        database.let_go(recorded.outcome.error)
        return _record_claimed(attempt, recorded.outcome)
    return recorded.result


def _refused_at_commit(error: IntegrityError) -> Outcome:
    """A deferred constraint refused the rows of the function, or of a hook, when all was to be committed."""
    logger.error("a saga's rows were refused at their commit: %s", type(error).__name__)
    return Outcome(kind=OutcomeKind.BUG, error=error)


# --- Admission and claim --------------------------------------------------------------------------


def admit(work: UnitOfWork, message: StepMessage) -> Result | None:
    """Whether this message may act now: None if it may, else what its chain is to do.

    What the row is due for before anything else, a deadline or a cancellation, is written here.
    """
    saga, step, now = work.saga, work.step, work.now
    working = SagaState.RUNNING if message.direction == Direction.FORWARD else SagaState.COMPENSATING
    if work.cursor.epoch != message.epoch or saga.state != working:
        return _void(work, sums.Void.SUPERSEDED)
    if saga.held_at is not None:
        return _void(work, sums.Void.HELD)
    if work.cursor.dispatched_at is None:
        # No message is expected: a stray copy must not shorten a pause.
        return _void(work, sums.Void.UNEXPECTED)
    if not dispatching.at_hand(work):
        passed = (saga.position - step.position) * message.direction > 0
        return recording.continue_with(saga) if passed else _void(work, sums.Void.ELSEWHERE)
    if not parallel.is_free(step, now):
        return _void(work, sums.Void.BUSY)
    if message.direction == Direction.FORWARD:
        if not transitions.past_pivot(saga, step) and _compensate_if_due(work):
            work.commit()
            return Result(next=Next.COMPENSATE)
        if step.state == StepState.WAITING and work.declared_step.ask is None:
            after = _end_wait(work)
            work.commit()
            return recording.result_of(work, after)
    if _needs_claim(work) and not dispatching.admitted(work, take=True):
        dispatching.park(work)
        work.commit()
        return STOP
    return None


def _void(work: UnitOfWork, reason: sums.Void) -> Result:
    """The message is void, and changes nothing: that it came is counted."""
    work.count(sums.VOIDED, work.saga.name, work.step.name, reason)
    return STOP


def claim(work: UnitOfWork, message: StepMessage) -> Attempt:
    """Write the intent before the call, where the outcome may come to be unknown."""
    step, declared = work.step, work.declared_step
    waited = message.waited if message.waited is not None else _waited(work, message.context)
    waiting = work.forward and step.state == StepState.WAITING
    unknown = work.forward and step.state in (StepState.UNKNOWN, StepState.RUNNING)
    claimed = _needs_claim(work)
    if claimed:
        lease = registry.timeout(work.saga.name, step.name) + LEASE_MARGIN
        shown = _shown(message.context) | sums.wait_of(waited)
        if work.forward:
            _intend_action(work, shown, asks=waiting)
        else:
            _intend_undo(work, shown)
        work.set_step(
            fence=step.fence + 1,
            lease_until=After(lease),
            task_id=message.context.task_id,
            worker=message.context.worker,
        )
        dispatching.look_within(work, lease)
        work.commit()
    else:
        work.waited = waited
    return Attempt(
        message=message,
        declared=work.declared,
        step=declared,
        row=step,
        fence=step.fence,
        begun_at=work.now,
        waited=waited,
        claimed=claimed,
        doubtful=declared.remote and unknown,
        only_asks=claimed and waiting,
    )


def _waited(work: UnitOfWork, context: WorkerContext) -> datetime.timedelta:
    """How long the step's message was under way; no time where the worker went on without one."""
    if work.cursor.dispatched_at is None or "." in context.task_id:
        return datetime.timedelta(0)
    return work.now - work.cursor.dispatched_at


def _needs_claim(work: UnitOfWork) -> bool:
    return work.declared_step.remote or work.step.is_member or work.saga.dispatches >= CRASH_SUSPICION


def _compensate_if_due(work: UnitOfWork) -> bool:
    """Compensate for a cancellation or a deadline that came before this attempt."""
    if transitions.compensate_if_cancelled(work):
        return True
    deadline = work.saga.deadline_at
    if deadline is None or deadline > work.now:
        return False
    transitions.start_compensation(work, failures.deadline_over(work.step, work.now))
    return True


def _end_wait(work: UnitOfWork) -> Next:
    """A waiting step that nobody can be asked about: what lies in the inbox decides, or its limit."""
    if ended := inbox.take_stored(work):
        return ended
    wait_until = work.step.wait_until
    if wait_until is not None and wait_until > work.now:
        dispatching.wake_after(work, wait_until - work.now)
        return Next.STOP
    return transitions.fail(work, failures.wait_over(work.step, work.now))


def _intend_action(work: UnitOfWork, shown: dict[str, Any], *, asks: bool) -> None:
    step = work.step
    if step.state == StepState.RUNNING:
        transitions.mark_unknown(work, {"clock": Clock.LEASE})
    attempts = step.attempts + (0 if asks else 1)
    kind = EventKind.STEP_ASKED if asks else EventKind.STEP_STARTED
    work.transition_step(StepState.RUNNING, kind, attempt=attempts, data=shown)
    work.set_step(attempts=attempts)
    if step.started_at is None:
        work.set_step(started_at=NOW)


def _intend_undo(work: UnitOfWork, shown: dict[str, Any]) -> None:
    step = work.step
    attempts = step.undo_attempts + 1
    if step.state == StepState.UNDOING:
        work.note(EventKind.UNDO_STARTED, subject=step.name, attempt=attempts, data=shown)
    else:
        work.transition_step(StepState.UNDOING, EventKind.UNDO_STARTED, attempt=attempts, data=shown)
    work.set_step(undo_attempts=attempts)
    if step.undo_started_at is None:
        work.set_step(undo_started_at=NOW)


def _shown(context: WorkerContext) -> dict[str, Any]:
    return {"task_id": context.task_id, "worker": context.worker} if context.task_id else {}


def _count(work: UnitOfWork, attempt: Attempt) -> None:
    """Count a local attempt, with its record."""
    step, context = work.step, attempt.message.context
    if attempt.undo:
        work.set_step(undo_attempts=step.undo_attempts + 1, undo_started_at=step.undo_started_at or work.now)
    else:
        work.set_step(attempts=step.attempts + 1, started_at=step.started_at or work.now)
    work.set_step(task_id=context.task_id, worker=context.worker)
