"""The one door for everything that takes time: retries, timers, deadlines, lost messages, dead workers.

A sweep finds the rows whose time has come by the database's clock (D9), decides what is due, and
sends them on their way again. Any number of sweepers may run: each takes rows that no other holds.
"""

import datetime
import logging
import uuid
from collections.abc import Collection
from typing import Any

from django.db import connection, transaction
from django.db.models import functions

from sagas import database, errors, models
from sagas.declaration import registry
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import circuits, inbox, messages, store, transitions, transport
from sagas.engine.store import After, Change
from sagas.models import SagaInstance, Signal

logger = logging.getLogger("sagas")

BATCH = 100
"""How many sagas one sweep sends on at most: a rate limit, and the longest that locks are held."""

PROBE_EVERY = datetime.timedelta(seconds=5)
"""How often a queue is probed while somebody works on it, or while nobody has been asked for long. Probes
that lie behind a backlog do not hold up the next one: had the broker forgotten them, nobody would know."""

LONGEST_PROBE_PAUSE = datetime.timedelta(seconds=60)
"""However long a queue has been silent, it is probed after this long."""

HEARTBEAT_EVERY = datetime.timedelta(seconds=5)
"""How often the sweep writes that it lives; an UPDATE with every sweep would be a waste."""

PATIENCE = datetime.timedelta(minutes=15)
"""After this long a message counts as lost even if no probe says so: probes may be lost too. Twice as
long after each time that it was sent again in vain: nobody may be there to take it."""

LONGEST_REMEDY_PAUSE = datetime.timedelta(hours=1)
"""However long a late callback's remedy was sent in vain, it is sent again after this long."""

UNDECLARED_PAUSE = datetime.timedelta(seconds=30)
"""How soon somebody looks again at a saga whose version this process does not know: while a deployment
rolls out, the next sweeper may."""

LONGEST_LOOK_PAUSE = datetime.timedelta(minutes=1)
"""However long a message has been waiting in a queue, somebody asks whether it was lost after this long."""

LOOKED_AT_NOW = 10 * BATCH
"""How many are looked at out of their turn when a probe comes through after a while."""

WORKING = (SagaState.RUNNING, SagaState.COMPENSATING)

ENGINE_QUEUE = "sagas"
"""Where the engine's own tasks go."""


def sweep(limit: int = BATCH) -> int:
    """Send on what is due.

    1. Let a few through to services that are out, and wake some of those that wait for one that works again.
    2. Lock the live rows whose `wake_at` has come, skipping those that somebody holds.
    3. Decide for each: turn round, call a person, count as unknown, or dispatch anew.
    4. Have late_compensations of late callbacks tried.
    5. Send probes through the queues.
    6. Write down that there was a sweep, for whoever asks whether anybody sweeps.

    Returns:
        How many sagas it looked at; if that is `limit`, there may be more.
    """
    parked, sagas_due, signals_due = _due()
    if parked:
        circuits.tend()
    # Those that were woken just now are due as well.
    swept = _sweep_sagas(limit) if parked or sagas_due else 0
    if signals_due:
        _sweep_signals(limit)
    _probe_queues()
    _beat()
    return swept


def on_chain_error(saga_id: uuid.UUID | str, epoch: int) -> None:
    """Ask the row what the error callback of a chain is to do; the call itself proves nothing.

    It may come late, twice, or although nothing failed. The row decides:

    1. An older epoch: somebody has sent the saga on already.
    2. Compensating, and its undo chain not sent yet: send it.
    3. Still running, and nobody at it: the worker died, or could not publish. Send it on, but only
       once: what fails again and again goes through the sweep, which lets time pass in between.
    """
    with transaction.atomic():
        locked = store.lock(saga_id)
        saga, step = locked.saga, locked.step
        if saga.epoch != epoch or saga.held_at is not None:
            return
        turned = saga.state == SagaState.COMPENSATING and saga.dispatched_at is None and saga.dispatches == 0
        broken = saga.state == SagaState.RUNNING and saga.dispatched_at is not None and saga.dispatches == 1
        if turned or (broken and transitions.is_free(step, locked.now)):
            change = Change(saga, locked.now)
            transitions.dispatch(change, step)
            change.write()


