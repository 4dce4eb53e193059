"""Circuit breakers: an outage of one provider pauses its steps instead of spending their budgets (R4).

A service's circuit opens when several sagas in a row, all of them different, found it unavailable and
none found it working. Only a saga's first trouble there is held against the service: what fails again
although the service has meanwhile worked for another saga fails for its own sake, and spends its own
budget. So one order with an unlucky card is no outage, and neither are many of them beside others.

While the circuit is open its remote steps are parked on their sagas' rows: no message, no timer, and no
attempt counted. Now and then a few different sagas are let through, first those that never failed there,
then those that failed least often. The first success closes the circuit, and those that wait are woken
at a bounded rate, in the same order. Only clocks end what waits for a provider that is out.

The parts are known ones: several calls permitted while half open, and a pause that grows to a cap, as in
Resilience4j and in Envoy's outlier detection. Those judge by calls. Here one bad order makes many calls,
so it is different sagas that count; and the state is a row, for all workers alike.
"""

import datetime
import functools
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection, transaction

from sagas import conf, models
from sagas.engine import pipeline

logger = logging.getLogger("sagas")

PROBES = 3
"""How many different sagas are let through at a time: one of them alone may be a bad order."""

PROBES_UNDER_WAY = 9
"""No more are let through while so many have not been heard of: a provider may hang instead of failing."""

PROBE_LOST_S = 30.0
"""After this long without any news those let through are given up: a worker may have died with them."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
PAUSE_SHARE = 0.1
"""Those that failed there are tried again after a tenth of the time that the outage has lasted, between
the two pauses above: so no saga waits much longer than the outage itself took."""

UNTRIED_PAUSE_S = 5.0
"""So often, however long it lasts, a few more are let through that never failed there. Each is untried
only once; and one that could go well must not wait for the pause of those that could not."""

WAKES = 100
WAKE_PAUSE_S = 0.8
"""So many are woken at once when the service works again, and so long is the pause before the next ones:
a tick of the sweep is a second. What they do takes longer than to wake them."""


Open = Mapping[str, Sequence[bool]]
"""Open circuits by service: whether a saga is let through, and whether it is if it never failed there."""


def open_for(whose: str) -> str:
    """An expression of SQL: how the open circuits stand for a saga; null while none is open.

    Arguments:
        whose: an expression for its id, as text.
    """
    stands = f"probes ? {whose}, NOT needs_person AND (permits > 0 OR permits_at <= clock_timestamp())"
    return (
        f"(SELECT jsonb_object_agg(name, jsonb_build_array({stands}))"  # noqa: S608 - our own expression
        " FROM sagas_circuit WHERE opened_at IS NOT NULL)"
    )


def admits(
    queue: str, saga_id: uuid.UUID, *, untried: bool, take: bool = False, known: Open | None = None
) -> bool:
    """Whether the saga may make an attempt at the service now.

    Arguments:
        queue: the service.
        saga_id: who asks.
        untried: whether it never failed there.
        take: whether it makes the attempt at once: then it takes the permit that lets it through.
        known: how the open circuits stand, if that has just been read.
    """
    if known is None:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {open_for('%s')}", [str(saga_id)])
            known = read(cursor.fetchone()[0])
    let_through, permitted = known.get(queue, (True, True))
    if let_through or not (untried and permitted):
        return let_through
    return _take_permit(queue) if take else True


def read(value: Any) -> Open:
    """What such an expression gave; Django's cursors give JSON as text."""
    return (json.loads(value) if isinstance(value, str) else value) or {}


def failed(
    queue: str,
    saga_id: uuid.UUID,
    *,
    troubled_since: datetime.datetime | None,
    error: dict[str, Any],
    outage: bool = False,
) -> bool:
    """Count that a saga found the service unavailable, and open its circuit if it is one too many.

    Arguments:
        queue: the service.
        saga_id: whose attempt it was.
        troubled_since: when the first of the saga's attempts began that failed there, by the database's
            clock. Where the service has worked for another saga since, it is the saga's own trouble.
        error: what it met: error, kind, message and step, without personal facts.
        outage: whether no saga can go on there until a person mends something: then it opens at once.

    Returns:
        Whether the circuit is open now: then it is not the saga's own failure.
    """
    circuit, _ = models.Circuit.objects.select_for_update().get_or_create(name=queue)
    worked_since = circuit.worked_at is not None and (
        troubled_since is not None and troubled_since <= circuit.worked_at
    )
    if circuit.opened_at is None and worked_since and not outage:
        return False
    now = models.database_now()
    known = str(saga_id)
    threshold = conf.circuit_threshold()
    circuit.failing = [*(other for other in circuit.failing if other != known), known][-threshold:]
    circuit.probes = [other for other in circuit.probes if other != known]
    circuit.failures += 1
    circuit.failing_since = circuit.failing_since or now
    circuit.error = error
    called = outage and not circuit.needs_person
    circuit.needs_person = circuit.needs_person or outage
    if circuit.opened_at is None and (outage or len(circuit.failing) >= threshold):
        circuit.opened_at, circuit.probes, circuit.trips = now, [], 0
        _shut(circuit, now)
    elif called:
        _shut(circuit, now)
    circuit.save()
    if called:
        _call_a_person(queue, error)
    return circuit.opened_at is not None


