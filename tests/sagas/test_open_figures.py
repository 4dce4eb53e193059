"""For how long an outcome has been unknown: since it first was so, and no longer than it was."""

import datetime

from django.db import connection, transaction

from sagas import engine, models
from sagas.console import health
from sagas.testing import clocks
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys

HOUR = datetime.timedelta(hours=1)


def unknown_for():
    """How long nobody has known it of the toy's step."""
    ((_, one),) = health.opened().unknown.items()
    assert one.count == 1
    return one.oldest


def go_on(broker, number):
    """Until the step is unknown for the number-th time."""
    step = models.StepInstance.objects.get(name="b")
    for _ in range(50):
        if step.saga.events.filter(subject="b", to_state="unknown").count() >= number:
            return
        if not broker.deliver():
            clocks.skip()
            engine.sweep()
    raise AssertionError(harness.kinds(step.saga, "b"))


def set_back(saga, by):
    """What has happened so far happened so much earlier; nobody but a test may move an event."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE sagas_event SET at = at - %s WHERE saga_id = %s", [by, saga.pk])


def test_an_attempt_that_tells_nothing_again_does_not_make_a_doubt_younger(broker):
    saga = harness.begin(toys.MIXED, "do a, drop b, flake ask b, flake ask b, miss ask b, do b, do c, do d")
    go_on(broker, 1)
    assert unknown_for() < HOUR
    set_back(saga, 13 * HOUR)
    go_on(broker, 2)

    assert 13 * HOUR <= unknown_for() < 14 * HOUR

    harness.drive(broker, saga)
    assert health.opened().unknown == {}


def test_a_doubt_that_was_settled_is_not_counted_with_the_next_one(broker):
    # The world says that it never happened; the next attempt surely does not happen, the one after it may.
    saga = harness.begin(toys.MIXED, "do a, drop b, miss ask b, flake b, drop b, undo b, undo a, compensated")
    go_on(broker, 1)
    set_back(saga, 13 * HOUR)
    go_on(broker, 2)

    assert unknown_for() < HOUR


def test_a_step_whose_worker_vanished_is_in_doubt_from_then_on(broker, simulated_death):
    saga = harness.begin(toys.REMOTE, "do a, die b, do b, do c")
    with harness.suppress_death():
        broker.deliver_all()
    clocks.pass_time(toys.REMOTE.steps[1].timeout * 3, saga.pk)
    go_on(broker, 1)
    set_back(saga, 2 * HOUR)

    assert 2 * HOUR <= unknown_for() < 3 * HOUR
