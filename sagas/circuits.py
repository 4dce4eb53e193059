"""Circuit breakers: an outage of one provider pauses its steps instead of spending their budgets (R4).

A service's circuit opens when several sagas in a row, all of them different, found it unavailable
and none found it working. While it is open its remote steps are put off without counting an
attempt. When its time is over one attempt is let through; that one decides. What it costs is not
held against its saga's budget: only deadlines end what waits for a provider that is out.
"""

import datetime
import functools
import logging
import uuid
from typing import Any

from django.db import connection, transaction

from sagas import models

logger = logging.getLogger("sagas")

THRESHOLD = 5
"""How many different sagas must fail in a row. One order with an unlucky card is no outage."""

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0


def closed_for(queue: str, *, probe: datetime.timedelta) -> datetime.timedelta | None:
    """How long the circuit stays open; None when an attempt may be made, this one perhaps the probe."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT open_until - clock_timestamp() FROM sagas_circuit"
            " WHERE name = %s AND open_until IS NOT NULL",
            [queue],
        )
        row = cursor.fetchone()
        if row is None:
            return None
        if row[0] > datetime.timedelta(0):
            remaining: datetime.timedelta = row[0]
            return remaining
        # Its time is over. Whoever moves it gets through; the others find it moved.
        cursor.execute(
            "UPDATE sagas_circuit SET open_until = clock_timestamp() + %s * interval '1 second'"
            " WHERE name = %s AND open_until <= clock_timestamp()",
            [probe.total_seconds(), queue],
        )
        return None if cursor.rowcount else datetime.timedelta(seconds=1)


def failed(
    queue: str,
    saga_id: uuid.UUID,
    *,
    begun_at: datetime.datetime,
    error: dict[str, Any],
    outage: bool = False,
) -> bool:
    """Count that a saga found the service unavailable, and open its circuit if it is one too many.

    An attempt that began after the circuit had opened is the one that was let through: the pause
    doubles. One that was under way when it opened tells nothing new.

    Arguments:
        queue: the service.
        saga_id: whose attempt it was.
        begun_at: when the attempt began, by the database's clock.
        error: what it met: error, kind, message and step, without personal facts.
        outage: whether nobody's saga can go on until a person mends something: then it opens at once.

    Returns:
        Whether the circuit is open now: it is not the saga's own failure.
    """
    circuit, _ = models.Circuit.objects.select_for_update().get_or_create(name=queue)
    failing = [*(known for known in circuit.failing if known != str(saga_id)), str(saga_id)][-THRESHOLD:]
    circuit.failing = failing
    now = models.database_now()
    circuit.failures += 1
    circuit.failing_since = circuit.failing_since or now
    circuit.error = error
    called = outage and not circuit.needs_person
    circuit.needs_person = circuit.needs_person or outage
    if circuit.opened_at is None and (outage or len(failing) >= THRESHOLD):
        circuit.opened_at = now
        _open(circuit, now)
    elif circuit.opened_at is not None and (called or begun_at > circuit.opened_at):
        _open(circuit, now)
    circuit.save()
    if called:
        _call_a_person(queue, error)
    return circuit.opened_at is not None


def _open(circuit: models.Circuit, now: datetime.datetime) -> None:
    pause_s = min(FIRST_PAUSE_S * 2 ** min(circuit.trips, 10), LONGEST_PAUSE_S)
    if circuit.needs_person:
        pause_s = LONGEST_PAUSE_S  # What a person must mend does not mend itself within seconds.
    circuit.trips += 1
    circuit.open_until = now + datetime.timedelta(seconds=pause_s)


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


def worked(queue: str) -> None:
    """The service answered: close its circuit."""
    models.Circuit.objects.filter(name=queue).exclude(failing=[], open_until=None).update(
        failing=[],
        trips=0,
        opened_at=None,
        open_until=None,
        failures=0,
        failing_since=None,
        needs_person=False,
    )
