"""The log's lines of a saga's events: each once, in the saga's trace, without what people said."""

import datetime
import logging
import time

import pytest

from sagas import engine, eventlog, models
from sagas.engine import archive
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys
from tests.support import waiting

OF_A_REQUEST = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def wanted(broker, settings, caplog):
    settings.SAGAS_LOG_EVENTS = True
    eventlog.run(until=time.monotonic() + 60)  # From now on: what was before is not told.
    caplog.set_level(logging.INFO, eventlog.logger.name)


def tell(caplog):
    """Tell until all is told: other databases of the server may have transactions under way."""
    newest = models.Event.objects.order_by("-id").values_list("id", flat=True).first() or 0

    def told():
        eventlog.run(until=time.monotonic() + 60)
        return models.EventCursor.objects.filter(name="logs", read_to__gte=newest).exists()

    waiting.until(told, "all is told")
    return [one for one in caplog.records if one.name == eventlog.logger.name]


def test_each_event_is_a_line_with_saga_step_attempt_and_trace(wanted, broker, caplog):
    with engine.traced(OF_A_REQUEST):
        saga = harness.begin(toys.MIXED, "do a, 2x flake b, do b, do c, fail d")
    harness.drive(broker, saga)

    lines = tell(caplog)

    events = list(models.Event.objects.filter(saga=saga).order_by("pk"))
    assert [(one.event_id, one.event, one.step, one.attempt) for one in lines] == [
        (event.pk, event.kind, event.subject, event.attempt) for event in events
    ]
    assert {(one.saga, one.saga_id, one.trace_id) for one in lines} == {
        ("toy-mixed", str(saga.pk), OF_A_REQUEST.split("-")[1])
    }
    retried = next(one for one in lines if one.event == "step.retry")
    assert (retried.step, retried.attempt, retried.failure) == ("b", 1, "transient")
    assert retried.getMessage() == f"toy-mixed {saga.key}: b step.retry, attempt 1"
    # Nothing is told twice.
    caplog.clear()
    assert tell(caplog) == []


def test_nothing_that_somebody_said_or_did_under_their_name_is_told(wanted, broker, caplog):
    saga = harness.begin(toys.MIXED, "do a, do b, do c, do d")
    engine.hold(saga.pk, seen=engine.look(saga.pk), actor="olga", reason="Ana Souza called")

    lines = tell(caplog)

    assert "operator.hold" in [one.event for one in lines]
    for one in lines:
        assert "olga" not in str(vars(one))
        assert "Souza" not in str(vars(one))


def test_what_is_not_told_yet_does_not_go_into_the_archive(wanted, broker, caplog):
    saga = harness.begin(toys.MIXED, "do a, do b, do c, do d")
    harness.drive(broker, saga)

    assert archive.run(older_than=datetime.timedelta(0)) == 0
    tell(caplog)
    assert archive.run(older_than=datetime.timedelta(0)) == 1
