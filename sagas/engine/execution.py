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
import random
import uuid
from typing import Any

from django.db import IntegrityError, connection, transaction
from psycopg import pq

from sagas import database, errors, models
from sagas.declaration import definition, registry
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import calls, circuits, failures, inbox, messages, store, transitions, transport
from sagas.engine.failures import Failure
from sagas.engine.kinds import Clock, EventKind, FailureKind, Next, OutcomeKind
from sagas.engine.store import NOW, After, UnitOfWork

logger = logging.getLogger("sagas")

LEASE_MARGIN = datetime.timedelta(seconds=15)
"""On top of the attempt's timeout: time for the hard limit, and for recording the outcome."""

CANCEL_TIMEOUT_S = 2
"""How long the database may take to hear that a statement is to end: less than up to the hard limit."""

CRASH_SUSPICION = 2
"""Dispatches without progress after which a local step is claimed in a transaction of its own, so
that one that kills its worker is counted and ends like any other that keeps failing."""

LATE = definition.Retry(on=())
"""The pauses of a step that waits for a lock: a second, then ever longer, up to a minute."""

SECOND_LOOK_MS = 100
"""How long a local step that was late waits for a lock when it comes again. The first time it waits as long
as its connection does; were it to do so each time, a hundred orders of one product would take all workers."""

PASSING = (OutcomeKind.TRANSIENT, OutcomeKind.UNKNOWN, OutcomeKind.OUTAGE)
"""What may go well another time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """What carries out a step: kept on its row, so that an operator finds the task and the worker."""

    task_id: str = ""
    worker: str = ""
    interrupts: tuple[type[BaseException], ...] = ()
    """What the worker raises into a function that takes too long."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What the chain is to do next, and what to send where the chain ends here."""

    next: Next
    dispatch: transport.Dispatch | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepMessage:
    """What a step's message says, and the worker that it reached."""

    saga_id: uuid.UUID | str
    epoch: int
    step: str
    direction: Direction
    context: WorkerContext


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a step: what to call, and the fence that its record must still hold."""

    message: StepMessage
    declared: definition.Saga
    step: definition.Step
    row: models.StepInstance
    fence: int
    begun_at: datetime.datetime
    """By the database's clock."""

    claimed: bool
    """Whether the intent was written; a local step needs none, its action and record being one."""

    doubtful: bool = False
    """Whether an earlier attempt may have happened: ask first (U2). Only an answer ends the doubt."""

    only_asks: bool = False
    """The step waits: ask, and do nothing."""

    @property
    def undo(self) -> bool:
        """Whether it is an attempt at the step's undo."""
        return self.message.direction == Direction.BACKWARD


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an attempt."""

    kind: OutcomeKind
    facts: dict[str, Any] | None = None
    error: BaseException | None = None
    clock: Clock | None = None
    doubtful: bool = False
    """Whether an earlier attempt may still have happened, though this one did not."""

    owners: bool = False
    """Whether the function went well, and it was the saga's owner who failed."""

    late: bool = False
    """Whether the database was in the way: another session holds a lock that was wanted, or the server is
    away. That is not the step's doing, so no budget of attempts pays for it (R5); deadlines count on."""

    @property
    def done(self) -> bool:
        """Whether it went well."""
        return self.kind == OutcomeKind.DONE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded:
    """What was written, and what came of the attempt in the end: an owner's hook may have failed."""

    outcome: Outcome
    result: Result


STOP = Result(next=Next.STOP)


# --- The two protocols ----------------------------------------------------------------------------


def perform(
    saga_id: uuid.UUID | str,
    *,
    epoch: int,
    step: str,
    direction: Direction,
    context: WorkerContext | None = None,
) -> Result:
    """Carry out one step, or leave quietly if the row does not want it.

    1. Lock the row; leave unless the saga goes this way, is at this step, and in this epoch.
    2. A local step is called and recorded in the same transaction (`execute_local`).
    3. For a remote one the intent is committed; then `execute_remote`.

    Arguments:
        saga_id: the instance.
        epoch: of the dispatch that sent the message.
        step: the step's name.
        direction: FORWARD for its action, BACKWARD for its undo.
        context: the task and the worker that carry it out.

    Returns:
        What the chain is to do next.

    Raises:
        django.db.Error: the database is gone, or another session holds the instance's own row; the sweep
            takes over.
    """
    message = StepMessage(
        saga_id=saga_id, epoch=epoch, step=step, direction=direction, context=context or WorkerContext()
    )
    try:
        with transaction.atomic():
            work = store.lock(saga_id, step)
            if leave := admit(work, message):
                return leave
            attempt = claim(work, message)
            recorded = None if attempt.claimed else execute_local(work, attempt)
    except IntegrityError as error:
        return _record_rolled_back(message, _refused_at_commit(error))
    if recorded is None:
        return execute_remote(attempt) if attempt.step.remote else _record_claimed(attempt, None)
    if recorded.outcome.done:
        return recorded.result
    return _record_rolled_back(message, recorded.outcome)


