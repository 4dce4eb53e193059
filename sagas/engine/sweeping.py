"""The one place for everything that takes time: retries, timers, deadlines, lost messages, dead workers.

A sweep finds the rows whose time has come by the database's clock (D9), decides what is due, and
sends them on their way again. Any number of sweepers may run: each takes rows that no other holds.
"""

import datetime
import functools
import logging
import uuid
from collections.abc import Collection
from typing import Any

from django.db import connection, transaction
from django.db.models import F, QuerySet, functions

from sagas import database, errors, models
from sagas.declaration import definition
from sagas.declaration.states import SagaState, StepState
from sagas.engine import (
    approvals,
    callbacks,
    children,
    circuits,
    dispatching,
    failures,
    late_compensation,
    messages,
    pacing,
    parallel,
    parents,
    probes,
    store,
    transitions,
    transport,
)
from sagas.engine.attempts import STOP, Result
from sagas.engine.kinds import Clock, EventKind, FailureKind, Next
from sagas.engine.store import After, UnitOfWork
from sagas.models import SagaInstance, Signal

logger = logging.getLogger("sagas")

BATCH = 100
"""How many sagas one sweep sends on at most: a rate limit, and the longest that locks are held."""

HEARTBEAT_EVERY = datetime.timedelta(seconds=5)
"""How often the sweep writes that it lives; an UPDATE with every sweep would be a waste."""

LONGEST_LATE_PAUSE = datetime.timedelta(hours=1)
"""However long a late callback's compensation was sent in vain, it is sent again after this long."""

UNDECLARED_PAUSE = datetime.timedelta(seconds=30)
"""How soon the sweep looks again at a saga whose version this process does not know: while a deployment
rolls out, the next sweeper may."""

ELSEWHERE_PAUSE = datetime.timedelta(seconds=1)
"""How soon a message is sent again that came to a process which does not know its saga."""

UNDECLARED = (
    "saga %s waits: %s v%s is not declared in the code that runs here. Restart every process with the code "
    "that declares it: the web server, the workers, and whoever sweeps"
)
"""What is logged of it then, with its id, its name and its version."""


def sweep(limit: int = BATCH) -> int:
    """Send on what is due.

    1. Let a few through to services that are out, and wake some of those that wait for one that works again.
    2. Lock the live rows whose `wake_at` has come, skipping those that another session holds.
    3. Decide for each: compensate, call a person, count as unknown; what is to be sent on stands in the
       line of its queue. The same for steps that are done at once with others, and have timers of their own.
    4. Have the compensations of late callbacks tried.
    5. Send probes through the queues.
    6. Send of each line as much as its queue takes.
    7. Write down that there was a sweep, so that it shows when no sweep comes.

    Returns:
        How many sagas it looked at; if that is `limit`, there may be more.
    """
    parked, sagas_due, members_due, children_tell, signals_due, lines = _due()
    if parked:
        circuits.tend()
    # Those that were woken just now are due as well.
    swept = _sweep_sagas(limit) if parked or sagas_due else 0
    if parked or members_due:
        _sweep_members(limit)
    for saga_id, step in children.unheard(limit) if children_tell else ():
        parents.take_up(saga_id, step)
    if signals_due:
        _sweep_signals(limit)
    probes.probe_queues()
    if swept or lines:
        pacing.serve_all()
    _beat()
    return swept