def probe_returned(queue: str, sent_at: datetime.datetime, worker: str = "") -> None:
    """A probe came through: every message that entered the queue before it was taken, or is lost.

    If it tells much that nobody knew, because none came through for a while, those that had been put
    off meanwhile are looked at now.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_queue SET returned_sent_at = GREATEST(queue.returned_sent_at, %(sent)s),"
            " returned_at = clock_timestamp(), heard_at = clock_timestamp(), worker = %(worker)s,"
            # Later probes may be under way: the oldest of them was sent after this one.
            " unanswered_since = CASE WHEN queue.probed_at <= %(sent)s THEN NULL"
            " WHEN queue.unanswered_since IS NOT NULL THEN GREATEST(queue.unanswered_since, %(sent)s) END"
            " FROM (SELECT * FROM sagas_queue WHERE name = %(name)s FOR UPDATE) AS queue"
            " WHERE sagas_queue.name = queue.name RETURNING queue.returned_sent_at",
            {"sent": sent_at, "worker": worker, "name": queue},
        )
        known = cursor.fetchone()
    if known is not None and (known[0] is None or sent_at - known[0] > 2 * PROBE_EVERY):
        _look_now(queue, sent_at)


def heard(queue: str, worker: str = "") -> None:
    """A worker took a message of this queue, or began to listen: somebody is there.

    That a step was taken says nothing of what was sent before it: web servers publish after their
    commits, in another order than they wrote the rows in. Only a probe tells what is lost.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_queue SET heard_at = clock_timestamp(), worker = %s WHERE name = %s"
            " AND (heard_at IS NULL OR heard_at < clock_timestamp() - interval '1 second')",
            [worker, queue],
        )