def worked(queue: str, *, begun_at: datetime.datetime) -> pipeline.Statement:
    """What says that the service answered: it closes its circuit, and forgets who failed before.

    Nothing is written while nothing is wrong. An attempt that began before the circuit opened says
    nothing about how the service fares now.

    Arguments:
        queue: the service.
        begun_at: when the attempt began, by the database's clock.
    """
    return pipeline.Statement(
        "UPDATE sagas_circuit SET failing = '[]', probes = '[]', trips = 0, opened_at = NULL,"
        " open_until = NULL, permits = 0, permits_at = NULL, failures = 0, failing_since = NULL,"
        " needs_person = false, worked_at = clock_timestamp()"
        " WHERE name = %s AND (opened_at < %s OR (opened_at IS NULL AND failing <> '[]'))",
        [queue, begun_at],
    )


def let_through(queue: str, saga_id: uuid.UUID) -> None:
    """Let this saga through the open circuit, because an operator wants it tried now.

    No more than a few at a time: thousands that are retried at once would all be turned away.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_circuit SET probes = probes || to_jsonb(%(saga)s::text) WHERE name = %(queue)s"
            " AND opened_at IS NOT NULL AND NOT probes ? %(saga)s AND jsonb_array_length(probes) < %(most)s",
            {"saga": str(saga_id), "queue": queue, "most": PROBES_UNDER_WAY + PROBES},
        )


def tend() -> None:
    """For each service that sagas wait for: let a few through if it is time, or wake them if it works again.

    It costs as much however many wait, and a crash at any point loses none: what is not woken yet waits
    for a circuit that is closed, and is found so by the next tick.
    """
    for queue, is_open in _waited_for():
        if is_open:
            _let_some_through(queue)
        else:
            _wake_some(queue)


# --- Those that wait ------------------------------------------------------------------------------

_WAITED_FOR = """
WITH RECURSIVE sagas (queue) AS (
    (SELECT parked_for FROM sagas_saga WHERE parked_for IS NOT NULL ORDER BY parked_for LIMIT 1)
    UNION ALL
    SELECT (SELECT parked_for FROM sagas_saga WHERE parked_for > sagas.queue ORDER BY parked_for LIMIT 1)
    FROM sagas WHERE sagas.queue IS NOT NULL
), members (queue) AS (
    (SELECT parked_for FROM sagas_step WHERE parked_for IS NOT NULL ORDER BY parked_for LIMIT 1)
    UNION ALL
    SELECT (SELECT parked_for FROM sagas_step WHERE parked_for > members.queue ORDER BY parked_for LIMIT 1)
    FROM members WHERE members.queue IS NOT NULL
)
SELECT waited.queue, circuit.opened_at IS NOT NULL
FROM (SELECT queue FROM sagas UNION SELECT queue FROM members) AS waited
LEFT JOIN sagas_circuit circuit ON circuit.name = waited.queue
WHERE waited.queue IS NOT NULL
  AND (circuit.opened_at IS NULL OR circuit.open_until <= clock_timestamp()
       OR (NOT circuit.needs_person AND (circuit.permits > 0 OR circuit.permits_at <= clock_timestamp())))
"""
# One index entry is read for each service, however many sagas wait: PostgreSQL's wiki calls it a loose
# index scan. A circuit without a row is closed.

_UNPARK_MEMBERS = """
UPDATE sagas_step SET parked_for = NULL, wake_at = clock_timestamp() WHERE id = ANY (ARRAY(
    SELECT s.id FROM sagas_step s JOIN sagas_saga g ON g.id = s.saga_id
    WHERE s.parked_for = %s AND s.parked_rank <= %s AND g.held_at IS NULL
    ORDER BY s.parked_rank, s.id LIMIT %s FOR UPDATE OF g, s SKIP LOCKED
)) RETURNING saga_id
"""
# The saga's row is locked as well: nobody writes a member's row without it.

_UNPARK = """
UPDATE sagas_saga SET parked_for = NULL, wake_at = clock_timestamp() WHERE id = ANY (ARRAY(
    SELECT id FROM sagas_saga WHERE parked_for = %s AND parked_rank <= %s AND held_at IS NULL
    ORDER BY parked_rank, id LIMIT %s FOR UPDATE SKIP LOCKED
)) RETURNING id
"""
# ARRAY: it is asked once, whatever the plan; asked for each row, it would skip those it has and take more.
# SKIP LOCKED: the session that holds such a row is about to change it, and may want this circuit next.

ANY_RANK = 32767


def _waited_for() -> list[tuple[str, bool]]:
    """The services for which there is something to do, and whether the circuit of each is open."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITED_FOR)
        return [(queue, is_open) for queue, is_open in cursor.fetchall()]


