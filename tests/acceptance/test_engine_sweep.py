"""What the sweep depends upon, on real parts: its ticks, the clocks of two machines, a cold start."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from saga_project import celery
from sagas import conf, models
from sagas.engine import transport
from sagas.testing import memory_transport
from tests.acceptance import processes
from tests.sagas import harness, rules
from tests.sagas.conftest import rows, transactional_db  # noqa: F401 - fixtures
from tests.sagas.sample_app import saga as toys
from tests.support import database, waiting

pytestmark = [pytest.mark.usefixtures("rows", "valkey"), pytest.mark.timeout(300)]


@contextlib.contextmanager
def beat_elsewhere(place, skew_s):
    """Beat on a machine whose clock is so many seconds off."""
    command = [sys.executable, "-m", "tests.acceptance.skewed", str(skew_s), "--app=saga_project", "beat"]
    command += ["--scheduler=celery.beat:Scheduler", "--pidfile=", "--loglevel=INFO"]
    with (place / "beat.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=database.environment(**processes.IMPATIENT),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.thorough
def test_the_sweep_goes_on_whatever_the_clock_of_the_machine_with_beat_says(tmp_path):
    with processes.worker(tmp_path, beat=False):
        for skew_s in (-3600, -11, 3600):
            with transport.use(memory_transport.MemoryTransport()):
                saga = harness.begin(toys.LOCAL)  # Only the sweep can help it.

            with beat_elsewhere(tmp_path, skew_s):
                to_its_end(saga)

            rules.check(saga)


def test_a_backlog_of_the_engines_own_messages_does_not_stop_the_sweep(tmp_path, valkey):
    """So long that nobody gets through it: nobody works on it at all."""
    saga = harness.begin(toys.LOCAL, "do a, fail b")
    valkey.flushdb()
    for _ in range(200):
        celery.app.send_task(
            "sagas.on-chain-error", kwargs={"saga_id": str(saga.pk), "epoch": 99}, queue="sagas"
        )

    with processes.worker(tmp_path, queues=processes.toys(without=[conf.ENGINE_QUEUE])):
        to_its_end(saga, "compensated")

    assert valkey.llen("sagas") >= 200
    rules.check(saga)


@pytest.mark.thorough
def test_a_cold_start_whose_broker_forgets_everything_is_as_quick_as_a_warm_one(tmp_path, valkey, settings):
    """Nobody has ever answered a probe, and the first ones lie behind the backlog when all is forgotten."""
    settings.SAGAS_INLINE = False  # So that all of them are sent, and none stands in a line.
    sagas = [harness.begin(toys.ONE) for _ in range(400)]

    with processes.worker(tmp_path, SAGAS_SWEEP_EVERY="1s"):
        waiting.until(lambda: models.Queue.objects.filter(name="toys").exists(), "a probe is sent")
        waiting.until(lambda: models.Event.objects.filter(saga__in=sagas, kind="step.done").exists(), "begun")
        assert valkey.llen("toys") > 10, "there is a backlog"
        valkey.flushdb()
        # Were the next probe sent a minute after the first, this would take as long as that.
        waiting.until(lambda: not never_sent_again(), "all that still stand were sent again", seconds=50)
        waiting.until(lambda: not under_way(sagas), "all have ended", seconds=180)

    for saga in sagas:
        saga.refresh_from_db()
        assert saga.state == "completed"
        assert set(harness.books(saga).values()) == {(1, 0)}, "each step took effect once"


def never_sent_again():
    """Sagas that nobody has taken up and that were not sent again."""
    return models.SagaInstance.objects.filter(finished_at=None, epoch=1, position=0).exists()


def under_way(sagas):
    return models.SagaInstance.objects.filter(pk__in=[saga.pk for saga in sagas], finished_at=None).exists()


def to_its_end(saga, state="completed"):
    def ended():
        saga.refresh_from_db()
        return saga.finished_at

    waiting.until(ended, "it ends")
    assert saga.state == state
