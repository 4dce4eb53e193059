"""Sends sagas' traces to an OpenTelemetry collector: off unless `SAGAS_OTLP_ENDPOINT` says where.

1. Spans are made of rows and events once these are committed (`sagas.spans`), by a task of its own, from a
   cursor in the event log (`sagas.engine.following`). No worker waits for a collector, and none that is
   killed takes a span with it.
2. The cursor moves when the collector has taken them: at least once. One that is sent again has the same id.
3. While the collector is away nothing is lost: what has not been sent does not go into the archive.

The packages `opentelemetry-sdk` and `opentelemetry-exporter-otlp-proto-http` are imported only then. What
they read of the environment holds, such as `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_SERVICE_NAME`.
"""

import datetime
import functools
import logging
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from django.core import exceptions
from django.db.models import Max

from sagas import conf, reading, spans
from sagas.engine import following
from sagas.models import Event, EventCursor, SagaInstance

logger = logging.getLogger("sagas")

BATCH = 500
"""Events that are read at a time."""

SPANS = 500
"""Spans of one request."""

TIMEOUT_S = 5.0
"""How long a collector may take, with all that its client tries meanwhile."""

BUDGET_S = 10.0
"""How long one run may take; what is left is the next one's."""

PARENTS = 32
"""Sagas above one another that are looked at for the trace to which a child belongs."""


def on() -> bool:
    """Whether traces are wanted."""
    return bool(conf.otlp_endpoint())


def run(*, broker: str = "", seconds: float = BUDGET_S) -> int:
    """Send what has ended since last time, up to now; or until the time is up.

    Arguments:
        broker: OpenTelemetry's name of the messaging system.
        seconds: read no further batch after so long.

    Returns:
        How many spans were sent.

    Raises:
        ImproperlyConfigured: the packages that send them are not installed.
    """
    until = time.monotonic() + seconds
    following.begin(EventCursor.TRACES, from_now=True)
    sent, newest = 0, following.newest()
    while time.monotonic() < until:
        batch = following.peek(EventCursor.TRACES, limit=BATCH)
        if not batch.empty:
            wanted = list(_ended(batch.after, batch.to, broker))
            for several in _chunks(wanted):
                if not _send(several):
                    logger.warning("the collector at %s took no spans; they stay", conf.otlp_endpoint())
                    return sent
                sent += len(several)
            following.advance(EventCursor.TRACES, batch)
        if not batch.leads_on(newest):
            break
    return sent


def must_stay(saga_ids: Collection[uuid.UUID]) -> Iterable[uuid.UUID]:
    """Of sagas that are to go into the archive, those of which something is still to be sent."""
    if not on():
        return []
    read_to = EventCursor.objects.filter(name=EventCursor.TRACES).values_list("read_to", flat=True).first()
    if read_to is None:
        return []
    last = Event.objects.filter(saga_id__in=saga_ids).values("saga_id").annotate(last=Max("pk"))
    return [row["saga_id"] for row in last if row["last"] > read_to]


# --- Which spans -----------------------------------------------------------------------------------

Sent = tuple[int, int | None, SagaInstance, spans.Span]
"""The trace, the span in which a saga's own is, the saga, and the span."""


def _chunks(wanted: list[Sent]) -> Iterator[list[Sent]]:
    for first in range(0, len(wanted), SPANS):
        yield wanted[first : first + SPANS]


def _ended(after: int, to: int, broker: str) -> Iterator[Sent]:
    """The spans that ended with one of these events."""
    ids = set(Event.objects.filter(pk__gt=after, pk__lte=to).values_list("saga_id", flat=True))
    found = SagaInstance.objects.filter(pk__in=ids).prefetch_related("steps", "events").order_by("pk")
    for saga in found.iterator(chunk_size=50):
        trace, above, sampled = trace_of(saga)
        if not sampled:
            continue
        steps, events = list(saga.steps.all()), list(saga.events.all())  # type: ignore[arg-type]
        for span in spans.of(saga, steps, events, broker=broker):
            if after < span.closed_by <= to:
                yield trace, above, saga, span


def trace_of(saga: SagaInstance) -> tuple[int, int | None, bool]:
    """The trace of a saga, the span that its own is a child of, and whether its trace is sent at all.

    A child belongs to its parent's trace, below the step that it is.
    """
    top, above = saga, None
    for _ in range(PARENTS):
        if top.parent_id is None:
            break
        parent = reading.in_bulk([top.parent_id]).get(top.parent_id)
        if parent is None:
            break  # It was forgotten: what is left of the family has a trace of its own.
        if above is None and top.parent_step is not None:
            above = spans.step_span_id(parent, top.parent_step)
        top = parent
    if top.traceparent is None:
        return top.pk.int, above, True
    _version, trace, span, flags = top.traceparent.split("-")
    return int(trace, 16), int(span, 16) if above is None else above, bool(int(flags, 16) & 1)


# --- Sending ---------------------------------------------------------------------------------------


def _send(several: Iterable[Sent]) -> bool:
    exporter, make = _exporter(conf.otlp_endpoint())
    from opentelemetry.sdk.trace.export import SpanExportResult

    return bool(exporter.export([make(*one) for one in several]) is SpanExportResult.SUCCESS)


@functools.lru_cache(maxsize=1)
def _exporter(endpoint: str) -> tuple[Any, Any]:
    """The exporter, and what makes its spans of ours.

    Raises:
        ImproperlyConfigured: its packages are not installed.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk import trace as sdk
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    except ImportError as error:
        raise exceptions.ImproperlyConfigured(
            "SAGAS_OTLP_ENDPOINT is set, and what sends traces is not installed:"
            " pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        ) from error
    resource, scope = Resource.create(), InstrumentationScope("sagas")
    kinds = {
        "internal": trace.SpanKind.INTERNAL,
        "client": trace.SpanKind.CLIENT,
        "consumer": trace.SpanKind.CONSUMER,
    }

    def context(trace_id: int, span_id: int, *, remote: bool = False) -> Any:
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        return trace.SpanContext(trace_id, span_id, is_remote=remote, trace_flags=flags)

    def make(trace_id: int, above: int | None, saga: SagaInstance, span: spans.Span) -> Any:
        parent = span.parent or above
        assert span.end is not None, "only what has ended is sent"
        return sdk.ReadableSpan(
            name=span.name,
            context=context(trace_id, span.id),
            parent=context(trace_id, parent, remote=span.parent is None) if parent else None,
            resource=resource,
            instrumentation_scope=scope,
            kind=kinds[span.kind],
            attributes={**span.attributes, "saga.id": str(saga.pk)},
            events=[sdk.Event(one.name, one.attributes, _nanoseconds(one.at)) for one in span.moments],
            links=[trace.Link(context(trace_id, link)) for link in span.links],
            status=trace.Status(trace.StatusCode.ERROR, span.error)
            if span.error
            else trace.Status(trace.StatusCode.UNSET),
            start_time=_nanoseconds(span.start),
            end_time=_nanoseconds(span.end),
        )

    return OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=TIMEOUT_S), make


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def _nanoseconds(at: datetime.datetime) -> int:
    """Since 1970. A float has too few digits for it."""
    return (at - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