def _unpark(queue: str, *, at_most: int, rank: int = ANY_RANK) -> list[str]:
    """Have the sweep look now at so many of those that wait: the least tried first, of them the oldest.

    Half of them are members of stages, where so many of those wait.
    """
    with connection.cursor() as cursor:
        cursor.execute(_UNPARK_MEMBERS, [queue, rank, (at_most + 1) // 2])
        unparked = [str(saga_id) for (saga_id,) in cursor.fetchall()]
        cursor.execute(_UNPARK, [queue, rank, at_most - len(unparked)])
        return unparked + [str(saga_id) for (saga_id,) in cursor.fetchall()]


def _let_some_through(queue: str) -> None:
    """Let a few through, if no other sweeper does so at this moment."""
    with transaction.atomic():
        circuit = (
            models.Circuit.objects.select_for_update(skip_locked=True)
            .filter(name=queue, opened_at__isnull=False)
            .first()
        )
        if circuit is None:
            return
        now = models.database_now()
        let_through: list[str] = []
        if circuit.open_until is not None and circuit.open_until <= now:
            if now - circuit.open_until >= datetime.timedelta(seconds=PROBE_LOST_S):
                circuit.probes = []
            if len(circuit.probes) < PROBES_UNDER_WAY:
                let_through += _unpark(queue, at_most=1 if circuit.needs_person else PROBES)
            if let_through:
                circuit.open_until = now + _pause(circuit, now)
                circuit.trips += 1
        if not circuit.needs_person:
            if circuit.permits_at is not None and circuit.permits_at <= now:
                circuit.permits = PROBES
                circuit.permits_at = now + datetime.timedelta(seconds=UNTRIED_PAUSE_S)
            untried = _unpark(queue, at_most=circuit.permits, rank=0) if circuit.permits else []
            circuit.permits -= len(untried)
            let_through += untried
        if let_through:
            circuit.probes = [*circuit.probes, *let_through]
            circuit.save()


def _wake_some(queue: str) -> None:
    """Wake a bounded number of those that wait for a service that works again."""
    with transaction.atomic():
        models.Circuit.objects.get_or_create(name=queue)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE sagas_circuit SET woken_at = clock_timestamp() WHERE name = %s AND opened_at IS NULL"
                " AND (woken_at IS NULL OR woken_at <= clock_timestamp() - %s * interval '1 second')",
                [queue, WAKE_PAUSE_S],
            )
            if cursor.rowcount:
                _unpark(queue, at_most=WAKES)


# --- The circuit itself ---------------------------------------------------------------------------


def _take_permit(queue: str) -> bool:
    """Take a permit for a saga that never failed there; the first to come gets it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sagas_circuit SET"
            " permits = CASE WHEN permits_at <= clock.now THEN %(all)s ELSE permits END - 1,"
            " permits_at = CASE WHEN permits_at <= clock.now"
            "   THEN clock.now + %(pause)s * interval '1 second' ELSE permits_at END"
            " FROM (SELECT clock_timestamp() AS now) AS clock"
            " WHERE name = %(queue)s AND opened_at IS NOT NULL AND NOT needs_person"
            " AND (permits > 0 OR permits_at <= clock.now)",
            {"all": PROBES, "pause": UNTRIED_PAUSE_S, "queue": queue},
        )
        return bool(cursor.rowcount)


def _shut(circuit: models.Circuit, now: datetime.datetime) -> None:
    """Let no saga through for a while, and a few after it."""
    circuit.open_until = now + _pause(circuit, now)
    circuit.permits, circuit.permits_at = 0, circuit.open_until


def _pause(circuit: models.Circuit, now: datetime.datetime) -> datetime.timedelta:
    """How long no saga that failed there is tried again."""
    if circuit.needs_person:
        return datetime.timedelta(seconds=LONGEST_PAUSE_S)  # It does not mend itself within seconds.
    lasted_s = (now - circuit.opened_at).total_seconds() if circuit.opened_at else 0.0
    return datetime.timedelta(seconds=min(max(PAUSE_SHARE * lasted_s, FIRST_PAUSE_S), LONGEST_PAUSE_S))


def _call_a_person(queue: str, error: dict[str, Any]) -> None:
    """Say it once per outage: the console and the metric go on saying it for as long as it lasts."""
    transaction.on_commit(
        functools.partial(
            logger.error,
            "no saga can go on at %s until a person mends something: %s: %s All of them wait, and go on by"
            " themselves when it works again.",
            queue,
            error.get("error"),
            error.get("message"),
        )
    )