def execute_local(work: UnitOfWork, attempt: Attempt) -> Recorded:
    """Call a local step's function and record it, in the transaction that holds the lock.

    Where the function or the saga's owner fails, the whole transaction is rolled back: it did not happen.
    That it failed is then recorded in a transaction of its own.
    """
    if (work.step.error or {}).get("kind") == FailureKind.LATE:
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {SECOND_LOOK_MS}")
    outcome = call(attempt)
    if not outcome.done:
        transaction.set_rollback(True)
        return Recorded(outcome=outcome, result=STOP)
    if not attempt.claimed:
        _count(work, attempt)
    recorded = record(work, attempt, outcome)
    if not recorded.outcome.done:
        transaction.set_rollback(True)
    return recorded


def execute_remote(attempt: Attempt) -> Result:
    """Call a claimed remote step's function with no transaction open, then record the outcome."""
    outcome = call(attempt)
    database.let_go(outcome.error)
    return _record_claimed(attempt, outcome)


# --- Admission and claim --------------------------------------------------------------------------


def admit(work: UnitOfWork, message: StepMessage) -> Result | None:
    """Whether this message may act now: None if it may, else what its chain is to do.

    What the row is due for before anything else, a deadline or a cancellation, is written here.
    """
    saga, step, now = work.saga, work.step, work.now
    working = SagaState.RUNNING if message.direction == Direction.FORWARD else SagaState.COMPENSATING
    if saga.epoch != message.epoch or saga.state != working or saga.held_at is not None:
        return STOP
    if saga.dispatched_at is None:
        return STOP  # No message is expected: a stray copy must not shorten a pause.
    if step.position != saga.position:
        passed = (saga.position - step.position) * message.direction > 0
        return _continue(saga) if passed else STOP
    if not transitions.is_free(step, now):
        return STOP
    if message.direction == Direction.FORWARD:
        if not transitions.past_pivot(saga, step) and _compensate_if_due(work):
            work.commit()
            return Result(next=Next.COMPENSATE)
        if step.state == StepState.WAITING and work.declared_step.ask is None:
            after = _end_wait(work)
            work.commit()
            return _result(work, after)
    if _needs_claim(work) and not transitions.admitted(work, take=True):
        transitions.park(work)
        work.commit()
        return STOP
    return None


def claim(work: UnitOfWork, message: StepMessage) -> Attempt:
    """Write the intent before the call, where the outcome may come to be unknown."""
    step, declared = work.step, work.declared_step
    waiting = work.forward and step.state == StepState.WAITING
    unknown = work.forward and step.state in (StepState.UNKNOWN, StepState.RUNNING)
    claimed = _needs_claim(work)
    if claimed:
        lease = registry.timeout(work.saga.name, step.name) + LEASE_MARGIN
        if work.forward:
            _intend_action(work, message.context, asks=waiting)
        else:
            _intend_undo(work, message.context)
        work.set_step(
            fence=step.fence + 1,
            lease_until=After(lease),
            task_id=message.context.task_id,
            worker=message.context.worker,
        )
        transitions.look_within(work, lease)
        work.commit()
    return Attempt(
        message=message,
        declared=work.declared,
        step=declared,
        row=step,
        fence=step.fence,
        begun_at=work.now,
        claimed=claimed,
        doubtful=declared.remote and unknown,
        only_asks=claimed and waiting,
    )


def _needs_claim(work: UnitOfWork) -> bool:
    return work.declared_step.remote or work.saga.dispatches >= CRASH_SUSPICION


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
        transitions.wake_after(work, wait_until - work.now)
        return Next.STOP
    return transitions.fail(work, failures.wait_over(work.step, work.now))


def _intend_action(work: UnitOfWork, context: WorkerContext, *, asks: bool) -> None:
    step = work.step
    if step.state == StepState.RUNNING:
        transitions.mark_unknown(work, {"clock": Clock.LEASE})
    attempts = step.attempts + (0 if asks else 1)
    kind = EventKind.STEP_ASKED if asks else EventKind.STEP_STARTED
    work.transition_step(StepState.RUNNING, kind, attempt=attempts, data=_shown(context))
    work.set_step(attempts=attempts)
    if step.started_at is None:
        work.set_step(started_at=NOW)


def _intend_undo(work: UnitOfWork, context: WorkerContext) -> None:
    step = work.step
    attempts = step.undo_attempts + 1
    if step.state == StepState.UNDOING:
        work.note(EventKind.UNDO_STARTED, subject=step.name, attempt=attempts, data=_shown(context))
    else:
        work.transition_step(
            StepState.UNDOING, EventKind.UNDO_STARTED, attempt=attempts, data=_shown(context)
        )
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