def on_chain_error(saga_id: uuid.UUID | str, epoch: int, step: str | None = None) -> Result:
    """Ask the row what the error callback of a chain is to do; the call itself proves nothing.

    It may come late, twice, or although nothing failed. The row decides:

    1. Compensating, and its undo chain not sent yet: send it.
    2. An older epoch: the saga has been sent on already.
    3. Still running, and no attempt under way: the worker died, or could not publish. Send it on, but only
       once: what fails again and again goes through the sweep, which lets time pass in between.

    Arguments:
        saga_id: the saga.
        epoch: of the chain: the saga's, or that of the step.
        step: of a chain of one step that is done at once with others, that step.

    Returns:
        What is to be sent, or carried on with by whoever asked.
    """
    with transaction.atomic():
        work = store.lock(saga_id, step)
        saga, cursor = work.saga, work.cursor
        if saga.held_at is not None:
            return STOP
        unsent = saga.state == SagaState.COMPENSATING and saga.dispatched_at is None and saga.dispatches == 0
        broken = (
            saga.state == SagaState.RUNNING and cursor.dispatched_at is not None and cursor.dispatches == 1
        )
        if unsent:
            # Whichever chain it was that ended: nobody else sends it before the sweep.
            onward = dispatching.redispatch(work)
        elif broken and cursor.epoch == epoch and _may_be_sent(work):
            onward = dispatching.redispatch_step(work)
        else:
            return STOP
        for one in onward[1:]:
            work.send(one)
        work.commit()
    return Result(next=Next.CONTINUE, dispatch=onward[0]) if onward else STOP


def leave_to_others(saga_id: uuid.UUID | str, epoch: int, step: str) -> None:
    """Have a message sent again a little later that this process cannot carry out, for another one.

    While a deployment rolls out, processes with older and newer declarations stand at the same queue. What
    comes to the wrong one costs no attempt, and no suspicion that the step kills its workers.

    Arguments:
        saga_id: the saga.
        epoch: of the message: the saga's, or that of the step.
        step: the step that the message is for.
    """
    with transaction.atomic():
        work = store.lock(saga_id, step)
        saga, cursor = work.saga, work.cursor
        if saga.state not in dispatching.WORKING or saga.held_at is not None or cursor.epoch != epoch:
            return
        if cursor.dispatched_at is None or not parallel.is_free(work.step, work.now):
            return  # It waits for something else by now, or somebody is at it.
        dispatching.wake_after(work, ELSEWHERE_PAUSE)
        work.commit()


def _may_be_sent(work: UnitOfWork) -> bool:
    """Whether the step is to be tried, and no attempt at it is under way."""
    return parallel.is_wanted(work) if work.step.is_member else parallel.is_free(work.step, work.now)


# --- Which are due --------------------------------------------------------------------------------


def _due() -> tuple[bool, bool, bool, bool, bool, bool]:
    """Whether any saga waits for a service; any saga, member or callback is due; any stands in line.

    Mostly none; nothing is locked.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM sagas_saga WHERE parked_for IS NOT NULL)"
            " OR EXISTS (SELECT FROM sagas_step WHERE parked_for IS NOT NULL),"
            " EXISTS (SELECT FROM sagas_saga"
            " WHERE wake_at <= statement_timestamp() AND held_at IS NULL AND closed_at IS NULL),"
            " EXISTS (SELECT FROM sagas_step WHERE wake_at <= statement_timestamp()),"
            " EXISTS (SELECT FROM sagas_saga WHERE tells_parent_at IS NOT NULL),"
            " EXISTS (SELECT FROM sagas_signal WHERE wake_at <= statement_timestamp()),"
            " EXISTS (SELECT FROM sagas_saga WHERE in_line_for IS NOT NULL)"
        )
        row: tuple[bool, bool, bool, bool, bool, bool] = cursor.fetchone()
    return row


def _due_sagas() -> QuerySet[SagaInstance]:
    due = SagaInstance.objects.filter(wake_at__lte=functions.Now(), held_at=None, closed_at=None)
    return due.select_for_update(skip_locked=True)


def _sweep_sagas(limit: int) -> int:
    with transaction.atomic():
        due = list(_due_sagas().order_by("wake_at")[:limit])
        if not due:
            return 0
        now = models.database_now()
        steps = _steps_at(due)
        returned = dict(models.Queue.objects.values_list("name", "returned_sent_at"))
        undecided = []
        lost, queued = [], []
        for saga in due:
            if not _only_wants_a_message(saga, steps[saga.pk], now):
                undecided.append(saga)
            elif saga.dispatched_at is None or probes.is_lost(
                saga, dispatching.queue_of(saga), now, returned
            ):
                lost.append(saga)
            else:
                # A backlog is not a loss: to send the message again would only make the queue longer.
                queued.append(saga)
        _look_again(queued, now)
        pacing.line_up(lost)
        for saga in undecided:
            if not _has_children(saga):
                _wake_or_call(UnitOfWork(saga, steps[saga.pk], now))
    for saga in undecided:
        if _has_children(saga):
            _wake_alone(saga.pk)
    return len(due)


def _has_children(saga: SagaInstance) -> bool:
    try:
        return bool(saga.definition.children)
    except errors.UnknownSaga:
        return False


def _wake_alone(saga_id: uuid.UUID) -> None:
    """Wake a saga that may want the rows of its children, and so must hold no other's meanwhile.

    Two sweepers that each hold a batch, with a parent and the child of another's in it, would wait for each
    other.
    """
    with transaction.atomic():
        saga = _due_sagas().filter(pk=saga_id).first()
        if saga is not None:
            step = _steps_at([saga])[saga.pk]
            _wake_or_call(UnitOfWork(saga, step, models.database_now()))


def _wake_or_call(work: UnitOfWork) -> None:
    try:
        with transaction.atomic():
            _wake(work)
    except Exception as bug:
        _could_not_be_woken(work.saga, bug)


def _could_not_be_woken(saga: SagaInstance, bug: Exception) -> None:
    """One that cannot be woken, because its owner's hook fails, say, stops no other."""
    if database.is_passing(bug):
        # A lock that was not given, say, to its owner's hook. Had the database gone, this would fail.
        logger.warning("saga %s could not be woken: %s", saga.pk, failures.text_of(bug))
        _put_off(saga.pk, dispatching.grace())
        return
    logger.error("saga %s could not be woken: %s", saga.pk, failures.traced(bug, saga.facts))
    _call_for_help(saga.pk, bug)


