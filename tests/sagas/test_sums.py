"""The metrics' sums: what they say is what the rows say, whatever happens to whoever adds them up."""

import datetime
import importlib
import threading
import uuid

import pytest
from django.db import connection, transaction
from django.db.migrations.state import ProjectState

from sagas import engine, models
from sagas.engine import archive, sums
from sagas.testing import clocks, crashes
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys
from tests.support import waiting

pytestmark = pytest.mark.usefixtures("rows")


def fold():
    """Fold until the log has been read: other databases of the server may have transactions under way."""
    waiting.until(engine.fold_metrics, what="the events are folded")


def told(metric):
    """A counter's values that are not 0, by its labels."""
    return {one.labels: one.value for one in dict(engine.read_metrics())[metric] if one.value}


def observed(metric):
    """How much a histogram has seen, by its labels."""
    return {one.labels: one.buckets[-1][1] for one in dict(engine.read_metrics())[metric]}


def everything():
    return {(row.name, tuple(row.labels)): row.value for row in models.MetricSum.objects.all()}


SCRIPTS = [
    (toys.MIXED, "do a, do b, do c, do d, completed"),
    (toys.LOCAL, "do a, do b, fail c, undo b, undo a, compensated"),
    (toys.REMOTE, "do a, 2x flake b, do b, do c, completed"),
    (toys.LOCAL, "do a, 2x flake b, fail b, flake undo a, undo a, compensated"),
    (toys.AT_ONCE, "do a, [do b | do c], do d, completed"),
]


def counts(sums):
    """How many there were, without how long they took."""
    return sum(value for (name, _), value in sums.items() if not name.endswith("_sum")), {
        which: value for which, value in sums.items() if which[0].endswith("_total")
    }


def run(broker, saga, script=""):
    instance = harness.begin(saga, script)
    harness.drive(broker, instance)
    return instance


def attempts_of_rows():
    found = {}
    for step in models.StepInstance.objects.select_related("saga"):
        for way, number in (("forward", step.attempts), ("backward", step.undo_attempts)):
            if number:
                which = (step.saga.name, step.name, way)
                found[which] = found.get(which, 0) + number
    return found


def test_the_sums_say_what_the_rows_say(broker):
    for saga, script in SCRIPTS:
        run(broker, saga, script)
    fold()

    rows = list(models.SagaInstance.objects.values_list("name", "version", "state"))
    assert sum(told(sums.STARTED).values()) == len(rows)
    assert told(sums.ENDED) == {
        (name, str(version), state): rows.count((name, version, state)) for name, version, state in rows
    }
    assert told(sums.ATTEMPTS) == attempts_of_rows()
    done = models.StepInstance.objects.exclude(finished_at=None).filter(state__in=["done", "undone"]).count()
    assert sum(n for labels, n in told(sums.STEPS).items() if labels[2:] == ("forward", "done")) == done
    undone = models.StepInstance.objects.filter(state="undone").count()
    assert sum(n for labels, n in told(sums.STEPS).items() if labels[2:] == ("backward", "done")) == undone
    # The histograms have seen each of them.
    assert sum(observed(sums.DURATION).values()) == len(rows)
    assert sum(observed(sums.STEP_DURATION).values()) == done + undone
    remote = {(one.name, step.name) for one, _ in SCRIPTS for step in one.all_steps if step.queue == "world"}
    assert observed(sums.STEP_WAIT)["world",] == sum(
        number for labels, number in attempts_of_rows().items() if labels[:2] in remote
    )
    assert set(observed(sums.STEP_WAIT)) == {("toys",), ("world",)}

    before = everything()
    assert engine.fold_metrics(), "there is nothing more"
    engine.rebuild_metrics()
    assert everything() == pytest.approx(before)


def test_an_event_that_commits_late_is_not_lost(broker):
    """It has a lower id than one that was committed, and folded, before."""
    wrote, may_commit = threading.Event(), threading.Event()

    def late():
        with transaction.atomic():
            harness.begin(toys.ONE)
            wrote.set()
            assert may_commit.wait(60)
        connection.close()

    harness.begin(toys.ONE)
    fold()
    thread = threading.Thread(target=late)
    thread.start()
    assert wrote.wait(60)
    harness.begin(toys.ONE)
    # Its id is above that of the one that has not committed: nothing is read past that.
    for _ in range(3):
        assert not engine.fold_metrics()
    assert told(sums.STARTED) == {("toy-one", "1"): 1}

    may_commit.set()
    thread.join()
    fold()

    assert told(sums.STARTED) == {("toy-one", "1"): 3}


