"""The fast lane in real workers: what one task carries beyond its own step is told, limited and fair."""

import contextlib
import threading

import pytest

from saga_project import celery
from sagas.engine import pacing
from tests.acceptance import processes
from tests.sagas import harness, rules
from tests.sagas.conftest import rows, transactional_db  # noqa: F401 - fixtures
from tests.sagas.sample_app import saga as toys
from tests.support import waiting


@contextlib.contextmanager
def told_by_workers():
    """What workers tell of their tasks, in the order of coming; the list grows while the block lasts."""
    told, ends = [], threading.Event()

    def listen():
        with celery.app.connection_for_read() as broker:
            receiver = celery.app.events.Receiver(broker, handlers={"*": told.append})
            while not ends.is_set():
                with contextlib.suppress(TimeoutError):
                    receiver.capture(limit=None, timeout=0.5, wakeup=False)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield told
    finally:
        ends.set()
        thread.join(30)


def ended(saga):
    saga.refresh_from_db()
    return saga.finished_at


def story(told, saga):
    """Of each task of the saga: its name, and what was told of it."""
    ids = {event["uuid"]: event["name"] for event in told if str(saga.pk) in str(event.get("kwargs", ""))}
    return {
        name: [event["type"] for event in told if event.get("uuid") == task_id]
        for task_id, name in ids.items()
    }


def steps_of(told, saga):
    """The same of its steps alone: whether an error callback turned it round depends on who took it."""
    return {name: types for name, types in story(told, saga).items() if name.startswith(saga.name)}


WELL = ["task-received", "task-started", "task-succeeded"]
FAILED = ["task-received", "task-started", "task-failed"]


@pytest.mark.usefixtures("rows")
@pytest.mark.timeout(120)
def test_flower_hears_of_every_step_whichever_task_carried_it(tmp_path):
    with processes.worker(tmp_path, children=1), told_by_workers() as told:
        waiting.until(lambda: celery.app.control.inspect(timeout=1).ping(), "the worker listens")
        saga = harness.begin(toys.LOCAL, "do a, do b, fail c")
        waiting.until(lambda: ended(saga), "it has ended")
        waiting.until(lambda: len(story(told, saga)) == 6, "all is told")
        waiting.until(
            lambda: all(len(types) == 3 for types in story(told, saga).values()), "how each has ended"
        )

    assert story(told, saga) == {
        "toy-local.a": WELL,
        "toy-local.b": WELL,
        "toy-local.c": FAILED,
        "sagas.on-chain-error": WELL,
        "toy-local.b.undo": WELL,
        "toy-local.a.undo": WELL,
    }
    ours = {event["uuid"] for event in told if str(saga.pk) in str(event.get("kwargs", ""))}
    ends = [event for event in told if event.get("uuid") in ours]
    (failed,) = [event for event in ends if event["type"] == "task-failed"]
    assert "toy-local.c failed" in failed["exception"]
    runtimes = [event["runtime"] for event in ends if event["type"] == "task-succeeded"]
    assert all(runtime > 0 for runtime in runtimes), "how long each took, the last one's too"
    received = {
        event["name"]: event for event in told if event["type"] == "task-received" and "name" in event
    }
    steps = {row.name: row for row in saga.steps.all()}
    assert received["toy-local.c"]["uuid"] == steps["c"].task_id, "the console's link leads to it"
    assert received["toy-local.b"]["parent_id"] == received["toy-local.a"]["uuid"]
    assert received["toy-local.a.undo"]["parent_id"] == received["sagas.on-chain-error"]["uuid"]


@pytest.mark.usefixtures("rows")
@pytest.mark.timeout(120)
def test_a_remote_step_stays_with_the_workers_of_its_queue_and_a_local_one_follows(tmp_path):
    saga = harness.begin(toys.MIXED)  # Local a, remote b, local c, remote d.
    with (
        processes.worker(tmp_path, queues=["toys", "sagas", "sagas-sweep"], children=1),
        processes.worker(tmp_path, queues=["world"], children=1, beat=False),
    ):
        waiting.until(lambda: ended(saga), "it has ended")

    tasks = {row.name: (row.message_task_id, row.worker) for row in saga.steps.all()}
    assert tasks["a"][1] != tasks["b"][1], "b is for the workers of the world"
    assert tasks["b"] == tasks["c"] == tasks["d"], "c is local, and goes on where b was done"
    rules.check(saga)


@pytest.mark.usefixtures("rows")
@pytest.mark.timeout(120)
@pytest.mark.thorough
def test_a_pinned_queue_keeps_its_local_steps_too(tmp_path):
    saga = harness.begin(toys.MIXED)
    pinned = {"SAGAS_PINNED_QUEUES": "toys"}
    with (
        processes.worker(tmp_path, queues=["toys", "sagas", "sagas-sweep"], children=1, **pinned),
        processes.worker(tmp_path, queues=["world"], children=1, beat=False, **pinned),
    ):
        waiting.until(lambda: ended(saga), "it has ended")

    workers = {row.name: row.worker for row in saga.steps.all()}
    assert workers["a"] == workers["c"] != workers["b"] == workers["d"]


@pytest.mark.usefixtures("rows")
@pytest.mark.timeout(180)
def test_a_saga_of_two_hundred_steps_lets_short_ones_pass(tmp_path):
    """They were begun behind it, and one process works for all of them."""
    long = harness.begin(toys.TWO_HUNDRED)
    short = [harness.begin(toys.LOCAL) for _ in range(20)]
    with processes.worker(tmp_path, children=1):
        waiting.until(lambda: ended(long), "the long one has ended", seconds=120)

    for saga in short:
        saga.refresh_from_db()
        assert saga.finished_at
        assert saga.finished_at < long.finished_at
    messages = {row.message_task_id for row in long.steps.all()}
    assert 200 / 21 <= len(messages) < 200, "it went on for some twenty steps at a time"
    done_before = long.steps.filter(finished_at__lt=max(saga.finished_at for saga in short)).count()
    assert done_before < 100, "the short ones waited for one turn of it, not for its end"


@pytest.mark.usefixtures("rows")
@pytest.mark.timeout(180)
def test_one_message_brings_several_sagas_when_there_are_many(tmp_path):
    """More than fill a queue were begun, and one of those that stand in its line fails on its way."""
    sagas = [harness.begin(toys.LOCAL) for _ in range(pacing.FULL + 20)]
    failing = harness.begin(toys.LOCAL, "do a, do b, fail c")
    assert failing.in_line_for == "toys"
    turned_round = {
        "toy-local.a": WELL,
        "toy-local.b": WELL,
        "toy-local.c": FAILED,
        "toy-local.b.undo": WELL,
        "toy-local.a.undo": WELL,
    }
    with processes.worker(tmp_path), told_by_workers() as told:
        waiting.until(lambda: all(ended(saga) for saga in [*sagas, failing]), "all have ended", seconds=120)
        waiting.until(lambda: steps_of(told, failing) == turned_round, "all is told")

    messages = {row.message_task_id for saga in sagas for row in saga.steps.all()}
    assert len(messages) < len(sagas)
    assert failing.state == "compensated"
    for saga in [*sagas, failing]:
        rules.check(saga)
