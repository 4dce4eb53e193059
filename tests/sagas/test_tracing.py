"""Traces: made of rows after the fact, sent at least once, read here with OpenTelemetry's own definitions."""

import datetime

import pytest
from django.db import transaction

from sagas import engine, models, tracing
from sagas.engine import archive, tracecontext
from sagas.testing import clocks
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys
from tests.support import collector as collectors
from tests.support import waiting

OF_A_REQUEST = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def collector(broker, settings):
    with collectors.running() as running:
        settings.SAGAS_OTLP_ENDPOINT = running.url
        tracing.run()  # From now on: what was before is not sent.
        yield running
    tracing._exporter.cache_clear()


def send_all():
    """Send until all is sent: other databases of the server may have transactions under way."""
    newest = models.Event.objects.order_by("-id").values_list("id", flat=True).first() or 0

    def sent():
        tracing.run(broker="rabbitmq")
        return models.EventCursor.objects.filter(name="traces", read_to__gte=newest).exists()

    waiting.until(sent, "all is sent")


def said(span):
    return {
        one.key: one.value.string_value or one.value.int_value or one.value.bool_value
        for one in span.attributes
    }


def took(span):
    return span.end_time_unix_nano - span.start_time_unix_nano


def hours(number):
    return datetime.timedelta(hours=number)


def test_a_saga_is_one_trace_with_its_attempts_its_calls_and_what_was_undone(collector, broker):
    saga = harness.begin(toys.MIXED, "do a, 2x flake b, do b, do c, fail d")
    clocks.pass_time(datetime.timedelta(seconds=3), saga.pk)
    harness.drive(broker, saga)
    send_all()

    named = collector.by_name()
    assert {span.trace_id for span in collector.spans} == {saga.pk.bytes}
    ids = {span.span_id: span for span in collector.spans}
    assert len(ids) == len(collector.spans), "each came once"
    (root,) = named["saga toy-mixed"]
    assert [span for span in collector.spans if not span.parent_span_id] == [root]
    for span in collector.spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        assert span is root or span.parent_span_id in ids
    # As many attempts as the rows say, each below its step; of remote ones the provider's call.
    for row in saga.steps.all():
        for word, number in (("", row.attempts), ("undo ", row.undo_attempts)):
            attempts = named.get(f"{word}{row.name} attempt", [])
            assert len(attempts) == number, (word, row.name)
            assert all(ids[one.parent_span_id].name == f"{word}{row.name}" for one in attempts)
    assert [said(one)["saga.outcome"] for one in named["b attempt"]] == ["retry", "retry", "done"]
    calls = [span for span in named["call world"] if ids[span.parent_span_id].name == "b attempt"]
    assert [span.kind for span in calls] == [3, 3, 3], "of a client"
    # An undo links to what it undoes.
    assert [link.span_id for link in named["undo b"][0].links] == [named["b"][0].span_id]
    # The saga's turn is an event of its span, and how it ended its status.
    assert [event.name for event in root.events] == ["saga.compensating"]
    assert (root.status.code, root.status.message) == (2, "refused")
    # A message stands beside the attempt, which links to it; its system is the broker.
    received = max(named["receive toys"], key=took)
    assert took(received) >= 3e9
    assert received.span_id in [link.span_id for span in named["a attempt"] for link in span.links]
    assert said(received)["messaging.system"] == "rabbitmq"


def test_a_worker_that_was_killed_leaves_a_whole_trace(collector, broker, simulated_death):
    saga = harness.begin(toys.MIXED, "do a, die b, ask b, do b, do c, do d")
    harness.drive(broker, saga)
    send_all()

    named = collector.by_name()
    assert said(named["b attempt"][0])["saga.outcome"] == "lost"
    assert said(named["saga toy-mixed"][0])["saga.state"] == "completed"


def test_while_the_collector_is_away_nothing_is_lost_and_nothing_waits(collector, broker):
    collector.answer = 400
    saga = harness.begin(toys.LOCAL)
    harness.drive(broker, saga)
    waiting.until(lambda: (tracing.run(), collector.refused)[1], "something was to be sent")
    clocks.pass_time(hours(3))
    assert archive.run(older_than=hours(0)) == 0, "it stays until it has been sent"

    collector.answer = 200
    send_all()
    first = {span.span_id: span for span in collector.spans}
    assert {span.name for span in collector.spans} >= {"saga toy-local", "a", "b", "c"}
    # Sent again, by one who died before the cursor was moved, they are the same.
    models.EventCursor.objects.filter(name="traces").update(read_to=0)
    collector.spans.clear()
    send_all()
    assert {span.span_id: span for span in collector.spans} == first
    assert archive.run(older_than=hours(0)) == 1


def test_a_saga_belongs_to_the_trace_of_the_request_that_began_it_and_its_children_too(collector, broker):
    with engine.traced(OF_A_REQUEST):
        parent = harness.begin(toys.EACH, inputs={"parcels": [1, 2]})
    with engine.traced(OF_A_REQUEST.removesuffix("1") + "0"):
        unsampled = harness.begin(toys.ONE)
    harness.drive(broker, parent, unsampled)
    send_all()

    assert {span.trace_id.hex() for span in collector.spans} == {OF_A_REQUEST[3:35]}
    named = collector.by_name()
    (root,) = named[f"saga {parent.name}"]
    assert root.parent_span_id.hex() == OF_A_REQUEST[36:52]
    children = [span for span in collector.spans if said(span).get("saga.name") not in (None, parent.name)]
    assert len(children) == 2
    assert {span.parent_span_id for span in children} == {named["deliver"][0].span_id}
    assert "saga toy-one" not in named, "whoever asked keeps no trace of it"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (OF_A_REQUEST, OF_A_REQUEST),
        (f" {OF_A_REQUEST} ", OF_A_REQUEST),
        ("cc" + OF_A_REQUEST[2:] + "-of-the-future", "cc" + OF_A_REQUEST[2:]),
        (OF_A_REQUEST + "-more", None),
        ("ff" + OF_A_REQUEST[2:], None),
        (OF_A_REQUEST.upper(), None),
        ("00-" + "0" * 32 + OF_A_REQUEST[35:], None),
        (OF_A_REQUEST[:36] + "0" * 16 + "-01", None),
        ("nonsense", None),
        ("", None),
        (None, None),
    ],
)
def test_only_a_valid_traceparent_is_kept(given, kept):
    assert tracecontext.valid(given) == kept


def test_it_is_kept_on_the_row_and_without_one_there_is_none(rows):
    with transaction.atomic(), engine.traced(OF_A_REQUEST):
        begun = harness.begin(toys.ONE)
    begun.refresh_from_db()

    assert begun.traceparent == OF_A_REQUEST
    assert harness.begin(toys.ONE).traceparent is None
