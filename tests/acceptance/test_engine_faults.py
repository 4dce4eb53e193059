"""What kills, loses, doubles or floods: real workers, a real broker, and the books are right at the end."""

import contextlib
import datetime
import os
import signal

import pytest
import redis
from django.conf import settings
from django.db import OperationalError

from saga_project import celery
from sagas import engine, models, tasks
from sagas.declaration.states import Direction
from sagas.engine import transport
from sagas.testing import clocks
from tests.acceptance import processes
from tests.sagas import harness, rules
from tests.sagas.conftest import rows, transactional_db  # noqa: F401 - fixtures
from tests.sagas.sample_app import saga as toys
from tests.support import waiting

pytestmark = [pytest.mark.usefixtures("rows"), pytest.mark.timeout(300)]

DONE_ONCE = (1, 0)


def ended(*sagas):
    def all_of_them():
        pks = [saga.pk for saga in sagas]
        left = models.SagaInstance.objects.filter(pk__in=pks, finished_at=None)
        return not left.exclude(state="needs_attention").exists()

    return all_of_them


def hurry(*sagas):
    """Leases are long, for real workers are slow to be given up: what waits for one waits no longer."""
    running = models.StepInstance.objects.filter(saga__in=sagas, lease_until__isnull=False)
    for step in running:
        # The engine may be at this very row; then its turn comes with the next look.
        with contextlib.suppress(OperationalError):
            clocks.pass_time(step.lease_until - models.database_now(), step.saga_id)


@pytest.mark.thorough  # Each of them befalls one worker in tests/acceptance/test_engine_workers.py.
def test_whoever_dies_or_starves_in_a_step_is_counted_and_the_saga_ends(tmp_path):
    """A child is killed in a local step, in a remote one, again and again; or its memory is gone."""
    sagas = {
        "a child dies in a local step, once": (harness.begin(toys.LOCAL, "do a, die b, do b"), "completed"),
        "a child dies in a remote step, its action done": (
            harness.begin(toys.REMOTE, "do a, perish b, do b"),
            "completed",
        ),
        "a child dies each time": (harness.begin(toys.LOCAL, "do a, 9x die b"), "compensated"),
        "no memory": (harness.begin(toys.LOCAL, "do a, starve b, do b"), "completed"),
    }
    everyone = [saga for saga, _ in sagas.values()]
    with processes.worker(tmp_path):

        def over():
            # Not before somebody holds a lease and is dead: a living worker's lease is its own.
            hurry(*[saga for saga in everyone if "SIGKILL" in (tmp_path / "worker.log").read_text()])
            return ended(*everyone)()

        waiting.until(over, "all have ended", seconds=120)

    for what, (saga, ends) in sagas.items():
        saga.refresh_from_db()
        assert (what, saga.state) == (what, ends)
        rules.check(saga)
        if ends == "completed":
            assert set(harness.books(saga).values()) == {DONE_ONCE}, what
        else:
            assert all(made == unmade for made, unmade in harness.books(saga).values()), what


@pytest.mark.thorough
def test_a_broker_that_forgets_everything_delays_and_loses_nothing(tmp_path):
    sagas = [harness.begin(toys.MIXED) for _ in range(30)]
    forget()

    with processes.worker(tmp_path):
        waiting.until(lambda: any(saga.events.filter(kind="step.done").exists() for saga in sagas), "begun")
        forget()
        waiting.until(ended(*sagas), "all have ended")

    for saga in sagas:
        saga.refresh_from_db()
        assert saga.state == "completed"
        assert set(harness.books(saga).values()) == {DONE_ONCE}


def test_a_whole_worker_killed_in_the_middle_costs_time_only(tmp_path):
    sagas = [harness.begin(toys.REMOTE) for _ in range(40)]
    with processes.worker(tmp_path) as victim:
        waiting.until(
            lambda: models.Event.objects.filter(saga__in=sagas, kind="step.done").count() > 20, "half-way"
        )
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
    with processes.worker(tmp_path):

        def over():
            hurry(*sagas)
            return ended(*sagas)()

        waiting.until(over, "all have ended", seconds=120)

    for saga in sagas:
        saga.refresh_from_db()
        assert saga.state == "completed"
        assert set(harness.books(saga).values()) == {DONE_ONCE}
        rules.check(saga)


@pytest.mark.thorough
def test_a_backlog_is_no_loss(tmp_path):
    """Nobody works for many graces while a crowd waits; then each step is performed once."""
    sagas = [harness.begin(toys.LOCAL) for _ in range(60)]
    for _ in range(10):  # Minutes: far below probes.PATIENCE, on a slow machine too.
        clocks.pass_time(datetime.timedelta(minutes=1))
        engine.sweep()
    queued = sum(broker().llen(queue) for queue in ("toys", "world", "sagas"))
    assert queued < 2 * len(sagas), "what merely queues is not sent again"

    with processes.worker(tmp_path):
        waiting.until(ended(*sagas), "all have ended")

    for saga in sagas:
        assert set(harness.books(saga).values()) == {DONE_ONCE}
        done = saga.events.filter(kind="step.done")
        assert done.count() == 3, "each step was performed once"


@pytest.mark.thorough  # tests/acceptance/test_engine_workers.py has both, each by itself.
def test_the_same_message_twice_and_false_alarms_change_nothing(tmp_path):
    saga = harness.begin(toys.MIXED)
    steps = tuple(transport.Message(step=step.name, queue=step.queue) for step in toys.MIXED.steps)
    dispatch = transport.Dispatch(
        saga_id=saga.pk, epoch=saga.epoch, name=saga.name, direction=Direction.FORWARD, messages=steps
    )
    for _ in range(3):
        tasks.CeleryTransport().send(dispatch)
        who = {"saga_id": str(saga.pk), "epoch": saga.epoch}
        celery.app.send_task("sagas.on-chain-error", kwargs=who, queue="sagas")

    with processes.worker(tmp_path):
        waiting.until(ended(saga), "it has ended")
        waiting.until(lambda: not broker().llen("toys") + broker().llen("world"), "all were delivered")

    saga.refresh_from_db()
    assert saga.state == "completed"
    assert set(harness.books(saga).values()) == {DONE_ONCE}
    rules.check(saga)


def broker():
    return redis.Redis.from_url(settings.CELERY_BROKER_URL)


def forget():
    """All of this test's own numbered database: what FLUSHALL is to a broker of one's own."""
    broker().flushdb()