# --- The call -------------------------------------------------------------------------------------


def call(attempt: Attempt) -> Outcome:
    """Call the step's function, and say what came of it."""
    doubtful = attempt.doubtful
    try:
        if attempt.undo:
            calls.undo(attempt.declared, attempt.step, attempt.row)
            return Outcome(kind=OutcomeKind.DONE)
        if attempt.step.ask is not None and (attempt.doubtful or attempt.only_asks):
            facts = calls.ask(attempt.declared, attempt.step, attempt.row)
            if facts is not None:
                return Outcome(kind=OutcomeKind.DONE, facts=_facts(facts, attempt))
            if attempt.only_asks:
                never = NeverHappened(messages.NEVER_HAPPENED)
                return Outcome(kind=OutcomeKind.REFUSED, error=never, clock=Clock.WAIT)
            doubtful = False
        return Outcome(kind=OutcomeKind.DONE, facts=_facts(calls.do(attempt.step, attempt.row), attempt))
    except attempt.message.context.interrupts as interrupted:
        _cancel_statement()
        return Outcome(kind=_lost(attempt.step), error=interrupted, clock=Clock.ATTEMPT)
    except Exception as error:
        outcome = _classify(attempt, error)
        if doubtful and outcome.kind == OutcomeKind.TRANSIENT:
            # That this attempt did not happen says nothing about the one before.
            return dataclasses.replace(outcome, kind=OutcomeKind.UNKNOWN)
        return dataclasses.replace(outcome, doubtful=doubtful)


def _facts(answer: Any, attempt: Attempt) -> dict[str, Any]:
    """A function's answer as the row can keep it, with all of the step's outputs.

    Raises:
        BadFacts: it is not JSON, or not what PostgreSQL takes for it.
        KeyError: an output is missing.
    """
    facts = store.storable(answer)
    if missing := transitions.missing_facts(attempt.step, attempt.row, facts):
        raise KeyError(f"{attempt.step.name} gave no {', '.join(missing)}")
    return facts


def _classify(attempt: Attempt, error: Exception) -> Outcome:
    """Errors decide: that the database is in the way, what the declaration names, then it is a bug."""
    declared, step = attempt.declared, attempt.step
    if database.is_busy(error) or database.is_away(error):
        logger.info("saga step %s is late: %s", step.name, failures.text_of(error).partition("\n")[0])
        return Outcome(kind=_lost(step), error=error, late=True)
    for kind, named in (
        (OutcomeKind.REFUSED, declared.refused),
        (OutcomeKind.OUTAGE, declared.outage),
        (OutcomeKind.MISMATCH, declared.mismatch),
        (OutcomeKind.UNKNOWN, declared.unknown),
        (OutcomeKind.TRANSIENT, declared.retry_of(step, undo=attempt.undo).on),
    ):
        if isinstance(error, tuple(named)):
            return Outcome(kind=kind if step.remote else _LOCAL.get(kind, kind), error=error)
    if isinstance(error, MemoryError) or database.is_passing(error):
        return Outcome(kind=_lost(step), error=error)
    logger.error("saga step %s met a bug: %s", step.name, failures.traced(error, attempt.row.saga.facts))
    return Outcome(kind=OutcomeKind.BUG, error=error)


_LOCAL = {
    OutcomeKind.UNKNOWN: OutcomeKind.TRANSIENT,
    OutcomeKind.OUTAGE: OutcomeKind.TRANSIENT,
    OutcomeKind.MISMATCH: OutcomeKind.REFUSED,
}
"""A local function was rolled back with its transaction: nothing about it is unknown. Nor has it a provider
that could be out."""


def _lost(step: definition.Step) -> OutcomeKind:
    return OutcomeKind.UNKNOWN if step.remote else OutcomeKind.TRANSIENT


def _cancel_statement() -> None:
    """End the statement that the function was interrupted in.

    The database would go on with it though no worker waits for it any more, and hold all locks, this
    saga's among them, until it is done.
    """
    raw = connection.connection
    if raw is not None and raw.info.transaction_status == pq.TransactionStatus.ACTIVE:
        raw.cancel_safe(timeout=CANCEL_TIMEOUT_S)


class NeverHappened(Exception):
    """The provider knows nothing of it: what was begun there is gone."""


# --- The record -----------------------------------------------------------------------------------


def _record_rolled_back(message: StepMessage, outcome: Outcome) -> Result:
    """Record that a local step failed, unless another worker has meanwhile gone on."""
    database.let_go(outcome.error)
    with transaction.atomic():
        work = store.lock(message.saga_id, message.step)
        if leave := admit(work, message):
            return leave
        attempt = claim(work, message)
        if not attempt.claimed and not outcome.late:
            _count(work, attempt)
        return record(work, attempt, outcome).result