_DUE_MEMBERS = """
SELECT s.saga_id, s.name FROM sagas_step s JOIN sagas_saga g ON g.id = s.saga_id
WHERE s.wake_at <= statement_timestamp() AND g.held_at IS NULL AND g.closed_at IS NULL
  AND g.state IN ('running', 'compensating')
ORDER BY s.wake_at LIMIT %s
"""


def _sweep_members(limit: int) -> None:
    """Decide for members of stages whose time has come: each under the lock of its saga's row, one by one."""
    with connection.cursor() as cursor:
        cursor.execute(_DUE_MEMBERS, [limit])
        due = cursor.fetchall()
    returned = dict(models.Queue.objects.values_list("name", "returned_sent_at")) if due else {}
    for saga_id, name in due:
        with transaction.atomic():
            if not SagaInstance.objects.select_for_update(skip_locked=True).filter(pk=saga_id).exists():
                continue  # Whoever holds it looks after it.
            work = store.lock(saga_id, name)
            try:
                with transaction.atomic():
                    _wake_member(work, returned)
            except Exception as bug:
                _could_not_be_woken(work.saga, bug)


def _wake_member(work: UnitOfWork, returned: dict[str, datetime.datetime | None]) -> None:
    """Decide what a member of a stage is due for: as `_wake` does for a saga, but its row's matters only."""
    saga, step, now = work.saga, work.step, work.now
    if saga.state not in dispatching.WORKING or step.wake_at is None or step.wake_at > now:
        return
    try:
        work.declared_step  # noqa: B018 - its version may be gone.
    except errors.UnknownSaga:
        logger.error(UNDECLARED, saga.pk, saga.name, saga.version)
        work.set_step(wake_at=After(UNDECLARED_PAUSE))
        work.commit()
        return
    if not dispatching.at_hand(work):
        work.set_step(wake_at=None)
    elif not parallel.is_free(step, now):
        work.set_step(wake_at=step.lease_until)
    elif step.state == StepState.RUNNING and not work.forward:
        if transitions.end_drain(work):
            dispatching.dispatch(work)
    elif not work.declared_step.has_worker:
        _wake_without_worker(work)
    elif not parallel.is_wanted(work):
        work.set_step(wake_at=None)
    elif step.state in parallel.AT_WORK and step.lease_until is not None:
        _lease_over(work)
    elif step.dispatched_at is not None and not probes.is_lost(
        work.cursor, work.declared_step.queue, now, returned
    ):
        work.set_step(wake_at=After(_pause(now - step.dispatched_at)))
    else:
        if step.parked_for is not None:
            _fail_if_budget_over(work)
        dispatching.line_up(work)
    work.commit()


