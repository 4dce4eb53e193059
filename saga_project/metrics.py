"""`/metrics`, for Prometheus: read from the rows, so it is right whichever process answers.

Where there is a replica that is close enough behind, from its rows. Counters and histograms are sums that the
sweep keeps (`sagas.engine.fold_metrics`); gauges are read anew.

Never public: it wants a token with the scope `staff`, which Prometheus sends as
`authorization: {type: Token, credentials: ...}`.
"""

import math
from collections.abc import Iterator

import prometheus_client
from django import http
from django.db import connections
from prometheus_client import core, registry
from rest_framework.request import Request

from api import auth, rendering
from api.views import View
from saga_project import replica
from sagas import database, engine
from sagas import models as saga_models
from sagas.console import health
from sagas.declaration import states


class Text(rendering.JSON):
    """Makes `Accept: text/plain` acceptable; errors are JSON all the same."""

    media_type = "text/plain"
    format = "text"


class Metrics(View):
    """What the engine's health says, in the format of Prometheus."""

    scopes = auth.STAFF
    renderer_classes = (Text,)
    schema = None

    def get(self, request: Request) -> http.HttpResponse:
        """Answer with the present value of every metric."""
        text = replica.read(_text)
        return http.HttpResponse(text, content_type=prometheus_client.CONTENT_TYPE_LATEST)


def _text() -> bytes:
    collected = registry.CollectorRegistry(auto_describe=False)
    collected.register(_Rows())
    return prometheus_client.generate_latest(collected)


class _Rows(registry.Collector):
    """Reads the rows anew for each request."""

    def collect(self) -> Iterator[core.Metric]:
        yield from _sums()
        yield from _opened(health.opened())
        yield from _shop()
        now = health.read("1h")
        yield _gauge("sagas_live", "Sagas under way, by state.", ["state"], [
            ([state.value], now.live.get(state.value, 0)) for state in sorted(states.LIVE)
        ])  # fmt: skip
        yield from _families(health.families())
        yield _gauge("sagas_begun_last_hour", "Begun in the last hour, by fate.", ["state"], [
            ([state], count) for state, count in now.totals.items()
        ])  # fmt: skip
        age = (now.now - now.oldest.created_at).total_seconds() if now.oldest else 0
        yield _gauge("sagas_oldest_live_seconds", "Age of the oldest live saga.", [], [([], age)])
        yield _gauge("sagas_held", "Sagas that an operator holds.", [], [([], now.held)])
        waiting: list[tuple[list[str], float]] = [([], now.callbacks_waiting)]
        yield _gauge("sagas_callbacks_attention", "Callbacks that wait for a person.", [], waiting)
        yield _gauge("sagas_overdue", "Sagas whose time has come and that no sweep took yet.", [], [
            ([], now.overdue)
        ])  # fmt: skip
        yield _gauge("sagas_sweep_lag_seconds", "For how long the most overdue saga has been due.", [], [
            ([], now.sweep_lag.total_seconds())
        ])  # fmt: skip
        yield _gauge("sagas_sweep_age_seconds", "How long ago somebody swept; +Inf if nobody ever has.", [], [
            ([], math.inf if now.swept is None else now.swept.total_seconds())
        ])  # fmt: skip
        yield _gauge("sagas_queue_lag_seconds", "How long the oldest probe is unanswered.", ["queue"], [
            ([queue.name], queue.lag.total_seconds()) for queue in now.queues if queue.lag is not None
        ])  # fmt: skip
        yield _gauge("sagas_queue_silent_seconds", "How long no worker has given a sign.", ["queue"], [
            ([queue.name], queue.silence.total_seconds()) for queue in now.queues if queue.silence is not None
        ])  # fmt: skip
        yield _gauge("sagas_in_line", "Sagas that are due and wait until a queue takes them.", ["queue"], [
            ([queue.name], queue.in_line) for queue in now.queues
        ])  # fmt: skip
        yield _gauge(
            "sagas_longest_line",
            "With so many sagas in a queue's line no more begin there; not told where none is set.",
            ["queue"],
            [([queue.name], queue.longest_line) for queue in now.queues if queue.longest_line is not None],
        )
        yield _gauge("sagas_circuit_open", "Whether a service's provider is taken to be out.", ["queue"], [
            ([queue.name], int(_is_open(queue, now))) for queue in now.queues if queue.calls_out
        ])  # fmt: skip
        yield _gauge(
            "sagas_circuit_needs_person",
            "Whether a service's provider stays out until a person mends something.",
            ["queue"],
            [([queue.name], int(queue.needs_person)) for queue in now.queues if queue.calls_out],
        )
        for quantile, name in ((0.5, "p50"), (0.95, "p95")):
            for what, field, text in (
                ("", name, "How long workers had a step, over its attempts"),
                ("idle_", f"wait_{name}", "How long nobody had a step, beside that: it waited"),
            ):
                yield _gauge(
                    f"sagas_step_{what}{name}_seconds",
                    f"{text}, quantile {quantile}, of the newest {health.RECENT} sagas.",
                    ["saga", "step"],
                    [
                        ([step.saga, step.step], value.total_seconds())
                        for step in now.steps
                        if (value := getattr(step, field)) is not None
                    ],
                )


