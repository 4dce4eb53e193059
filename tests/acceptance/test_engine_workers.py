"""What may happen to a real worker in the middle of a step: all of it at once, on one worker.

Plain Celery loses the chain in most of these, and says nothing in some; here time is all that is lost.
"""

import collections
import concurrent.futures
import time

import pytest
from django.db import connection, transaction

from saga_project import celery
from sagas import engine, fast_lane, models, tasks, testing
from sagas.engine import dispatching, transport
from sagas.testing import clocks
from tests.acceptance import processes
from tests.sagas import conftest, harness, rules
from tests.sagas.sample_app import recorder
from tests.sagas.sample_app import saga as toys
from tests.support import waiting

LEASE = toys.MIXED.steps[1].timeout * 2.5
"""The toys' longest timeout and the margin: no lease is longer."""

FAULTS = {
    "killed in a remote step": (
        toys.MIXED, "do a, die b",
        "do a, die b, ask b, do b, do c, do d, completed",
    ),
    "killed when a remote step is done": (
        toys.MIXED, "do a, perish b",
        "do a, perish b, ask b, do c, do d, completed",
    ),
    "killed in a local step": (
        toys.LOCAL, "do a, die b",
        "do a, die b, do b, do c, completed",
    ),
    "killed in an undo": (
        toys.REMOTE, "do a, fail b, perish undo b",
        "do a, fail b, perish undo b, undo b, undo a, compensated",
    ),
    "killed every time in a remote step": (
        toys.REMOTE, "do a, 9x die b",
        "do a, 3x die b, undo b, undo a, compensated",
    ),
    "killed every time in a local step": (
        toys.LOCAL, "do a, 9x die b",
        "do a, 4x die b, undo a, compensated",
    ),
    "killed every time in an undo": (
        toys.REMOTE, "fail a, 9x die undo a",
        "fail a, 4x die undo a, needs attention",
    ),
    "deaf to the soft limit in a local step": (
        toys.HASTY, "hang a",
        "hang a, do a, do b, do c, completed",
    ),
    "jammed in C, in a step that had no message of its own": (
        toys.HASTY, "do a, jam b",
        "do a, jam b, ask b, do b, do c, completed",
    ),
    "too slow in a remote step": (
        toys.HASTY, "do a, stall b",
        "do a, stall b, ask b, do b, do c, completed",
    ),
    "too slow in a local step": (
        toys.HASTY, "stall a",
        "stall a, do a, do b, do c, completed",
    ),
    "too slow inside the database": (
        toys.HASTY, "block a",
        "block a, do a, do b, do c, completed",
    ),
    "out of memory in a remote step": (
        toys.MIXED, "do a, starve b",
        "do a, starve b, ask b, do b, do c, do d, completed",
    ),
    "out of memory in a local step": (
        toys.LOCAL, "do a, starve b",
        "do a, starve b, do b, do c, completed",
    ),
}  # fmt: skip
"""Which saga, what its world does, and all that is to be seen of it."""


@pytest.fixture(scope="module")
def worker(django_db_setup, django_db_blocker, tmp_path_factory):
    with django_db_blocker.unblock():
        with processes.worker(tmp_path_factory.mktemp("worker"), children=6) as process:
            yield process
        conftest.clear()


@pytest.fixture
def transactional_db(worker, django_db_blocker):
    """The rows are cleared when the worker is gone, and not under its feet."""
    with django_db_blocker.unblock():
        yield
        connection.close()
        recorder.close()


@pytest.fixture(scope="module")
def faulted(worker):
    """Every fault at once: most of what they do is to wait."""

    def run(declared, script, _):
        try:
            saga = harness.begin(declared, script)
            see_to_its_end(saga)
            return saga
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(len(FAULTS)) as pool:
        return {what: pool.submit(run, *fault) for what, fault in FAULTS.items()}


def see_to_its_end(saga, patience_s=90):
    """Wait for its end. What only waits for the lease of a dead worker waits no longer."""
    end = time.monotonic() + patience_s
    while True:
        saga.refresh_from_db()
        if saga.finished_at or saga.state == "needs_attention":
            return saga.state
        assert time.monotonic() < end, (saga.state, recorder.lines(saga.pk))
        leased = saga.steps.filter(lease_until__isnull=False, state__in=["running", "undoing"]).first()
        if leased is not None and began(saga, leased) and not is_at_it(leased):
            end_lease(saga, leased)
        time.sleep(0.1)


def end_lease(saga, seen):
    """Let the lease of that attempt end, and of no other.

    Meanwhile another may have begun. Had that one's lease ended too, it would rightly be made once more.
    """
    with transaction.atomic():
        models.SagaInstance.objects.select_for_update().get(pk=saga.pk)
        step = models.StepInstance.objects.get(pk=seen.pk)
        lives = step.lease_until is not None and step.lease_until > models.database_now()
        if lives and (step.state, step.fence) == (seen.state, seen.fence):
            clocks.pass_time(LEASE, saga.pk)


def began(saga, step):
    """Whether the attempt has come as far as the function, and not only to its claim."""
    lines = [line.split() for line in recorder.lines(saga.pk)]
    undoing = step.state == "undoing"
    calls = [words for words in lines if words[-1] == step.name and ("undo" in words) == undoing]
    return len(calls) >= (step.undo_attempts if undoing else step.attempts)


def is_at_it(step):
    """Whether the worker still has the step's task in its hands.

    Also where its main process has not heard yet that the task has begun: a list of those that have would
    not name it.
    """
    found = celery.app.control.inspect([step.worker], timeout=5, limit=1).query_task(step.message_task_id)
    # A worker that does not answer is not proven to be idle.
    return found is None or step.message_task_id in found[step.worker]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("what", FAULTS)