def _steps_at(sagas: list[SagaInstance]) -> dict[uuid.UUID, models.StepInstance]:
    """The step that each is at, locked (the last one when all are done)."""
    at: dict[uuid.UUID, models.StepInstance] = {}
    by_id = {saga.pk: saga for saga in sagas}
    rows = models.StepInstance.objects.select_for_update(of=("self",)).order_by("saga_id", "position")
    for step in rows.filter(saga__in=sagas, position=F("saga__position")):
        step.saga = by_id.pop(step.saga_id)
        at[step.saga_id] = step
    for step in rows.filter(saga__in=list(by_id)) if by_id else ():
        step.saga = by_id[step.saga_id]
        at[step.saga_id] = step
    return at


def _only_wants_a_message(saga: SagaInstance, step: models.StepInstance, now: datetime.datetime) -> bool:
    """Whether there is nothing to decide: it waits for a message of its own, or needs one."""
    try:
        turns = not transitions.past_pivot(saga, step) and saga.cancel_requested_at is not None
        stage = saga.definition.stage_at(step.position)
        alone = (
            stage.is_sent_alone
            and (saga.epoch > 0 or (stage.is_plain and saga.parent_id is None))
            and not children.waits_for_parent(saga)
        )
    except errors.UnknownSaga:
        return False
    return (
        alone
        and saga.state in dispatching.WORKING
        and saga.parked_for is None
        and not (step.state in parallel.AT_WORK and step.lease_until is not None)
        and (saga.deadline_at is None or saga.deadline_at > now)
        and not (turns and saga.state == SagaState.RUNNING)
    )


def _look_again(queued: Collection[SagaInstance], now: datetime.datetime) -> None:
    """Put off, in one statement, those whose messages wait their turn: the longer they have, the longer."""
    pauses = [_pause(now - saga.dispatched_at) for saga in queued if saga.dispatched_at is not None]
    if pauses:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE sagas_saga SET wake_at = LEAST(deadline_at, clock_timestamp() + look.pause)"
                " FROM unnest(%s::uuid[], %s::interval[]) AS look (id, pause) WHERE sagas_saga.id = look.id",
                [[saga.pk for saga in queued], pauses],
            )


def _pause(waited: datetime.timedelta) -> datetime.timedelta:
    """How long until the sweep asks after a message that has been under way for so long."""
    grace = dispatching.grace()
    return grace - waited if waited < grace else min(max(waited / 4, grace), probes.LONGEST_LOOK_PAUSE)


def _call_for_help(saga_id: uuid.UUID, bug: Exception) -> None:
    """A person is called for a saga that cannot be woken; if that is not possible either, it is put off."""
    try:
        with transaction.atomic():
            work = store.lock(saga_id)
            failure = failures.failure(work.step, FailureKind.BUG, now=work.now, error=bug)
            transitions.keep_first_failure(work, failure)
            transitions.require_attention(
                work,
                why=messages.CANNOT_BE_MOVED % {"error": failure.error, "message": failure.message},
                advice=messages.SEE_TO_THE_HOOK,
                resume=True,
            )
            work.commit()
    except Exception:
        logger.exception("no person could be called for saga %s; the sweep will try again", saga_id)
        _put_off(saga_id, dispatching.LONGEST_GRACE)


def _put_off(saga_id: uuid.UUID, pause: datetime.timedelta) -> None:
    SagaInstance.objects.filter(pk=saga_id).update(wake_at=functions.Now() + pause)


# --- What each is due for -------------------------------------------------------------------------