def test_whoever_dies_between_the_sums_and_the_cursor_has_added_nothing(broker, monkeypatch):
    run(broker, toys.LOCAL)
    add = sums._add

    def die(added):
        add(added)
        raise crashes.Crash

    with monkeypatch.context() as patched:
        patched.setattr(sums, "_add", die)
        with pytest.raises(crashes.Crash):
            fold()
    fold()

    assert told(sums.ENDED) == {("toy-local", "1", "completed"): 1}


def test_two_that_fold_at_once_add_each_event_once(broker):
    for _ in range(20):
        harness.begin(toys.ONE)

    def several():
        for _ in range(20):
            engine.fold_metrics(limit=2)
        connection.close()

    threads = [threading.Thread(target=several) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fold()

    assert told(sums.STARTED) == {("toy-one", "1"): 20}


def test_what_goes_into_the_archive_before_its_turn_has_been_counted_once(broker):
    saga = run(broker, toys.LOCAL, "do a, fail b")
    attempts = attempts_of_rows()
    clocks.pass_time(datetime.timedelta(hours=3))
    assert archive.run(older_than=datetime.timedelta(0)) == 1
    before = everything()
    fold()

    assert told(sums.ENDED) == {("toy-local", "1", "compensated"): 1}
    assert told(sums.ATTEMPTS) == attempts
    # Back in the live tables, it is not counted again; and counters never go down.
    archive.restore(saga.pk)
    fold()
    assert everything() == before
    clocks.pass_time(datetime.timedelta(hours=3))
    assert archive.run(older_than=datetime.timedelta(0)) == 1
    assert everything() == before
    # From the archive the same is told, but for what this test did to the clocks of its rows.
    engine.rebuild_metrics()
    assert counts(everything()) == counts(before)


def test_counters_begin_with_the_upgrade_and_the_history_is_counted_when_asked_for(broker):
    run(broker, toys.LOCAL)
    live = harness.begin(toys.ONE)
    models.EventCursor.objects.all().delete()
    migration = importlib.import_module("sagas.migrations.0030_pre_counters_begin").Migration("0030", "sagas")
    with connection.schema_editor() as editor:
        for _ in range(2):  # Of two runs the second moves nothing.
            migration.apply(ProjectState(), editor)
    assert engine.fold_metrics()
    assert models.MetricSum.objects.count() == 0
    assert engine.metrics_age() == datetime.timedelta(0)

    harness.drive(broker, live)
    run(broker, toys.ONE)
    fold()

    assert told(sums.STARTED) == {("toy-one", "1"): 1}
    assert told(sums.ENDED) == {("toy-one", "1", "completed"): 2}
    engine.rebuild_metrics()
    assert told(sums.STARTED) == {("toy-one", "1"): 2, ("toy-local", "1"): 1}


def test_a_message_that_is_void_and_one_that_is_sent_again_are_counted(broker):
    saga = harness.begin(toys.LOCAL)
    lost = broker.waiting.pop()
    clocks.pass_time(datetime.timedelta(minutes=1))
    harness.drive(broker, saga)
    broker.carry_out(lost)
    fold()

    assert told(sums.REDISPATCHES) == {("toy-local", "toys"): 1}
    assert told(sums.VOIDED)["toy-local", "a", "superseded"] == 1
    assert not models.MetricCount.objects.exists()


def test_how_long_a_message_waited_is_known(broker):
    saga = harness.begin(toys.MIXED)
    clocks.pass_time(datetime.timedelta(seconds=3), saga.pk)
    harness.drive(broker, saga)
    fold()

    (toy,) = [one for one in dict(engine.read_metrics())[sums.STEP_WAIT] if one.labels == ("toys",)]
    assert 3 <= toy.value < 60
    assert dict(toy.buckets)["2.5"] == dict(toy.buckets)["+Inf"] - 1


def test_a_late_callback_is_counted(broker):
    saga = harness.begin(toys.BLIND_WAIT, "begin w")
    broker.deliver_all()
    engine.cancel(saga.pk, actor="customer", reason="too slow")
    harness.drive(broker, saga)
    engine.receive(source="world", event_id=str(uuid.uuid4()), key=f"{saga.pk}.w", facts={"settled": True})
    fold()

    assert told(sums.LATE_CALLBACKS) == {("toy-blind-wait", "w"): 1}
