"""Lines: what the sweep sends on goes at the pace at which each queue takes, and in front of nothing live.

After an outage, or when the broker was emptied, a hundred thousand sagas may be due at once. Sent at once,
they would lie in their queues in front of everything that begins meanwhile. So whatever the sweep finds
due stands in the line of its step's queue (`in_line_for`, on its row), and is sent a batch at a time:

1. A probe is sent, and behind it the next batch.
2. The probe comes through: all that was sent before it is taken, and of the line no more than the one
   batch is under way. So the worker that took it serves the line again, at step 1.
3. How long it took is how long live messages wait as well. The batch grows while that is shorter than the
   setting `SAGAS_LINE_DELAY`, and shrinks while it is longer.

It is the window of acknowledgements with which TCP fills a link and not its buffers. It measures nothing
but one message's way, however many wait; needs no clock that ticks fast enough; and where no worker listens,
nothing is sent to it. The sweep serves the lines too: their first batch, and the next one if a probe was
lost, which any later probe finds out.

Where workers have the fast lane one message brings several sagas. What begins while its queue is full stands
in the line too (`room`). A worker that has ended what its message brought takes from the line (`take`) and
carries on what it took, for as long as no message waits; where many wait, one for every few messages. So most
of a line need no message of their own, and step 2 is left to the sweep: a batch a second wakes workers that
rest, and each goes on by itself from there.

Deadlines, cancellations and leases that ran out are decided by the sweep at once, whatever the lines hold.
"""

import dataclasses
import datetime
import logging
import math
import time
import uuid
import weakref
from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction

from sagas import conf, errors, models
from sagas.declaration import registry
from sagas.engine import dispatching, store, sums, transport

logger = logging.getLogger("sagas")

FIRST_BATCH = 2
"""It grows by half with each probe that comes through quickly, within a second to what a queue can take."""

SMALLEST_BATCH = 1
"""It is sent while the one before is taken, so a worker that becomes free finds a message all the same."""

LARGEST_BATCH = 200
"""A batch is one statement and one transaction, and its rows are locked meanwhile."""

FULL = 32
"""With so many messages in a queue no worker that serves it is idle for as long as it takes to look again."""

LOOK_AGAIN_S = 0.05
"""While a queue is full, a process that begins sagas looks so often whether it still is."""

SEEN_LONG_AGO_S = 5.0
"""A queue that was full so long ago may be empty by now: what a process begins then it sends, and looks."""

ASKED_AT_ONCE = 100
"""So many of a line are asked at once whether an open circuit lets them through."""

PROBE_LOST = datetime.timedelta(minutes=15)
"""After this long a probe counts as come through although nothing says so: it, and all later ones, may be
lost. The sagas are asked after ever more seldom all the same."""


NEXT_BATCH = f"""
CASE WHEN queue.line_asked_at IS NULL THEN LEAST(queue.line_batch, {FIRST_BATCH})
WHEN queue.line_asked_at <> %(sent)s THEN queue.line_batch
WHEN clock_timestamp() - %(sent)s > %(delay)s::interval
    THEN GREATEST(queue.line_batch / 2, {SMALLEST_BATCH})
WHEN clock_timestamp() - %(sent)s < %(delay)s::interval / 2
    THEN LEAST(queue.line_batch + (queue.line_batch + 1) / 2, {LARGEST_BATCH})
ELSE queue.line_batch END
"""
"""The size of a queue's next batch once the probe that was sent at `sent` has come through: for `probes`.

While nothing stands in its line it becomes small again: how quickly it took an hour ago says nothing."""


@dataclasses.dataclass
class _Room:
    """What a process knows of the room in a queue: of what it saw, less what it has sent since."""

    left: float = math.inf
    looked_at: float = -math.inf


_rooms: "weakref.WeakKeyDictionary[transport.Transport, dict[str, _Room]]" = weakref.WeakKeyDictionary()
"""Of each queue of each transport, as this process knows it."""


def _room(queue: str) -> _Room:
    return _rooms.setdefault(transport.current(), {}).setdefault(queue, _Room())


def room(queue: str, wanted: int) -> int:
    """How many of so many sagas that begin now are sent at once; the others stand in their queue's line.

    As far as this process knows: the broker is not asked in a transaction. What other processes have sent
    since it was asked makes the queue a little fuller, which does no harm.
    """
    known = _room(queue)
    if known.left < wanted and time.monotonic() - known.looked_at > SEEN_LONG_AGO_S:
        # No more than is asked for, so that `look` asks after it.
        known.left = min(wanted, FULL)
    sent = int(min(wanted, known.left))
    known.left -= sent
    return sent