def _wake(work: UnitOfWork) -> None:
    """Decide what a due row is due for, in the order in which the reasons win."""
    saga, step, now = work.saga, work.step, work.now
    try:
        past_pivot = transitions.past_pivot(saga, step)
    except errors.UnknownSaga:
        # Its version is gone from the code (sagas.E011). Other processes may still have it.
        logger.error(UNDECLARED, saga.pk, saga.name, saga.version)
        work.set(wake_at=After(UNDECLARED_PAUSE))
        work.commit()
        return
    if saga.parent_id is not None and (children.waits_for_parent(saga) or dispatching.not_entered(work)):
        work.set(wake_at=After(children.START_LOOK))
        children.report(work)
    elif saga.state == SagaState.NEEDS_ATTENTION:
        transitions.resume(work, reason="trying again may help by now")
        dispatching.line_up(work)
    elif not parallel.is_free(step, now) and not step.is_member:
        work.set(wake_at=step.lease_until)
    elif saga.deadline_at is not None and saga.deadline_at <= now:
        _deadline_over(work)
    elif saga.state == SagaState.RUNNING and saga.cancel_requested_at is not None and not past_pivot:
        transitions.compensate_if_cancelled(work)
        dispatching.line_up(work)
    elif dispatching.not_entered(work):
        transitions.start(work)
    elif work.stage.parallel is not None:
        _look_at_stage(work)
    elif not work.declared_step.has_worker:
        _wake_without_worker(work)
    elif step.state in parallel.AT_WORK and step.lease_until is not None:
        _lease_over(work)
    else:
        if saga.parked_for is not None:
            _fail_if_budget_over(work)
        dispatching.line_up(work)
    work.commit()


def _wake_without_worker(work: UnitOfWork) -> None:
    """Look at the children; or remind those who are to answer, or say what their silence means."""
    if isinstance(work.declared_step, definition.Child):
        if work.forward or work.step.is_member or work.step.state == StepState.UNDOING:
            # It counts all of them anew, in case that a sum is wrong.
            work.set_step(standing=None)
            work.set_cursor(wake_at=work.no_later_than_deadline(children.LOST))
            # Not in this transaction: it may hold rows that are others' children, or their parents.
            work.after_commit(functools.partial(parents.take_up, work.saga.pk, work.step.name))
        else:
            # Whoever turned the saga round has vanished before it began to undo the step.
            children.begin_undo(work)
    elif work.step.state != StepState.WAITING:
        work.set_cursor(wake_at=After(dispatching.STAGE_LOOK))
    elif work.step.wait_until is None or work.step.wait_until > work.now:
        approvals.remind(work)
    else:
        dispatching.follow(work, transitions.lapse(work))


def _look_at_stage(work: UnitOfWork) -> None:
    """Steps that are done at once have timers of their own; their saga's is for a drain that is over.

    Otherwise nothing is due, and the sweep looks again after a while.
    """
    if not work.forward and work.saga.dispatches == 0:
        if transitions.end_drain(work):
            dispatching.dispatch(work)
    else:
        dispatching.look_after_stage(work)


def _deadline_over(work: UnitOfWork) -> None:
    """The direction's clock ran out: compensate, or where that is no longer possible call a person."""
    saga, step = work.saga, work.step
    if work.forward and not transitions.past_pivot(saga, step):
        transitions.start_compensation(work, failures.deadline_over(step, work.now))
        dispatching.line_up(work)
        return
    clock = Clock.DEADLINE if work.forward else Clock.UNDO_DEADLINE
    for row in work.members(work.stage) if work.stage.parallel is not None else [step]:
        with work.at(row):
            _fence_off(work)
            if row.state == StepState.RUNNING:
                transitions.mark_unknown(work, {"clock": Clock.LEASE})
    if not work.forward and work.stage.parallel is not None:
        # That may have ended the stage's drain, with nothing left of it to undo.
        transitions.end_drain(work)
        if saga.is_final:
            return
        step = work.members(work.stage)[0]
    transitions.keep_first_failure(
        work,
        failures.failure(step, FailureKind.TIMEOUT, now=work.now, clock=clock, message=messages.TIME_OVER),
    )
    work.set(deadline_at=None)
    why = messages.TIME_TO_DO_OVER if work.forward else messages.TIME_TO_UNDO_OVER
    with work.at(step):
        transitions.require_attention(
            work, why=why % {"step": step.name}, advice=messages.ASK_PROVIDER, resume=True, reason=clock
        )


