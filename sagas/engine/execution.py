"""One step of one saga, forwards or back: the claim, the function, the record.

A local step is one transaction: lock, function, record. The action and its record commit together, so it
takes effect exactly once however often its message comes (E1).

A remote step is two: the intent is committed before the call, the call runs with no transaction
open, and its outcome is committed after, by whoever still holds the fence (D6). What happened
between them is known, or is *unknown* and is asked about (U1, U2).
"""

import contextlib
import dataclasses
import datetime
import enum
import logging
import random
import uuid
from collections.abc import Iterator
from typing import Any

from django.db import IntegrityError, connection, transaction
from psycopg import pq

from sagas import database, errors, models
from sagas.declaration import definition, registry
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import circuits, inbox, messages, store, transitions, transport
from sagas.engine.store import NOW, After, Change

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


class Next(enum.Enum):
    """What the message that carried the step is to do next."""

    CONTINUE = "go on"
    """The next step may try: the row says so, or will say otherwise."""

    STOP = "stop"
    """End quietly: the row knows when somebody must look again."""

    COMPENSATE = "turned"
    """The saga has turned round: have the error callback called."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """A verdict, and the dispatch that follows where this one ends."""

    next: Next
    dispatch: transport.Dispatch | None = None


STOP = Result(next=Next.STOP)
COMPENSATE = Result(next=Next.COMPENSATE)
CONTINUE = Result(next=Next.CONTINUE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """Who carries out a step: kept on its row, so that an operator finds the task and the worker."""

    task_id: str = ""
    worker: str = ""
    interrupts: tuple[type[BaseException], ...] = ()
    """What the context raises into a function that takes too long."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of calling a function."""

    kind: str
    """done, refused, outage, mismatch, transient, unknown or bug."""
    facts: dict[str, Any] | None = None
    error: BaseException | None = None
    clock: str | None = None
    doubtful: bool = False
    """Whether an earlier attempt may still have happened, though this one did not."""
    owners: bool = False
    """Whether the function went well, and it was the saga's owner who failed."""
    late: bool = False
    """Whether the database was in the way: another session holds a lock that was wanted, or the server is
    away. That is not the step's doing, so no budget of attempts pays for it (R5); deadlines count on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """A claimed step: what to call, and the fence that its record must still hold."""

    step: definition.Step
    row: models.StepInstance
    direction: Direction
    fence: int
    begun_at: datetime.datetime
    """By the database's clock."""
    claimed: bool = True
    """Whether the intent was written; a local step needs none, its action and record being one."""
    doubtful: bool = False
    """Whether an earlier attempt may have happened: ask first (U2). Only an answer ends the doubt."""
    only_asks: bool = False
    """The step waits: ask, and do nothing."""


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
    2. Claim the step. A local one is called and recorded in the same transaction.
    3. Call a remote one with no transaction open.
    4. Lock the row again and record the outcome, if the fence still holds.

    Arguments:
        saga_id: the instance.
        epoch: of the dispatch that sent the message.
        step: the step's name.
        direction: FORWARD for its action, BACKWARD for its undo.
        context: the task and the worker that carry it out.

    Returns:
        What the message is to do next.

    Raises:
        django.db.Error: the database is gone, or somebody holds the instance's own row; the sweep takes over.
    """
    context = context or WorkerContext()
    try:
        with transaction.atomic():
            locked = store.lock(saga_id, step)
            admitted = _admit(locked, epoch, direction, context)
            if isinstance(admitted, Result):
                return admitted
            attempt = admitted
            if not attempt.claimed:
                return _perform_here(locked, attempt, context)
    except _Thrown as thrown:
        # The function's transaction is rolled back: it did not happen. Say so in one of its own.
        database.let_go(thrown.outcome.error)
        return _record_thrown(saga_id, epoch, step, direction, thrown.outcome, context)
    except IntegrityError as error:
        return _record_thrown(saga_id, epoch, step, direction, _broken_at_commit(error), context)
    outcome = None if not attempt.step.remote else _call(attempt, context)
    if outcome is not None:
        database.let_go(outcome.error)
    try:
        return _record_claimed(saga_id, attempt, outcome, context)
    except _Thrown as thrown:
        database.let_go(thrown.outcome.error)
        return _record_claimed(saga_id, attempt, thrown.outcome, context)
    except IntegrityError as error:
        return _record_claimed(saga_id, attempt, _broken_at_commit(error), context)


def _admit(
    locked: store.Locked, epoch: int, direction: Direction, context: WorkerContext
) -> Result | Attempt:
    """Whether this message may act now; if it may, with the intent written where that is needed."""
    saga, row, now = locked.saga, locked.step, locked.now
    working = SagaState.RUNNING if direction == Direction.FORWARD else SagaState.COMPENSATING
    if saga.epoch != epoch or saga.state != working or saga.held_at is not None:
        return STOP
    if saga.dispatched_at is None:
        return STOP  # No message is expected: a stray copy must not shorten a pause.
    if row.position != saga.position:
        passed = (saga.position - row.position) * direction > 0
        return _go_on(saga) if passed else STOP
    if row.state in transitions.AT_WORK and row.lease_until is not None and row.lease_until > now:
        return STOP
    change = Change(saga, now)
    if direction == Direction.FORWARD and (result := _overtaken(change, row)):
        return result
    return _claim(change, row, direction, context)


def _overtaken(change: Change, row: models.StepInstance) -> Result | None:
    """A deadline or a cancellation that came before this attempt."""
    saga, now = change.saga, change.now
    if transitions.past_pivot(saga, row):
        return None
    if not transitions.turn_if_cancelled(change, row):
        if saga.deadline_at is None or saga.deadline_at > now:
            return None
        transitions.turn(change, row, transitions.deadline_over(row, now))
    change.write()
    return COMPENSATE


def _claim(
    change: Change, row: models.StepInstance, direction: Direction, context: WorkerContext
) -> Result | Attempt:
    """Write the intent before the call, where the outcome may come to be unknown."""
    saga = change.saga
    step = saga.definition.steps[row.position]
    forward = direction == Direction.FORWARD
    waiting = forward and row.state == StepState.WAITING
    if waiting and step.ask is None:
        return _wait_over(change, row)
    if not step.remote and saga.dispatches < CRASH_SUSPICION:
        return Attempt(
            step=step, row=row, direction=direction, fence=row.fence, begun_at=change.now, claimed=False
        )
    lease = registry.timeout(saga.name, step.name) + LEASE_MARGIN
    if not transitions.admitted(saga, row, take=True):
        transitions.park(change, row)
        change.write()
        return STOP
    unknown = forward and row.state in (StepState.UNKNOWN, StepState.RUNNING)
    if forward:
        _intend_action(change, row, context, asks=waiting)
    else:
        _intend_undo(change, row, context)
    change.set_step(
        row, fence=row.fence + 1, lease_until=After(lease), task_id=context.task_id, worker=context.worker
    )
    transitions.look_within(change, lease)
    change.write()
    return Attempt(
        step=step,
        row=row,
        direction=direction,
        fence=row.fence,
        begun_at=change.now,
        doubtful=step.remote and unknown,
        only_asks=waiting,
    )


def _intend_action(change: Change, row: models.StepInstance, context: WorkerContext, *, asks: bool) -> None:
    if row.state == StepState.RUNNING:
        transitions.lose(change, row, {"clock": "lease"})
    attempts = row.attempts + (0 if asks else 1)
    kind = "step.asked" if asks else "step.started"
    change.move_step(row, StepState.RUNNING, kind, attempt=attempts, data=_of(context))
    change.set_step(row, attempts=attempts)
    if row.started_at is None:
        change.set_step(row, started_at=NOW)


def _intend_undo(change: Change, row: models.StepInstance, context: WorkerContext) -> None:
    undo_attempts = row.undo_attempts + 1
    if row.state == StepState.UNDOING:
        change.note("undo.started", subject=row.name, attempt=undo_attempts, data=_of(context))
    else:
        change.move_step(row, StepState.UNDOING, "undo.started", attempt=undo_attempts, data=_of(context))
    change.set_step(row, undo_attempts=undo_attempts)
    if row.undo_started_at is None:
        change.set_step(row, undo_started_at=NOW)


def _perform_here(locked: store.Locked, attempt: Attempt, context: WorkerContext) -> Result:
    """Call a local function and record it in the transaction that holds the lock."""
    if _was_late(locked.step):
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {SECOND_LOOK_MS}")
    outcome = _call(attempt, context)
    if outcome.kind != "done":
        raise _Thrown(outcome)
    change = Change(locked.saga, locked.now)
    _count(change, locked.step, attempt.direction, context)
    with _hooks_bugs_thrown(attempt.step):
        return _record(change, locked.step, attempt, outcome)


def _record_thrown(
    saga_id: uuid.UUID | str,
    epoch: int,
    step: str,
    direction: Direction,
    outcome: Outcome,
    context: WorkerContext,
) -> Result:
    """Record that a local function failed, unless another worker has meanwhile gone on."""
    with transaction.atomic():
        locked = store.lock(saga_id, step)
        admitted = _admit(locked, epoch, direction, context)
        if isinstance(admitted, Result):
            return admitted
        change = Change(locked.saga, locked.now)
        if not admitted.claimed and not outcome.late:
            _count(change, locked.step, direction, context)
        return _record(change, locked.step, admitted, outcome)


def _record_claimed(
    saga_id: uuid.UUID | str, attempt: Attempt, outcome: Outcome | None, context: WorkerContext
) -> Result:
    """Record the outcome of a claimed attempt; a claimed local function is called here."""
    with transaction.atomic():
        locked = store.lock(saga_id, attempt.step.name)
        row = locked.step
        if row.fence != attempt.fence or row.state not in transitions.AT_WORK:
            # The lease ran out and somebody else took over: what we know comes too late (D6).
            logger.warning("saga %s: %s lost its lease, its outcome is void", saga_id, attempt.step.name)
            return STOP
        if outcome is None:
            outcome = _call(attempt, context)
            if outcome.kind != "done":
                raise _Thrown(outcome)
        change = Change(locked.saga, locked.now)
        change.set_step(row, lease_until=None)
        if outcome.kind != "done":
            return _record(change, row, attempt, outcome)
        with _hooks_bugs_thrown(attempt.step):
            return _record(change, row, attempt, outcome)


def _broken_at_commit(error: IntegrityError) -> Outcome:
    """A deferred constraint refused the rows of the function, or of a hook, when all was to be committed."""
    logger.error("a saga's rows were refused at their commit: %s", type(error).__name__)
    return Outcome(kind="bug", error=error)


@contextlib.contextmanager
def _hooks_bugs_thrown(step: definition.Step) -> Iterator[None]:
    """The saga's end is not recorded if its owner's hook fails: a person is called, and it is tried again.

    One that does not get a lock is late, as a function is.
    """
    try:
        yield
    except errors.LostRace:
        raise
    except Exception as bug:
        if database.is_busy(bug):
            raise _Thrown(Outcome(kind=_lost(step), error=bug, late=True)) from bug
        if database.is_passing(bug):
            raise
        logger.error("a saga's hook met a bug: %s", transitions.traced(bug, {}))
        raise _Thrown(Outcome(kind="bug", error=bug, owners=True)) from bug


def _count(change: Change, row: models.StepInstance, direction: Direction, context: WorkerContext) -> None:
    """Count a local attempt, with its record."""
    if direction == Direction.FORWARD:
        change.set_step(row, attempts=row.attempts + 1, started_at=row.started_at or change.now)
    else:
        change.set_step(
            row, undo_attempts=row.undo_attempts + 1, undo_started_at=row.undo_started_at or change.now
        )
    change.set_step(row, task_id=context.task_id, worker=context.worker)


def _call(attempt: Attempt, context: WorkerContext) -> Outcome:
    """Call the function, and say what came of it."""
    step, row = attempt.step, attempt.row
    saga, doubtful = row.saga, attempt.doubtful
    try:
        if attempt.direction == Direction.BACKWARD:
            assert step.undo is not None, "only steps with an undo are undone"
            return Outcome(kind="done", facts=step.undo(key=row.key))
        if step.ask is not None and (attempt.doubtful or attempt.only_asks):
            facts = step.ask(key=row.key)
            if facts is not None:
                return Outcome(kind="done", facts=_facts(facts, step, row))
            if attempt.only_asks:
                return Outcome(kind="refused", error=NeverHappened(messages.NEVER_HAPPENED), clock="wait")
            doubtful = False
        facts = step.do(key=row.key, **{name: saga.facts[name] for name in step.inputs})
        return Outcome(kind="done", facts=_facts(facts, step, row))
    except context.interrupts as interrupted:
        _cancel_statement()
        return Outcome(kind=_lost(step), error=interrupted, clock="attempt")
    except Exception as error:
        outcome = _classify(saga.definition, step, attempt, error)
        if doubtful and outcome.kind == "transient":
            # That this attempt did not happen says nothing about the one before.
            return dataclasses.replace(outcome, kind="unknown")
        return dataclasses.replace(outcome, doubtful=doubtful)


def _cancel_statement() -> None:
    """End the statement that the function was interrupted in.

    The database would go on with it though nobody waits for it any more, and hold all locks, this
    saga's among them, until it is done.
    """
    raw = connection.connection
    if raw is not None and raw.info.transaction_status == pq.TransactionStatus.ACTIVE:
        raw.cancel_safe(timeout=CANCEL_TIMEOUT_S)


def _facts(answer: Any, step: definition.Step, row: models.StepInstance) -> dict[str, Any]:
    """A function's answer as the row can keep it, with all that it was to give.

    Raises:
        BadFacts: it is not JSON, or not what PostgreSQL takes for it.
        KeyError: a fact is missing that later steps ask for.
    """
    facts = store.storable(answer)
    if missing := transitions.missing_facts(step, row, facts):
        raise KeyError(f"{step.name} gave no {', '.join(missing)}")
    return facts


def _classify(
    declared: definition.Saga, step: definition.Step, attempt: Attempt, error: Exception
) -> Outcome:
    """Errors decide: that the database is in the way, what the declaration names, then it is a bug."""
    if database.is_busy(error) or database.is_away(error):
        logger.info("saga step %s is late: %s", step.name, transitions.words_of(error).partition("\n")[0])
        return Outcome(kind=_lost(step), error=error, late=True)
    retry = declared.retry_of(step, undo=attempt.direction == Direction.BACKWARD)
    for kind, named in (
        ("refused", declared.refused),
        ("outage", declared.outage),
        ("mismatch", declared.mismatch),
        ("unknown", declared.unknown),
        ("transient", retry.on),
    ):
        if isinstance(error, tuple(named)):
            # A local function was rolled back with its transaction: nothing about it is unknown. Nor has it
            # a provider that could be out.
            if not step.remote:
                kind = {"unknown": "transient", "outage": "transient", "mismatch": "refused"}.get(kind, kind)
            return Outcome(kind=kind, error=error)
    if isinstance(error, MemoryError) or database.is_passing(error):
        return Outcome(kind=_lost(step), error=error)
    logger.error("saga step %s met a bug: %s", step.name, transitions.traced(error, attempt.row.saga.facts))
    return Outcome(kind="bug", error=error)


def _lost(step: definition.Step) -> str:
    return "unknown" if step.remote else "transient"


def _record(change: Change, row: models.StepInstance, attempt: Attempt, outcome: Outcome) -> Result:
    """Write what came of it, and say how the saga goes on."""
    excused = outcome.late or (attempt.step.remote and _tell_circuit(change.saga, attempt, outcome))
    if attempt.direction == Direction.FORWARD:
        result = _record_action(change, row, attempt, outcome, excused)
    else:
        result = _record_undo(change, row, attempt, outcome, excused)
    change.write()
    return _with_errand(change, result)


def _record_action(
    change: Change, row: models.StepInstance, attempt: Attempt, outcome: Outcome, excused: bool
) -> Result:
    if outcome.kind == "done":
        return _record_done(change, row, attempt, outcome)
    return _record_failure(change, row, attempt, outcome, excused)


def _record_done(change: Change, row: models.StepInstance, attempt: Attempt, outcome: Outcome) -> Result:
    step = attempt.step
    facts = {**(row.facts or {}), **(outcome.facts or {})}
    change.set_step(row, facts=facts, error=None)
    if step.wait is not None and not facts.get(step.wait.until):
        return _wait(change, row, step.wait)
    transitions.finish_step(change, row, facts)
    if transitions.turn_if_cancelled(change, row):
        return COMPENSATE
    transitions.advance(change, row)
    return CONTINUE


def _wait(
    change: Change,
    row: models.StepInstance,
    wait: definition.Wait,
    *,
    out: bool = False,
    late: datetime.timedelta | None = None,
) -> Result:
    """Begin to wait, or go on waiting; when the limit is over the step has failed.

    A callback that came before anybody waited for it lies in the inbox, and is taken up now. Where the
    provider could not be asked because it is out, or the database was in the way, it is asked once more.

    Arguments:
        out: whether the provider is out: it is asked when it works again.
        late: if the database was in the way, how long until it is asked again.
    """
    if row.wait_until is None:
        change.set_step(row, wait_until=After(wait.limit))
    change.move_step(row, StepState.WAITING, "step.waiting", attempt=row.attempts)
    if ended := inbox.take_stored(change, row):
        return COMPENSATE if ended == "turned" else CONTINUE
    if transitions.turn_if_cancelled(change, row):
        return COMPENSATE
    if late is not None:
        transitions.wake_after(change, late)
        return STOP
    if out:
        transitions.park(change, row)
        return STOP
    left = (row.wait_until or change.now) - change.now
    if left <= datetime.timedelta(0):
        return _failed(change, row, _over(row, change.now))
    transitions.wake_after(change, min(left, wait.poll) if wait.poll is not None else left)
    return STOP


def _failed(change: Change, row: models.StepInstance, failure: dict[str, Any], **how: bool) -> Result:
    turned = transitions.fail(change, row, failure, **how)
    return COMPENSATE if turned else STOP


def _wait_over(change: Change, row: models.StepInstance) -> Result:
    """A waiting step that nobody can be asked about: what lies in the inbox decides, or its limit."""
    if ended := inbox.take_stored(change, row):
        result = COMPENSATE if ended == "turned" else _with_errand(change, CONTINUE)
    elif row.wait_until is not None and row.wait_until > change.now:
        transitions.wake_after(change, row.wait_until - change.now)
        result = STOP
    else:
        result = _failed(change, row, _over(row, change.now))
    change.write()
    return result


def _over(row: models.StepInstance, now: datetime.datetime) -> dict[str, Any]:
    return transitions.failure(row, "timeout", now=now, clock="wait", message=messages.WAIT_OVER)


def _record_failure(
    change: Change, row: models.StepInstance, attempt: Attempt, outcome: Outcome, excused: bool
) -> Result:
    """An action that did not go well: again, or round, or to a person.

    `excused` says that the provider is out, or the database in the way: that is not held against the saga,
    and only clocks end it (R4).
    """
    saga, step, now = change.saga, attempt.step, change.now
    retry = saga.definition.retry_of(step, undo=False)
    failure = transitions.failure(row, outcome.kind, now=now, error=outcome.error, clock=outcome.clock)
    if outcome.late:
        failure |= _late(row, step, outcome)
        if step.budget is not None:
            change.set_step(row, started_at=row.started_at or now)
    change.set_step(row, error=failure)
    if outcome.owners:
        return _failed(change, row, failure, owners=True)
    if outcome.kind == "mismatch":
        return COMPENSATE if transitions.contradict(change, row, failure) else STOP
    if attempt.only_asks and outcome.kind != "refused":
        # The wait goes on: not to be told is no answer. Its limit decides.
        assert step.wait is not None, "only a step with a wait waits"
        if row.wait_until is None or row.wait_until > now or excused:
            late = _late_pause(failure) if outcome.late else None
            return _wait(change, row, step.wait, out=excused, late=late)
        failure["clock"] = "wait"
    elif outcome.kind in PASSING:
        out_of_time = transitions.out_of_time(change, row)
        if excused and attempt.claimed:
            change.set_step(row, excused=row.excused + 1)
        if not out_of_time and (excused or not transitions.budget_spent(change, row)):
            return _again(change, row, retry, outcome, failure, excused)
        if out_of_time:
            failure["clock"] = "budget"
    # It may have happened: the answer was lost, or the function broke off, or it was begun and nobody knows more.
    unknown = _unknown(outcome)
    begun = attempt.only_asks and outcome.kind != "refused"
    happened = unknown or (outcome.kind == "bug" and step.remote) or begun
    return _failed(change, row, failure, unknown=unknown, provable=not happened)


PASSING = ("transient", "unknown", "outage")
"""What may go well another time."""


def _unknown(outcome: Outcome) -> bool:
    """Whether the action may have happened: by this attempt, or an earlier one that nobody could ask about."""
    return outcome.kind == "unknown" or (outcome.kind == "outage" and outcome.doubtful)


def _again(
    change: Change,
    row: models.StepInstance,
    retry: definition.Retry,
    outcome: Outcome,
    failure: dict[str, Any],
    excused: bool,
) -> Result:
    """Another attempt after a pause, or once the provider is back: no message carries the time."""
    if outcome.late:
        pause = _late_pause(failure)
    else:
        attempts = max(transitions.counted(row, undo=False), 1)
        pause = retry.pause(attempt=attempts, chance=random.random())  # noqa: S311 - no secret
    kind = "step.unknown" if _unknown(outcome) else "step.late" if outcome.late else "step.retry"
    to = StepState.UNKNOWN if _unknown(outcome) else StepState.PENDING
    if row.state == to:
        change.note(kind, subject=row.name, attempt=row.attempts, data=failure)
    else:
        change.move_step(row, to, kind, attempt=row.attempts, data=failure)
    if transitions.turn_if_cancelled(change, row):
        return COMPENSATE
    if excused and not outcome.late:
        transitions.park(change, row)
    else:
        transitions.wake_after(change, pause)
    return STOP


def _record_undo(
    change: Change, row: models.StepInstance, attempt: Attempt, outcome: Outcome, excused: bool
) -> Result:
    saga, step, now = change.saga, attempt.step, change.now
    if outcome.kind == "done":
        change.move_step(row, StepState.UNDONE, "undo.done", attempt=row.undo_attempts)
        change.set_step(row, undone_at=NOW)
        transitions.advance(change, row)
        return CONTINUE
    retry = saga.definition.retry_of(step, undo=True)
    failure = transitions.failure(row, outcome.kind, now=now, error=outcome.error, clock=outcome.clock)
    failure["attempt"] = row.undo_attempts
    if outcome.late:
        failure |= _late(row, step, outcome)
    change.set_step(row, error=failure)
    if excused and attempt.claimed:
        change.set_step(row, undo_excused=row.undo_excused + 1)
    if outcome.late:
        change.note("undo.late", subject=row.name, attempt=row.undo_attempts, data=failure)
        transitions.wake_after(change, _late_pause(failure))
        return STOP
    if row.state != StepState.UNDOING:
        change.move_step(row, StepState.UNDOING, "undo.started", attempt=row.undo_attempts)
    passing = outcome.kind in PASSING
    if passing and (excused or not transitions.budget_spent(change, row)):
        attempts = max(transitions.counted(row, undo=True), 1)
        pause = retry.pause(attempt=attempts, chance=random.random())  # noqa: S311 - no secret
        change.note("undo.retry", subject=row.name, attempt=row.undo_attempts, data=failure)
        if excused:
            transitions.park(change, row)
        else:
            transitions.wake_after(change, pause)
        return STOP
    transitions.fail_undo(change, row, failure)
    return STOP


def _late(row: models.StepInstance, step: definition.Step, outcome: Outcome) -> dict[str, Any]:
    """What the failure of a step says that was late: what it waits for, and how often it was by now."""
    if database.is_busy(outcome.error):
        table = database.held_table(outcome.error)
        message = messages.LOCK_HELD_IN % {"table": table} if table else messages.LOCK_HELD
    else:
        message = messages.DATABASE_AWAY
    said = {"message": message, "late": 1 + (row.error or {}).get("late", 0)}
    return said if step.remote else said | {"kind": "late"}


def _late_pause(failure: dict[str, Any]) -> datetime.timedelta:
    """How long until a step that was late is looked at again."""
    return LATE.pause(attempt=failure["late"], chance=random.random())  # noqa: S311 - no secret


def _was_late(row: models.StepInstance) -> bool:
    return (row.error or {}).get("kind") == "late"


def _with_errand(change: Change, result: Result) -> Result:
    """Add what a worker may carry on with where its own chain ends."""
    saga = change.saga
    if result.next != Next.CONTINUE or saga.is_final:
        return result
    return Result(next=result.next, dispatch=transitions.dispatch_of(saga))


def _go_on(saga: models.SagaInstance) -> Result:
    return Result(next=Next.CONTINUE, dispatch=transitions.dispatch_of(saga))


def _tell_circuit(saga: models.SagaInstance, attempt: Attempt, outcome: Outcome) -> bool:
    """Tell the service's circuit what came of it; says whether an outage excuses the failure (R4)."""
    if outcome.kind in ("done", "refused", "mismatch"):
        circuits.worked(attempt.step.queue, begun_at=attempt.begun_at)
    elif outcome.kind in PASSING:
        assert outcome.error is not None, "what failed has an error"
        error = {
            "error": type(outcome.error).__name__,
            "kind": outcome.kind,
            # It is shown beside every saga of the service: what this one was given is struck out (A3).
            "message": transitions.words_of(outcome.error, without=saga.facts),
            "step": attempt.step.name,
        }
        return circuits.failed(
            attempt.step.queue,
            saga.pk,
            troubled_since=_troubled_since(attempt),
            error=error,
            outage=outcome.kind == "outage",
        )
    return False


def _troubled_since(attempt: Attempt) -> datetime.datetime | None:
    """When the first of the attempts began that failed at the service, at this action or at its undo."""
    row = attempt.row
    undone = attempt.direction == Direction.BACKWARD and row.facts is not None
    return row.undo_started_at if undone else row.started_at


def _of(context: WorkerContext) -> dict[str, Any]:
    return {"task_id": context.task_id, "worker": context.worker} if context.task_id else {}


class _Thrown(Exception):
    """A local function failed; carries its outcome out of the transaction, which is rolled back."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.kind)


class NeverHappened(Exception):
    """The provider knows nothing of it: what was begun there is gone."""