def _due() -> tuple[bool, bool, bool]:
    """Whether any saga waits for a service, any is due, any callback is: mostly none; nothing is locked."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM sagas_saga WHERE parked_for IS NOT NULL),"
            " EXISTS (SELECT FROM sagas_saga"
            " WHERE wake_at <= statement_timestamp() AND held_at IS NULL AND closed_at IS NULL),"
            " EXISTS (SELECT FROM sagas_signal WHERE wake_at <= statement_timestamp())"
        )
        row: tuple[bool, bool, bool] = cursor.fetchone()
    return row


def _sweep_sagas(limit: int) -> int:
    with transaction.atomic():
        due = list(
            SagaInstance.objects.select_for_update(skip_locked=True)
            .filter(wake_at__lte=functions.Now(), held_at=None, closed_at=None)
            .order_by("wake_at")[:limit]
        )
        if not due:
            return 0
        now = models.database_now()
        steps = _steps_at(due)
        echoed = dict(models.Queue.objects.values_list("name", "returned_sent_at"))
        queued = {saga.pk: saga for saga in due if _only_queues(saga, steps[saga.pk], now, echoed)}
        _look_again(queued.values(), now)
        for saga in (saga for saga in due if saga.pk not in queued):
            try:
                with transaction.atomic():
                    _wake(saga, steps[saga.pk], now)
            except Exception as bug:
                if database.is_passing(bug):
                    # A lock that was not given, say, to its owner's hook. Had the database gone, this
                    # would fail.
                    logger.warning("saga %s could not be woken: %s", saga.pk, transitions.words_of(bug))
                    _put_off(saga.pk, transitions.grace())
                    continue
                # One that cannot be moved, because its owner's hook fails, say, stops no other.
                logger.error("saga %s could not be woken: %s", saga.pk, transitions.traced(bug, saga.facts))
                _call_for_help(saga.pk, bug)
        return len(due)


def _call_for_help(saga_id: uuid.UUID, bug: Exception) -> None:
    """A person is called for a saga that cannot be moved; if that is not possible either, it is put off."""
    try:
        with transaction.atomic():
            locked = store.lock(saga_id)
            change = Change(locked.saga, locked.now)
            failure = transitions.failure(locked.step, "bug", now=locked.now, error=bug)
            if locked.saga.failure is None:
                change.set(failure=failure)
            transitions.attend(
                change,
                step=locked.step,
                why=messages.CANNOT_BE_MOVED % {"error": failure["error"], "message": failure["message"]},
                advice=messages.SEE_TO_THE_HOOK,
                resume=True,
            )
            change.write()
    except Exception:
        logger.exception("nobody could be called for saga %s; the sweep will try again", saga_id)
        _put_off(saga_id, transitions.LONGEST_GRACE)


def _put_off(saga_id: uuid.UUID, pause: datetime.timedelta) -> None:
    SagaInstance.objects.filter(pk=saga_id).update(wake_at=functions.Now() + pause)


def _steps_at(sagas: list[SagaInstance]) -> dict[uuid.UUID, models.StepInstance]:
    """The step that each is at, locked (the last one when all are done)."""
    at: dict[uuid.UUID, models.StepInstance] = {}
    by_id = {saga.pk: saga for saga in sagas}
    rows = models.StepInstance.objects.filter(saga__in=sagas).order_by("saga_id", "position")
    for step in rows.select_for_update():
        if step.position <= by_id[step.saga_id].position:
            step.saga = by_id[step.saga_id]
            at[step.saga_id] = step
    return at


def _only_queues(
    saga: SagaInstance,
    step: models.StepInstance,
    now: datetime.datetime,
    echoed: dict[str, datetime.datetime | None],
) -> bool:
    """Whether nothing is due but a look after its message, and that merely waits its turn.

    A backlog is not a loss: to send the message again would only make the queue longer.
    """
    try:
        turns = saga.cancel_requested_at is not None and not transitions.past_pivot(saga, step)
        return (
            saga.state in WORKING
            and saga.dispatched_at is not None
            and not (step.state in transitions.AT_WORK and step.lease_until is not None)
            and (saga.deadline_at is None or saga.deadline_at > now)
            and not (turns and saga.state == SagaState.RUNNING)
            and not _lost(saga, saga.dispatched_at, now, echoed)
        )
    except errors.UnknownSaga:
        return False


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


def _look_now(queue: str, sent_at: datetime.datetime) -> None:
    """Have those looked at whose messages entered the queue before, and who were put off for longer.

    No more than the sweep can send on in a few seconds: the others come in their turn, within a minute.
    """
    at = [
        (saga.name, saga.version, position)
        for saga in registry.everything()
        for position, step in enumerate(saga.steps)
        if step.queue == queue
    ]
    if not at:
        return
    parameters: list[Any] = [
        LONGEST_LOOK_PAUSE,
        sent_at,
        transitions.grace(),
        *(list(one) for one in zip(*at, strict=True)),
        LOOKED_AT_NOW,
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_saga SET wake_at = clock_timestamp() WHERE id IN ("
            " SELECT id FROM sagas_saga WHERE wake_at > clock_timestamp()"
            " AND wake_at <= clock_timestamp() + %s::interval AND dispatched_at < %s"
            " AND dispatched_at < clock_timestamp() - %s::interval AND held_at IS NULL AND closed_at IS NULL"
            " AND (name, version, position) IN (SELECT * FROM unnest(%s::text[], %s::int[], %s::int[]))"
            " LIMIT %s FOR UPDATE SKIP LOCKED)",
            parameters,
        )


def _pause(waited: datetime.timedelta) -> datetime.timedelta:
    """How long until somebody asks after a message that has been under way for so long."""
    grace = transitions.grace()
    return grace - waited if waited < grace else min(max(waited / 4, grace), LONGEST_LOOK_PAUSE)


def _wake(saga: SagaInstance, step: models.StepInstance, now: datetime.datetime) -> None:
    """Decide what a due row is due for, in the order in which the reasons win."""
    change = Change(saga, now)
    try:
        past_pivot = transitions.past_pivot(saga, step)
    except errors.UnknownSaga:
        # Its version is gone from the code (sagas.E011). Other processes may still have it.
        logger.exception("saga %s cannot go on", saga.pk)
        change.set(wake_at=After(UNDECLARED_PAUSE))
        change.write()
        return
    if saga.state == SagaState.NEEDS_ATTENTION:
        transitions.resume(change, step, reason="trying again may help by now")
        transitions.dispatch(change, step)
    elif not transitions.is_free(step, now):
        change.set(wake_at=step.lease_until)
    elif saga.deadline_at is not None and saga.deadline_at <= now:
        _deadline(change, step)
    elif saga.state == SagaState.RUNNING and saga.cancel_requested_at is not None and not past_pivot:
        transitions.turn_if_cancelled(change, step)
        _dispatch_if_live(change, step)
    elif step.state in transitions.AT_WORK and step.lease_until is not None:
        _lease_over(change, step)
    elif saga.parked_for is not None and _budget_over(change, step):
        _dispatch_if_live(change, step)
    else:
        transitions.dispatch(change, step)
    change.write()


def _deadline(change: Change, step: models.StepInstance) -> None:
    """The direction's clock ran out: turn round, or where that is no longer possible call a person."""
    saga, now = change.saga, change.now
    backward = saga.direction == Direction.BACKWARD
    if not backward and not transitions.past_pivot(saga, step):
        transitions.turn(change, step, transitions.deadline_over(step, now))
        _dispatch_if_live(change, step)
        return
    clock = "undo-deadline" if backward else "deadline"
    _fence_off(change, step)
    if step.state == StepState.RUNNING:
        transitions.lose(change, step, {"clock": "lease"})
    if saga.failure is None:
        change.set(
            failure=transitions.failure(step, "timeout", now=now, clock=clock, message=messages.TIME_OVER)
        )
    change.set(deadline_at=None)
    transitions.attend(
        change,
        step=step,
        why=(messages.TIME_TO_UNDO_OVER if backward else messages.TIME_TO_DO_OVER) % {"step": step.name},
        advice=messages.ASK_PROVIDER,
        resume=True,
        reason=clock,
    )