def _lease_over(work: UnitOfWork) -> None:
    """A worker vanished with the step: another is sent, until the budget for that is spent too (D4).

    What a remote step did is unknown (U1); a local one was rolled back. An attempt was counted when it
    was claimed, so that a step that kills its worker every time comes to an end like any other.
    """
    step, remote = work.step, work.declared_step.remote
    # A worker that vanished while asking how a wait goes has spoilt nothing: the wait's limit decides.
    waits = step.wait_until is not None and step.wait_until > work.now
    failure = failures.failure(
        step,
        FailureKind.UNKNOWN if remote else FailureKind.TRANSIENT,
        now=work.now,
        clock=Clock.LEASE,
        message=messages.WORKER_VANISHED,
        undo=not work.forward,
    )
    _fence_off(work)
    work.set_step(error=failure.as_json())
    if not work.forward:
        if transitions.budget_spent(work):
            transitions.fail_undo(work, failure)
            return
        data = failure.as_json()
        work.note(EventKind.UNDO_RETRY, subject=step.name, attempt=step.undo_attempts, data=data)
    elif transitions.budget_spent(work) and not waits:
        transitions.fail(work, failure, unknown=remote, provable=not remote)
    else:
        transitions.mark_unknown(work, failure.as_json())
    dispatching.line_up(work)


def _fail_if_budget_over(work: UnitOfWork) -> None:
    """An action that waits for its provider, and has used up its time, has failed."""
    waits = work.step.state == StepState.WAITING
    if not work.forward or waits or not transitions.out_of_time(work):
        return
    unknown = work.step.state == StepState.UNKNOWN
    failure = failures.failure(
        work.step, FailureKind.TIMEOUT, now=work.now, clock=Clock.BUDGET, message=messages.TIME_OVER
    )
    transitions.fail(work, failure, unknown=unknown, provable=not unknown)


def _fence_off(work: UnitOfWork) -> None:
    """A worker that may still be at the step lost it with the lease, and cannot commit any more (D6)."""
    if work.step.lease_until is not None:
        work.set_step(fence=work.step.fence + 1, lease_until=None)


# --- Callbacks and heartbeat ----------------------------------------------------------------------


def _sweep_signals(limit: int) -> None:
    """Have the compensations tried that are due: each is sent again only after a while, ever more seldom."""
    sent: list[tuple[int, str]] = []
    with transaction.atomic():
        due = Signal.objects.select_for_update(skip_locked=True).filter(wake_at__lte=functions.Now())
        for signal in due.order_by("wake_at")[:limit]:
            now = models.database_now()
            pause = min((now - signal.received_at) / 2, LONGEST_LATE_PAUSE)
            signal.wake_at = now + max(late_compensation.LEASE, pause)
            signal.save(update_fields=["wake_at"])
            try:
                sent.append((signal.pk, late_compensation.queue_of(signal)))
            except (errors.UnknownSaga, KeyError) as error:
                # Its declaration is gone from the code; it is tried again in case it comes back (sagas.E011).
                callbacks.call_a_person(signal, messages.NOT_UNDONE % {"error": failures.text_of(error)})
    for pk, queue in sent:
        transport.send_late_compensation(pk, queue)


def _beat() -> None:
    """Write that there was a sweep, if that was not done a moment ago."""
    every: list[Any] = [HEARTBEAT_EVERY]
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH beat AS (UPDATE sagas_heartbeat SET at = clock_timestamp()"
            " WHERE name = 'sweep' AND at < clock_timestamp() - %s::interval)"
            " INSERT INTO sagas_heartbeat (name, at) SELECT 'sweep', clock_timestamp()"
            " WHERE NOT EXISTS (SELECT 1 FROM sagas_heartbeat WHERE name = 'sweep') ON CONFLICT DO NOTHING",
            every,
        )
