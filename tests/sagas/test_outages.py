"""What a person must mend, such as a key that expired, stops everybody at once, and spends no attempts."""

import datetime
import logging

import pytest

from sagas import engine, models
from sagas.engine import circuits
from tests.sagas import harness, rules
from tests.sagas.console import admin_client
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys
from tests.sagas.test_circuits import live_for

MINUTE = datetime.timedelta(minutes=1)


class Provider(functions.Scripted):
    """A world with a key of ours, which somebody let expire."""

    expired = True
    calls = 0

    def _answer(self, function, key):
        step = models.StepInstance.objects.get(saga_id=key.split(".")[0], name=key.split(".")[1])
        if step.saga.definition.step(step.name).remote and self.expired:
            self.calls += 1
            raise functions.KeyExpired("401: the key has expired")
        return super()._answer(function, key)


@pytest.fixture
def provider(monkeypatch):
    provider = Provider()
    monkeypatch.setattr(functions, "WORLD", provider)
    return provider


def circuit():
    return models.Circuit.objects.get(name="world")


def test_an_expired_key_spends_no_order_and_calls_one_person(broker, provider, caplog):
    sagas = [harness.begin(toys.REMOTE) for _ in range(4)]

    with caplog.at_level(logging.ERROR, logger="sagas"):
        live_for(broker, 10 * MINUTE)

    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "401: the key has expired" in caplog.text
    assert circuit().needs_person
    assert (circuit().error["error"], circuit().error["kind"]) == ("KeyExpired", "outage")
    # Nobody is let through but a probe, and at the longest pause from the first.
    assert provider.calls <= 4 + 10 * MINUTE / datetime.timedelta(seconds=circuits.LONGEST_PAUSE_S)
    for saga in sagas:
        saga.refresh_from_db()
        step = saga.steps.get(name="a")
        assert (saga.state, step.attempts - step.excused) == ("running", 0)

    provider.expired = False
    harness.drive(broker, *sagas)

    assert {saga.state for saga in sagas} == {"completed"}
    assert not circuit().needs_person
    for saga in sagas:
        rules.check(saga)


def test_the_first_order_that_meets_an_outage_stops_all_others(broker, provider):
    for _ in range(9):
        harness.begin(toys.REMOTE)

    broker.deliver_all()

    assert provider.calls == 1
    assert circuit().opened_at is not None


def test_a_second_outage_calls_a_person_again(broker, provider, caplog):
    for _ in range(2):
        provider.expired = True
        saga = harness.begin(toys.REMOTE)
        broker.deliver_all()
        provider.expired = False
        harness.drive(broker, saga)

    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 2


def test_an_undo_waits_for_the_provider_as_well_and_spends_no_attempt(broker, provider):
    provider.expired = False
    saga = harness.begin(toys.REMOTE, "do a, do b, fail c")
    while saga.state == "running":
        broker.deliver()
        saga.refresh_from_db()
    provider.expired = True

    live_for(broker, 20 * MINUTE)

    saga.refresh_from_db()
    step = saga.steps.get(state="undoing")
    assert saga.state == "compensating"
    assert (step.undo_attempts > 1, step.undo_attempts - step.undo_excused) == (True, 0)

    provider.expired = False
    harness.drive(broker, saga)

    assert saga.state == "compensated"
    rules.check(saga)


def test_what_an_unavailable_provider_may_have_done_stays_in_doubt(broker, provider):
    """The first attempt may have happened. That a later one was turned away proves nothing about it (U2)."""
    provider.expired = False
    asked = toys.saga("toy-asked", toys.remote("a", **toys.ASK))
    saga = harness.begin(asked, "lose a")
    broker.deliver()
    provider.expired = True

    live_for(broker, 5 * MINUTE)

    assert saga.steps.get(name="a").state == "unknown"

    provider.expired = False
    harness.drive(broker, saga)

    assert saga.state == "completed"
    rules.check(saga)


def test_a_wait_does_not_end_because_nobody_could_be_asked(broker, provider):
    provider.expired = False
    saga = harness.begin(toys.WAIT, "do a, begin w")
    broker.deliver_all()
    provider.expired = True

    live_for(broker, 3 * toys.HOUR)

    saga.refresh_from_db()
    step = saga.steps.get(name="w")
    assert (saga.state, step.state) == ("running", "waiting")
    assert step.wait_until < models.database_now()

    provider.expired = False
    engine.receive(source="world", event_id="1", key=step.key, facts={"settled": True})
    harness.drive(broker, saga)

    assert saga.state == "completed"


def test_a_local_step_has_no_provider_that_could_be_out(broker):
    saga = harness.begin(toys.saga("toy-local-outage", toys.local("a", do=turned_away)))

    harness.drive(broker, saga)

    assert (saga.state, saga.failure["kind"]) == ("compensated", "transient")
    assert not models.Circuit.objects.exists()


def turned_away(*, key):
    raise functions.KeyExpired("no")


def test_the_console_says_what_is_to_be_mended(broker, provider):
    harness.begin(toys.REMOTE)
    broker.deliver_all()

    said = admin_client.text(admin_client.viewer().get("/admin/"))

    assert "No saga can go on at world until somebody mends this" in said
    assert "KeyExpired: 401: the key has expired" in said


def test_what_the_saga_was_given_is_not_in_the_reason(broker, monkeypatch):
    class Chatty(functions.Scripted):
        def do(self, key, **rest):
            raise functions.KeyExpired("401 for 123.456.789-09")

    monkeypatch.setattr(functions, "WORLD", Chatty())
    harness.begin(
        toys.saga("toy-given", toys.remote("a"), inputs=["tax_id"]), inputs={"tax_id": "123.456.789-09"}
    )
    broker.deliver_all()

    assert circuit().error["message"] == "401 for [given]"