def refuse_where_full(queue: str) -> None:
    """Let no saga begin whose queue has as long a line as the setting `SAGAS_LONGEST_LINE` allows.

    It is what begins that is refused, and not what goes on. Shedding load at the door is how services outlive
    more requests than they can serve (Beyer et al., "Site Reliability Engineering", 2016, chapters 21, 22).

    No more rows are read than are allowed, and those that are held. Several that begin at the same moment may
    each find the last place free: the line becomes longer by as many.

    Raises:
        LineFull: so many stand there; `context` has the `queue`, and how many are `allowed`.
    """
    allowed = conf.longest_line()
    if allowed is None:
        return
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, [queue, allowed])
        ((standing,),) = cursor.fetchall()
    if standing >= allowed:
        raise errors.LineFull(
            f"{allowed} or more sagas wait for a worker of {queue}, and no more are taken; nothing was begun,"
            " so try again in a while.",
            queue=queue,
            allowed=allowed,
        )


def look(queue: str) -> None:
    """Ask the broker how much room a queue has, if what this process knows of it is nearly used up.

    In quiet times that is once in so many sagas; while the queue is full, every `LOOK_AGAIN_S`.
    """
    known, now = _room(queue), time.monotonic()
    used_up = known.left < FULL / 2 or known.looked_at == -math.inf
    if used_up and now - known.looked_at >= LOOK_AGAIN_S:
        known.looked_at = now
        waiting = transport.backlog(queue)
        known.left = math.inf if waiting is None else max(FULL - waiting, 0)


def line_up(sagas: Sequence[models.SagaInstance]) -> None:
    """Have these, for which nothing but a message is due, stand in the lines of their queues."""
    if not sagas:
        return
    queues = [dispatching.queue_of(saga) for saga in sagas]
    parameters: list[Any] = [dispatching.LINE_LOOK, [saga.pk for saga in sagas], queues]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_saga SET in_line_for = line.queue,"
            " wake_at = LEAST(deadline_at, clock_timestamp() + %s::interval)"
            " FROM unnest(%s::uuid[], %s::text[]) AS line (id, queue) WHERE sagas_saga.id = line.id",
            parameters,
        )


def serve_all() -> None:
    """Serve every line that there is; each costs as much however long it is."""
    parameters: dict[str, Any] = {"lost": PROBE_LOST}
    with connection.cursor() as cursor:
        cursor.execute(_LINES, parameters)
        queues = [queue for (queue,) in cursor.fetchall()]
    for queue in queues:
        serve(queue)


def serve(queue: str) -> None:
    """Send the next batch of a queue's line, unless one is under way of which nothing is known yet.

    If another process serves it at this moment, that is enough.
    """
    with transaction.atomic():
        row = models.Queue.objects.select_for_update(skip_locked=True).filter(name=queue).first()
        if row is None:
            models.Queue.objects.bulk_create([models.Queue(name=queue)], ignore_conflicts=True)
            row = models.Queue.objects.select_for_update(skip_locked=True).filter(name=queue).first()
        now = models.database_now()
        if row is None or (row.line_asked_at is not None and now - row.line_asked_at < PROBE_LOST):
            return
        dispatches, sent = _next_batch(queue, row.line_batch)
        if not sent:
            return
        asks = row.line_unconfirmed + sent >= row.line_batch
        row.line_unconfirmed = sent + (0 if asks else row.line_unconfirmed)
        row.line_asked_at = now if asks else None
        row.save(update_fields=["line_unconfirmed", "line_asked_at"])
        if asks:
            transaction.on_commit(lambda: transport.send_probe(queue, now), robust=True)
        transport.after_commit(*dispatches)


def take(queue: str, most: int, *, newest: bool = False) -> list[transport.Dispatch]:
    """Take some of a line out of it: what `dispatching.dispatch` does for one, for all in one statement.

    Whoever takes them sends them, or carries them on at once. Where the circuit of the queue's service is
    open none is taken: each asks it for itself when the line is served.

    Arguments:
        queue: whose line it is.
        most: how many at most.
        newest: from its end, and not from its beginning. Who takes from both in turn lets neither those wait
            that have waited longest, nor those that began just now behind a hundred thousand that are due.
    """
    parameters = _of_line(queue, most)
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_NEWEST if newest else _TAKE, parameters)
        rows = sorted(cursor.fetchall())
    sums.count_all(sums.REDISPATCHES, [(name, queue) for _, name, *_, dispatches in rows if dispatches > 1])
    return [_dispatch(row) for row in rows]


