"""Probes: small messages through every queue that tell a lost message from one that waits its turn.

A probe says when it was sent. Queues are first in, first out: once a probe that was sent after a saga's
message has come through, that message was taken, or is lost.
"""

import datetime
from typing import Any

from django.db import connection

from sagas import conf, models
from sagas.declaration import registry
from sagas.engine import dispatching, pacing, transport

PROBE_EVERY = datetime.timedelta(seconds=5)
"""How often a queue is probed while a worker takes from it, or while no probe was sent for long. Probes
that lie behind a backlog do not hold up the next one: had the broker forgotten them, it would not show."""

LONGEST_PROBE_PAUSE = datetime.timedelta(seconds=60)
"""However long a queue has been silent, it is probed after this long."""

PATIENCE = datetime.timedelta(minutes=15)
"""After this long a message counts as lost even if no probe says so: probes may be lost too. Twice as
long after each time that it was sent again in vain: no worker may be there to take it."""

LONGEST_LOOK_PAUSE = datetime.timedelta(minutes=1)
"""However long a message has been waiting in a queue, the sweep asks whether it was lost after this long."""

LOOKED_AT_NOW = 1000
"""How many are looked at out of their turn when a probe comes through after a while."""


def probe_queues() -> None:
    """Send a probe through each queue that is due for one, ever more seldom while no worker gives a sign."""
    known = {queue.name: queue for queue in models.Queue.objects.annotate(now=models.ClockTimestamp())}
    names = [*registry.queues(), conf.ENGINE_QUEUE]
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


def probe_returned(
    queue: str, sent_at: datetime.datetime, worker: str = "", *, carried_on: bool = False
) -> None:
    """A probe came through: every message that entered the queue before it was taken, or is lost.

    If it tells much that was not known, because none came through for a while, those that had been put
    off meanwhile are looked at now. If it was to tell that a batch of the queue's line is taken, the next
    one is sent.

    Arguments:
        queue: it came through this one.
        sent_at: when it was sent.
        worker: who took it.
        carried_on: whether such workers carry lines on by themselves. Then the next batch is left to the
            sweep, which sends one all the same.
    """
    parameters: dict[str, Any] = {
        "sent": sent_at,
        "worker": worker,
        "name": queue,
        "delay": conf.line_delay(),
    }
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_queue SET returned_sent_at = GREATEST(queue.returned_sent_at, %(sent)s),"  # noqa: S608
            " returned_at = clock_timestamp(), heard_at = clock_timestamp(), worker = %(worker)s,"
            # Later probes may be under way: the oldest of them was sent after this one.
            " unanswered_since = CASE WHEN queue.probed_at <= %(sent)s THEN NULL"
            " WHEN queue.unanswered_since IS NOT NULL THEN GREATEST(queue.unanswered_since, %(sent)s) END,"
            f" line_batch = {pacing.NEXT_BATCH},"
            " line_asked_at = CASE WHEN queue.line_asked_at > %(sent)s THEN queue.line_asked_at END"
            " FROM (SELECT * FROM sagas_queue WHERE name = %(name)s FOR UPDATE) AS queue"
            " WHERE sagas_queue.name = queue.name"
            " RETURNING queue.returned_sent_at, queue.line_asked_at <= %(sent)s",
            parameters,
        )
        known = cursor.fetchone()
    if known is None:
        return
    before, line_moves = known
    if before is None or sent_at - before > 2 * PROBE_EVERY:
        _look_now(queue, sent_at)
    if line_moves and not carried_on:
        pacing.serve(queue)


def heard(queue: str, worker: str = "") -> bool:
    """A worker took a message of this queue, or began to listen: it is there.

    That a step was taken says nothing of what was sent before it: web servers publish after their
    commits, in another order than they wrote the rows in. Only a probe tells what is lost.

    Returns:
        Whether any saga stands in the queue's line.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH heard AS ("
            " UPDATE sagas_queue SET heard_at = clock_timestamp(), worker = %s WHERE name = %s"
            " AND (heard_at IS NULL OR heard_at < clock_timestamp() - interval '1 second')"
            ") SELECT EXISTS (SELECT FROM sagas_saga WHERE in_line_for = %s)",
            [worker, queue, queue],
        )
        (stands,) = cursor.fetchone()
    return bool(stands)


def is_lost(
    cursor: models.SagaInstance | models.StepInstance,
    queue: str,
    now: datetime.datetime,
    returned: dict[str, datetime.datetime | None],
) -> bool:
    """Whether the message that should be under way is gone, and not merely queued, or being carried out.

    Arguments:
        cursor: the row that says which message that is: the saga's, or that of a member of a stage.
        queue: through which it was sent.
        now: the database's time.
        returned: by queue, when the latest probe that came through had been sent.
    """
    dispatched_at, dispatches = cursor.dispatched_at, cursor.dispatches or 0
    if dispatched_at is None or now - dispatched_at < dispatching.grace(dispatches):
        return False
    latest = returned.get(queue)
    patience = PATIENCE * 2 ** min(max(dispatches - 1, 0), 6)
    return (latest is not None and latest > dispatched_at) or now - dispatched_at > patience


def _look_now(queue: str, sent_at: datetime.datetime) -> None:
    """Have those looked at whose messages entered the queue before, and who were put off for longer.

    No more than the sweep can send on in a few seconds: the others come in their turn, within a minute.
    """
    at = [
        (saga.name, saga.version, position)
        for saga in registry.everything()
        for position, step in enumerate(saga.all_steps)
        if step.queue == queue
    ]
    if not at:
        return
    parameters: list[Any] = [
        LONGEST_LOOK_PAUSE,
        sent_at,
        dispatching.grace(),
        *(list(one) for one in zip(*at, strict=True)),
        LOOKED_AT_NOW,
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_saga SET wake_at = clock_timestamp() WHERE id = ANY (ARRAY("
            " SELECT id FROM sagas_saga WHERE wake_at > clock_timestamp()"
            " AND wake_at <= clock_timestamp() + %s::interval AND dispatched_at < %s"
            " AND dispatched_at < clock_timestamp() - %s::interval AND held_at IS NULL AND closed_at IS NULL"
            " AND (name, version, position) IN (SELECT * FROM unnest(%s::text[], %s::int[], %s::int[]))"
            " LIMIT %s FOR UPDATE SKIP LOCKED))",
            parameters,
        )


def _claim_new(names: list[str]) -> list[tuple[str, datetime.datetime]]:
    """Those of the queues that are new; another sweeper may be about to say the same."""
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
    """The next sweep tries these again. The time without an answer goes on counting from the first."""
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
    """How long after the last probe the next one is sent: half as long as no worker has given a sign."""
    silence = queue.silence(now) or datetime.timedelta(0)
    return min(max(PROBE_EVERY, silence / 2), LONGEST_PROBE_PAUSE)