def test_what_happens_to_a_worker_costs_nothing_but_time(transactional_db, faulted, what):
    saga = faulted[what].result()

    assert [*recorder.lines(saga.pk), saga.get_state_display().lower()] == testing.lines(FAULTS[what][-1])
    rules.check(saga)


@pytest.mark.parametrize("what", [what for what in FAULTS if what.startswith("too slow")])
def test_a_step_that_is_too_slow_is_interrupted_and_says_so(transactional_db, faulted, what):
    interrupted = faulted[what].result().events.filter(kind__in=["step.retry", "step.unknown"])

    assert [event.data["clock"] for event in interrupted] == ["attempt"]


def test_the_metrics_say_what_the_rows_say_whatever_was_killed(transactional_db, faulted):
    """The sweep folds beside all of this, in a process that is killed with the others."""
    for one in faulted.values():
        one.result()

    waiting.until(lambda: told() == in_rows(), "all of it is folded", seconds=30)
    (carried_on,) = [
        one
        for metric, samples in engine.read_metrics()
        for one in samples
        if metric.name == "sagas_transition_seconds" and one.labels == ("toy-mixed",)
    ]
    assert carried_on.value > 0


def told():
    """What the metrics say has ended, and of attempts."""
    kept = {metric.name: samples for metric, samples in engine.read_metrics()}
    ended = {one.labels[::2]: one.value for one in kept["sagas_ended_total"] if one.value}
    attempts = {one.labels: one.value for one in kept["sagas_attempts_total"] if one.value}
    return ended, attempts


def in_rows():
    """What the rows say of the same."""
    ended, attempts = collections.Counter(), collections.Counter()
    for saga in models.SagaInstance.objects.prefetch_related("steps"):
        ended[saga.name, saga.state] += saga.finished_at is not None
        for step in saga.steps.all():
            attempts[saga.name, step.name, "forward"] += step.attempts
            attempts[saga.name, step.name, "backward"] += step.undo_attempts
    return dict(+ended), dict(+attempts)


def test_none_of_it_ends_the_worker_itself(transactional_db, faulted, worker):
    assert worker.poll() is None


# --- Messages -------------------------------------------------------------------------------------


def test_the_same_message_to_three_workers_at_once_is_one_action(transactional_db):
    saga = harness.begin(toys.MIXED, "stay a, stay b")
    messages = tuple(transport.Message(step=step.name, queue=step.queue) for step in toys.MIXED.steps)
    dispatch = transport.Dispatch(saga_id=saga.pk, epoch=1, name=saga.name, direction=1, messages=messages)
    for _ in range(3):
        tasks.CeleryTransport().send(dispatch)

    assert see_to_its_end(saga) == "completed"
    assert recorder.lines(saga.pk) == ["stay a", "stay b", "do c", "do d"]
    rules.check(saga)


def test_error_callbacks_that_nobody_called_change_nothing(transactional_db):
    saga = harness.begin(toys.BLIND_WAIT, "do a, begin w")
    who = {"saga_id": str(saga.pk), "epoch": 1}
    celery.app.send_task("sagas.on-chain-error", kwargs=who, queue="sagas")
    waiting.until(lambda: saga.steps.filter(state="waiting").exists(), "it waits")
    for _ in range(3):
        celery.app.send_task("sagas.on-chain-error", kwargs=who, queue="sagas")
    tell(saga)

    assert see_to_its_end(saga) == "completed"
    assert recorder.lines(saga.pk) == ["do a", "begin w", "do c"]
    rules.check(saga)


def test_a_step_whose_task_is_terminated_is_asked_about(transactional_db):
    saga = harness.begin(toys.MIXED, "do a, stall b")
    step = waiting.until(lambda: saga.steps.filter(name="b", state="running").first(), "b is begun")
    waiting.until(lambda: is_at_it(step), "a worker is at it")

    celery.app.control.revoke(step.message_task_id, terminate=True, signal="SIGKILL")

    assert see_to_its_end(saga) == "completed"
    assert recorder.lines(saga.pk) == ["do a", "stall b", "ask b", "do b", "do c", "do d"]
    rules.check(saga)


def test_a_saga_whose_message_is_revoked_before_it_is_there_is_sent_again(transactional_db):
    """Celery drops such a message and tells nobody: no result, no error callback."""
    saga = harness.begin(toys.BLIND_WAIT, "do a, begin w")
    waiting.until(lambda: saga.steps.filter(state="waiting").exists(), "it waits")
    with transport.use(Revoked()):
        tell(saga)

    def sent_again():
        clocks.pass_time(dispatching.grace(), saga.pk)
        saga.refresh_from_db()
        return saga.finished_at

    waiting.until(sent_again, "the sweep sends it again")
    assert saga.state == "completed"
    assert recorder.lines(saga.pk) == ["do a", "begin w", "do c"]
    rules.check(saga)


def tell(saga):
    engine.receive(source="world", event_id=str(saga.pk), key=f"{saga.pk}.w", facts={"settled": True})


class Revoked(tasks.CeleryTransport):
    """Publishes only what is revoked already."""

    def send(self, dispatch):
        (message,) = dispatch.messages
        task_id = f"revoked-{dispatch.saga_id}"
        celery.app.control.revoke(task_id, reply=True)
        who = {"saga_id": str(dispatch.saga_id), "epoch": dispatch.epoch}
        name = fast_lane.task_name(dispatch.name, message.step, undo=False)
        celery.app.send_task(name, kwargs=who, queue=message.queue, task_id=task_id)