def _next_batch(queue: str, batch: int) -> tuple[list[transport.Dispatch], int]:
    """Take the next batch out of a line.

    Where the circuit of their service is open each asks it for itself: it is sent, or waits for that instead.

    Returns:
        What is to be sent, and how many that is together with those that are sent already.
    """
    if dispatches := take(queue, batch):
        return dispatches, len(dispatches)
    with connection.cursor() as cursor:
        cursor.execute(_FIRST, _of_line(queue, ASKED_AT_ONCE))
        first = [saga_id for saga_id, _ in cursor.fetchall()]
    sent = 0
    while first and sent < batch:
        sent += _sent_on(first.pop(0))
    return [], sent


def _of_line(queue: str, batch: int) -> dict[str, Any]:
    known = [(saga.name, saga.version) for saga in registry.everything()]
    return {
        "queue": queue,
        "batch": batch,
        "names": [name for name, _ in known],
        "versions": [version for _, version in known],
        "grace": dispatching.grace(),
        "longest": dispatching.LONGEST_GRACE,
    }


def _sent_on(saga_id: uuid.UUID) -> bool:
    """Send one on that stands in a line, unless it is parked; says whether it was sent."""
    work = store.lock(saga_id)
    dispatching.dispatch(work)
    work.set(in_line_for=None)
    work.commit()
    return work.saga.dispatched_at is not None


def _dispatch(row: tuple[Any, ...]) -> transport.Dispatch:
    saga_id, name, version, direction, position, epoch, attempts, undo_attempts, _dispatches = row
    saga = models.SagaInstance(
        id=saga_id, name=name, version=version, direction=direction, position=position, epoch=epoch
    )
    step = models.StepInstance(position=position, attempts=attempts, undo_attempts=undo_attempts)
    return dispatching.dispatch_of(saga, step)


_LINES = """
WITH RECURSIVE line (queue) AS (
    (SELECT in_line_for FROM sagas_saga WHERE in_line_for IS NOT NULL ORDER BY in_line_for LIMIT 1)
    UNION ALL
    SELECT (SELECT in_line_for FROM sagas_saga WHERE in_line_for > line.queue ORDER BY in_line_for LIMIT 1)
    FROM line WHERE line.queue IS NOT NULL
)
SELECT line.queue FROM line LEFT JOIN sagas_queue queue ON queue.name = line.queue
WHERE line.queue IS NOT NULL
  AND (queue.line_asked_at IS NULL OR queue.line_asked_at < clock_timestamp() - %(lost)s::interval)
"""
# One index entry is read for each line, however long it is, as in circuits._WAITED_FOR.

_STANDING = """
SELECT count(*) FROM (
    SELECT FROM sagas_saga WHERE in_line_for = %s AND held_at IS NULL LIMIT %s
) AS standing
"""
# What an operator holds keeps no one out: it is not taken before it is released.

_FIRST = """
SELECT g.id, g.state IN ('running', 'compensating') AND g.parked_for IS NULL AS wanted FROM sagas_saga g
WHERE g.in_line_for = %(queue)s AND g.held_at IS NULL
  AND (g.name, g.version) IN (SELECT * FROM unnest(%(names)s::text[], %(versions)s::int[]))
ORDER BY g.id LIMIT %(batch)s FOR UPDATE OF g SKIP LOCKED
"""
_LAST = _FIRST.replace("ORDER BY g.id", "ORDER BY g.id DESC")
# Their ids are in the order in which sagas began.
# SKIP LOCKED: the session that holds such a row is about to change it, and may want its queue's row next.
# While a deployment rolls out, a worker of 0.1.0, which knows no lines, may have ended a saga or had it wait
# for a circuit that stands in one: such a saga only leaves it.

_TAKE = f"""
WITH chosen AS ({_FIRST}),
taken AS (
    SELECT * FROM chosen
    WHERE NOT EXISTS (SELECT FROM sagas_circuit WHERE name = %(queue)s AND opened_at IS NOT NULL)
),
unwanted AS (UPDATE sagas_saga g SET in_line_for = NULL FROM taken WHERE g.id = taken.id AND NOT taken.wanted)
UPDATE sagas_saga g SET in_line_for = NULL, epoch = g.epoch + 1, dispatches = g.dispatches + 1,
    dispatched_at = clock.now, updated_at = clock.now,
    wake_at = LEAST(g.deadline_at, clock.now + LEAST(
        %(grace)s::interval * 2 ^ LEAST(g.dispatches, 16), %(longest)s::interval))
FROM taken, sagas_step s, (SELECT clock_timestamp() AS now) AS clock
WHERE g.id = taken.id AND taken.wanted AND s.saga_id = g.id AND s.position = g.position
RETURNING g.id, g.name, g.version, g.direction, g.position, g.epoch, s.attempts, s.undo_attempts,
    g.dispatches
"""  # noqa: S608 - nothing of it comes from outside
_TAKE_NEWEST = _TAKE.replace(_FIRST, _LAST)