def _lease_over(change: Change, step: models.StepInstance) -> None:
    """A worker vanished with the step: another is sent, until the budget for that is spent too (D4).

    What a remote step did is unknown (U1); a local one was rolled back. An attempt was counted when it
    was claimed, so that a step that kills its worker every time comes to an end like any other.
    """
    saga, remote = change.saga, change.saga.definition.steps[step.position].remote
    forward = saga.direction == Direction.FORWARD
    # Who vanished while asking how a wait goes has spoilt nothing: its limit decides.
    waits = step.wait_until is not None and step.wait_until > change.now
    kind = "unknown" if remote else "transient"
    failure = transitions.failure(step, kind, now=change.now, clock="lease", message=messages.WORKER_VANISHED)
    _fence_off(change, step)
    change.set_step(step, error=failure)
    if not forward:
        failure["attempt"] = step.undo_attempts
        if transitions.budget_spent(change, step):
            transitions.fail_undo(change, step, failure)
            return
        change.note("undo.retry", subject=step.name, attempt=step.undo_attempts, data=failure)
    elif transitions.budget_spent(change, step) and not waits:
        if not transitions.fail(change, step, failure, unknown=remote, provable=not remote):
            return
    else:
        transitions.lose(change, step, failure)
    _dispatch_if_live(change, step)


def _budget_over(change: Change, step: models.StepInstance) -> bool:
    """Whether an action that waits for its provider has used up its time: then it has failed."""
    saga = change.saga
    waits = step.state == StepState.WAITING
    if saga.direction == Direction.BACKWARD or waits or not transitions.out_of_time(change, step):
        return False
    unknown = step.state == StepState.UNKNOWN
    failure = transitions.failure(step, "timeout", now=change.now, clock="budget", message=messages.TIME_OVER)
    transitions.fail(change, step, failure, unknown=unknown, provable=not unknown)
    return True


def _fence_off(change: Change, step: models.StepInstance) -> None:
    """Whoever may still be at the step lost it with the lease, and cannot commit any more (D6)."""
    if step.lease_until is not None:
        change.set_step(step, fence=step.fence + 1, lease_until=None)


def _dispatch_if_live(change: Change, step: models.StepInstance) -> None:
    if not change.saga.is_final:
        transitions.dispatch(change, step)


def _lost(
    saga: SagaInstance,
    dispatched_at: datetime.datetime,
    now: datetime.datetime,
    echoed: dict[str, datetime.datetime | None],
) -> bool:
    """Whether the message that should be under way is gone, and not merely queued, or being carried out."""
    if now - dispatched_at < transitions.grace(saga.dispatches):
        return False
    echo = echoed.get(transitions.queue_of(saga))
    patience = PATIENCE * 2 ** min(max(saga.dispatches - 1, 0), 6)
    return (echo is not None and echo > dispatched_at) or now - dispatched_at > patience