def _record_claimed(attempt: Attempt, outcome: Outcome | None) -> Result:
    """Record the outcome of a claimed attempt; a claimed local step is executed here.

    Where the saga's owner fails to take it, that is what is recorded, in a second transaction.
    """
    saga_id, step = attempt.message.saga_id, attempt.step
    try:
        with transaction.atomic():
            work = store.lock(saga_id, step.name)
            if work.step.fence != attempt.fence or work.step.state not in transitions.AT_WORK:
                # The lease ran out and another worker took over: what we know comes too late (D6).
                logger.warning("saga %s: %s lost its lease, its outcome is void", saga_id, step.name)
                return STOP
            work.set_step(lease_until=None)
            recorded = execute_local(work, attempt) if outcome is None else record(work, attempt, outcome)
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


def record(work: UnitOfWork, attempt: Attempt, outcome: Outcome) -> Recorded:
    """Write what came of it, and say how the saga goes on.

    The saga's end is not recorded if its owner's hook fails: then the outcome is the owner's failure, and
    the transaction must be rolled back. A hook that does not get a lock is late, as a function is.
    """
    excused = outcome.late or (attempt.step.remote and _tell_circuit(work.saga, attempt, outcome))
    if outcome.done:
        after = _undone(work) if attempt.undo else _done(work, outcome)
    elif attempt.undo:
        after = _undo_failed(work, attempt, outcome, excused)
    else:
        after = _action_failed(work, attempt, outcome, excused)
    if not outcome.done:
        work.commit()
        return Recorded(outcome=outcome, result=_result(work, after))
    try:
        work.commit()
    except errors.LostRace:
        raise
    except Exception as bug:
        if database.is_busy(bug):
            outcome = Outcome(kind=_lost(attempt.step), error=bug, late=True)
        elif database.is_passing(bug):
            raise
        else:
            logger.error("a saga's hook met a bug: %s", failures.traced(bug, {}))
            outcome = Outcome(kind=OutcomeKind.BUG, error=bug, owners=True)
    return Recorded(outcome=outcome, result=_result(work, after) if outcome.done else STOP)


def _result(work: UnitOfWork, after: Next) -> Result:
    """Add what a worker may carry on with where its own chain ends."""
    if after != Next.CONTINUE or work.saga.is_final:
        return Result(next=after)
    return _continue(work.saga)


def _continue(saga: models.SagaInstance) -> Result:
    return Result(next=Next.CONTINUE, dispatch=transitions.dispatch_of(saga))


def _done(work: UnitOfWork, outcome: Outcome) -> Next:
    wait = work.declared_step.wait
    facts = {**(work.step.facts or {}), **(outcome.facts or {})}
    work.set_step(facts=facts, error=None)
    if wait is not None and not facts.get(wait.until):
        return _wait(work, wait)
    transitions.finish_step(work, facts)
    if transitions.compensate_if_cancelled(work):
        return Next.COMPENSATE
    return transitions.advance(work)


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
        transitions.wake_after(work, late)
        return Next.STOP
    if out:
        transitions.park(work)
        return Next.STOP
    left = (work.step.wait_until or work.now) - work.now
    if left <= datetime.timedelta(0):
        return transitions.fail(work, failures.wait_over(work.step, work.now))
    transitions.wake_after(work, min(left, wait.poll) if wait.poll is not None else left)
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
        transitions.park(work)
    else:
        transitions.wake_after(work, _late_pause(failure) if outcome.late else _pause(work))
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
        transitions.wake_after(work, _late_pause(failure))
        return Next.STOP
    if step.state != StepState.UNDOING:
        work.transition_step(StepState.UNDOING, EventKind.UNDO_STARTED, attempt=step.undo_attempts)
    if outcome.kind in PASSING and (excused or not transitions.budget_spent(work)):
        work.note(EventKind.UNDO_RETRY, subject=step.name, attempt=step.undo_attempts, data=data)
        if excused:
            transitions.park(work)
        else:
            transitions.wake_after(work, _pause(work))
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


def _tell_circuit(saga: models.SagaInstance, attempt: Attempt, outcome: Outcome) -> bool:
    """Tell the service's circuit what came of it; says whether an outage excuses the failure (R4)."""
    if outcome.kind in (OutcomeKind.DONE, OutcomeKind.REFUSED, OutcomeKind.MISMATCH):
        circuits.worked(attempt.step.queue, begun_at=attempt.begun_at)
    elif outcome.kind in PASSING:
        assert outcome.error is not None, "what failed has an error"
        error = {
            "error": type(outcome.error).__name__,
            "kind": outcome.kind,
            # It is shown beside every saga of the service: this one's facts are struck out (A3).
            "message": failures.text_of(outcome.error, without=saga.facts),
            "step": attempt.step.name,
        }
        return circuits.failed(
            attempt.step.queue,
            saga.pk,
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
