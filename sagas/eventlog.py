"""A log line for each event of a saga, for those who look into logs and not into the database.

Off unless `SAGAS_LOG_EVENTS` is set. The lines are made of the event log once it is committed, from a cursor
in it (`sagas.engine.following`), by the process that sweeps: so none is lost with a process that is killed,
and none tells of what was rolled back. One that dies between the lines and its commit tells them again, under
the same `event_id`.

A line says what happened, when, and to which saga, step and attempt. Who did it, why, and what anybody wrote
is not in it: that may be personal, and stays where it can be struck out.
"""

import logging
import time
import uuid
from collections.abc import Collection, Iterable
from typing import Any

from django.db.models import Max

from sagas import conf, tracing
from sagas.engine import following
from sagas.models import Event, EventCursor, SagaInstance

logger = logging.getLogger("sagas.events")

BATCH = 500
"""Lines of one transaction."""

KINDS = ("kind", "clock")
"""Of an event's data only these are told: words of our own."""


def on() -> bool:
    """Whether such lines are wanted."""
    return conf.log_events()


def run(*, until: float) -> int:
    """Tell what has happened since last time, up to now; or until the time is up.

    Arguments:
        until: begin no further batch after this moment of `time.monotonic()`.

    Returns:
        How many lines.

    Raises:
        django.db.OperationalError: another process does the same at this moment, or the database is away.
    """
    following.begin(EventCursor.LOGS, from_now=True)
    told, newest = 0, following.newest()
    while following.is_behind(EventCursor.LOGS) and time.monotonic() < until:
        with following.batch(EventCursor.LOGS, limit=BATCH) as batch:
            told += _tell(batch.after, batch.to)
        if not batch.leads_on(newest):
            break
    return told


def must_stay(saga_ids: Collection[uuid.UUID]) -> Iterable[uuid.UUID]:
    """Of sagas that are to go into the archive, those of which something is still to be told."""
    if not on():
        return []
    read_to = EventCursor.objects.filter(name=EventCursor.LOGS).values_list("read_to", flat=True).first()
    if read_to is None:
        return []
    last = Event.objects.filter(saga_id__in=saga_ids).values("saga_id").annotate(last=Max("pk"))
    return [row["saga_id"] for row in last if row["last"] > read_to]


def _tell(after: int, to: int) -> int:
    events = list(Event.objects.filter(pk__gt=after, pk__lte=to).order_by("pk"))
    # The archiver takes none of which an event is still to be told.
    sagas = SagaInstance.objects.in_bulk({event.saga_id for event in events})
    traces: dict[uuid.UUID, str] = {}
    for event in events:
        saga = sagas[event.saga_id]
        if saga.pk not in traces:
            traces[saga.pk] = f"{tracing.trace_of(saga)[0]:032x}"
        step = f" {event.subject}" if event.subject else ""
        attempt = f", attempt {event.attempt}" if event.attempt else ""
        logger.info(
            "%s %s:%s %s%s", saga.name, saga.key, step, event.kind, attempt,
            extra=_fields(event, saga, traces[saga.pk]),
        )  # fmt: skip
    return len(events)


def _fields(event: Event, saga: SagaInstance, trace_id: str) -> dict[str, Any]:
    own = {name: value for name in KINDS if isinstance(value := event.data.get(name), str)}
    return {
        "event": str(event.kind),
        "event_id": event.pk,
        "at": event.at.isoformat(),
        "saga": saga.name,
        "saga_id": str(saga.pk),
        "key": saga.key,
        "step": event.subject,
        "attempt": event.attempt,
        "before": event.from_state,
        "state": event.to_state,
        "failure": own.get("kind"),
        "clock": own.get("clock"),
        "trace_id": trace_id,
    }