def _sums() -> Iterator[core.Metric]:
    """What happened: the sums, and how far they have come."""
    for metric, samples in engine.read_metrics():
        if metric.kind is engine.MetricKind.COUNTER:
            counter = core.CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
            for one in samples:
                counter.add_metric(one.labels, one.value)
            yield counter
        else:
            histogram = core.HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            for one in samples:
                histogram.add_metric(one.labels, one.buckets, one.value)
            yield histogram
    age = engine.metrics_age()
    yield _gauge("sagas_metrics_age_seconds", "How old the sums are; +Inf if never made.", [], [
        ([], math.inf if age is None else age.total_seconds())
    ])  # fmt: skip


def _opened(now: health.OpenFigures) -> Iterator[core.Metric]:
    """What waits for a person or an answer, and for how long it has."""
    reasons, steps = ["saga", "reason", "direction"], ["saga", "step"]
    yield _gauge("sagas_attention_open", "Sagas that need attention, and why.", reasons, [
        ([*labels], one.count) for labels, one in now.attention.items()
    ])  # fmt: skip
    yield _gauge("sagas_attention_oldest_seconds", "How long the first of them has needed it.", reasons, [
        ([*labels], one.oldest.total_seconds()) for labels, one in now.attention.items()
    ])  # fmt: skip
    yield _gauge("sagas_unknown_open", "Steps of which it is not known whether they happened.", steps, [
        ([*labels], one.count) for labels, one in now.unknown.items()
    ])  # fmt: skip
    yield _gauge("sagas_unknown_oldest_seconds", "For how long that is so of the first of them.", steps, [
        ([*labels], one.oldest.total_seconds()) for labels, one in now.unknown.items()
    ])  # fmt: skip
    yield _gauge("sagas_archive_lag_seconds", "How long the first saga has been due for the archive.", [], [
        ([], now.archive_lag.total_seconds())
    ])  # fmt: skip


def _shop() -> Iterator[core.Metric]:
    """Webhooks that are still to be sent, and who follows orders."""
    with database.for_reading(saga_models.SagaInstance).cursor() as cursor:
        cursor.execute(_BACKLOG)
        row = cursor.fetchone()
    assert row is not None, "an aggregate has a row"
    outbox, pending, oldest = row
    # That table is unlogged: a standby has nothing of it.
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM orders_follower WHERE until > clock_timestamp()")
        followers = (cursor.fetchone() or (0,))[0]
    stages: list[tuple[list[str], float]] = [(["event"], outbox), (["message"], pending)]
    yield _gauge("webhooks_backlog", "Events without webhooks yet, and webhooks to send.", ["stage"], stages)
    yield _gauge("webhooks_backlog_oldest_seconds", "How long ago the oldest of the messages was made.", [], [
        ([], oldest)
    ])  # fmt: skip
    yield _gauge(
        "followers", "Orders that are followed, each once for each web process.", [], [([], followers)]
    )


_BACKLOG = """
SELECT (SELECT count(*) FROM webhooks_outbox), count(*),
    COALESCE(EXTRACT(epoch FROM clock_timestamp() - min(message.created_at)), 0)::float8
  FROM webhooks_delivery delivery JOIN webhooks_message message ON message.id = delivery.message_id
 WHERE delivery.state = 'pending'
"""


def _families(now: health.FamilyFigures) -> Iterator[core.Metric]:
    """Children of other sagas, and who waits for whom."""
    yield _gauge(
        "sagas_live_children",
        "Of the sagas under way those that are children of others, by their name and state.",
        ["saga", "state"],
        [([name, state], count) for (name, state), count in now.live.items()],
    )
    yield _gauge(
        "sagas_children_waiting",
        "Of those the ones whose steps are all done, and which wait for their parent's outcome.",
        ["saga"],
        [([name], count) for name, count in now.waiting.items()],
    )
    yield _gauge(
        "sagas_parents_waiting",
        "Sagas that are at a step which is sagas of its own, and wait for these.",
        ["saga", "step"],
        [([name, step], count) for (name, step), count in now.parents.items()],
    )


def _is_open(queue: health.QueueFigures, now: health.Health) -> bool:
    circuit = queue.circuit
    return circuit is not None and circuit.open_until is not None and circuit.open_until > now.now


def _gauge(
    name: str, help_text: str, labels: list[str], samples: list[tuple[list[str], float]]
) -> core.GaugeMetricFamily:
    family = core.GaugeMetricFamily(name, help_text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