def _sweep_signals(limit: int) -> None:
    """Have the late_compensations tried that are due: each is sent again only after a while, and ever more seldom."""
    sent: list[tuple[int, str]] = []
    with transaction.atomic():
        due = Signal.objects.select_for_update(skip_locked=True).filter(wake_at__lte=functions.Now())
        for signal in due.order_by("wake_at")[:limit]:
            now = models.database_now()
            signal.wake_at = now + max(inbox.LEASE, min((now - signal.received_at) / 2, LONGEST_REMEDY_PAUSE))
            signal.save(update_fields=["wake_at"])
            try:
                sent.append((signal.pk, inbox.queue_of(signal)))
            except (errors.UnknownSaga, KeyError) as error:
                # Its declaration is gone from the code; it is tried again in case it comes back (sagas.E011).
                inbox.call_a_person(signal, messages.NOT_UNDONE % {"error": transitions.words_of(error)})
    for pk, queue in sent:
        transport.send_late_compensation(pk, queue)


def _probe_queues() -> None:
    """Send a probe through each queue that is due for one, ever more seldom while nobody gives a sign."""
    known = {queue.name: queue for queue in models.Queue.objects.annotate(now=models.ClockTimestamp())}
    names = [*registry.queues(), ENGINE_QUEUE]
    pauses = {name: _probe_pause(known[name], known[name].now) for name in names if name in known}
    claimed = _claim_new([name for name in names if name not in known])
    claimed += _claim_probes(
        {name: pause for name, pause in pauses.items() if _is_due(known[name], pause, known[name].now)}
    )
    unsent = dict(claimed)
    for name, at in claimed:
        if not transport.send_probe(name, at):
            break  # The broker is away. The others would only wait for it as well.
        del unsent[name]
    if unsent:
        _not_sent(unsent)


def _claim_new(names: list[str]) -> list[tuple[str, datetime.datetime]]:
    """Those of the queues that nobody knew yet; another sweeper may be about to say the same."""
    if not names:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sagas_queue (name, probed_at, unanswered_since, worker)"
            " SELECT name, now, now, '' FROM unnest(%s::text[]) AS name, clock_timestamp() AS now"
            " ON CONFLICT DO NOTHING RETURNING name, probed_at",
            [names],
        )
        return list(cursor.fetchall())


def _claim_probes(pauses: dict[str, datetime.timedelta]) -> list[tuple[str, datetime.datetime]]:
    """Those of the queues whose last probe is still that long ago: another sweeper may have been first."""
    if not pauses:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_queue AS queue SET probed_at = clock.now,"
            " unanswered_since = COALESCE(queue.unanswered_since, clock.now)"
            " FROM clock_timestamp() AS clock (now), ("
            "  SELECT name FROM sagas_queue JOIN unnest(%s::text[], %s::interval[]) AS due (name, pause)"
            "  USING (name) WHERE probed_at IS NULL OR probed_at <= clock_timestamp() - pause"
            "  FOR UPDATE OF sagas_queue SKIP LOCKED"
            " ) AS due WHERE queue.name = due.name RETURNING queue.name, queue.probed_at",
            [list(pauses), list(pauses.values())],
        )
        return list(cursor.fetchall())


def _not_sent(probes: dict[str, datetime.datetime]) -> None:
    """The next sweep tries these again. That nobody answers goes on counting from the first time."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_queue SET probed_at = NULL"
            " FROM unnest(%s::text[], %s::timestamptz[]) AS probe (name, at)"
            " WHERE sagas_queue.name = probe.name AND sagas_queue.probed_at = probe.at",
            [list(probes), list(probes.values())],
        )


def _is_due(queue: models.Queue, pause: datetime.timedelta, now: datetime.datetime) -> bool:
    return queue.probed_at is None or now - queue.probed_at >= pause


def _probe_pause(queue: models.Queue, now: datetime.datetime) -> datetime.timedelta:
    """How long after the last probe the next one is sent: half as long as nobody has given a sign."""
    silence = queue.silence(now) or datetime.timedelta(0)
    return min(max(PROBE_EVERY, silence / 2), LONGEST_PROBE_PAUSE)


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
