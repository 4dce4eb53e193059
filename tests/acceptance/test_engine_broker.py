"""A broker that goes away, and one that hangs, under a worker that stays: who begins a saga is not kept."""

import contextlib
import os
import signal
import subprocess

import pytest
import redis
from celery import beat
from kombu import pools

from saga_project import celery
from saga_project.local import servers
from sagas import tasks
from tests.acceptance import processes
from tests.sagas import harness, rules
from tests.sagas.conftest import rows, transactional_db  # noqa: F401 - fixtures
from tests.sagas.sample_app import recorder
from tests.sagas.sample_app import saga as toys
from tests.support import waiting

pytestmark = pytest.mark.integration


@pytest.mark.usefixtures("rows")
@pytest.mark.timeout(180)
def test_what_begins_while_the_broker_is_gone_or_hangs_is_done_when_it_is_back(tmp_path):
    # A worker that has just started is slow to take its first message: that is no loss.
    patient = {"SAGAS_GRACE": "5s"}
    with a_broker(tmp_path) as broker, processes.worker(tmp_path, BROKER_URL=broker.url, **patient) as worker:
        saga = harness.begin(toys.MIXED)
        to_its_end(saga)
        assert saga.epoch == 1, "its message came through this broker, and was not sent again"

        broker.stop()
        begun_without = harness.begin(toys.MIXED)
        broker.start()
        to_its_end(begun_without)
        assert begun_without.epoch > 1, "nobody could have taken its first message"

        os.kill(broker.process.pid, signal.SIGSTOP)
        begun_in_silence = harness.begin(toys.MIXED)
        os.kill(broker.process.pid, signal.SIGCONT)
        to_its_end(begun_in_silence)

        assert worker.poll() is None, "it is the worker that was there all the time"
        for saga in (begun_without, begun_in_silence):
            assert recorder.lines(saga.pk) == ["do a", "do b", "do c", "do d"]
            rules.check(saga)


def test_beat_sends_again_as_soon_as_the_broker_is_back(tmp_path):
    assert tasks.sweep, "beat imports the tasks as well"
    entry = celery.app.conf.beat_schedule["sagas-sweep"]
    with a_broker(tmp_path) as broker:
        scheduler = beat.Scheduler(celery.app, lazy=True)
        tick = scheduler.Entry(name="sagas-sweep", app=celery.app, **entry)
        scheduler.apply_async(tick, producer=scheduler.producer, advance=False)
        broker.stop()
        for _ in range(3):
            with pytest.raises(beat.SchedulingError):
                scheduler.apply_async(tick, producer=scheduler.producer, advance=False)
        broker.start()

        sent = scheduler.apply_async(tick, producer=scheduler.producer, advance=False)

        assert sent is not None
        assert redis.Redis.from_url(broker.url).llen("sagas-sweep") == 1


def test_beat_does_not_start_on_a_server_that_is_a_node_of_a_cluster(tmp_path):
    with a_node_of_a_cluster(tmp_path) as url:
        before = celery.app.conf.broker_url
        try:
            publish_to(url)
            with pytest.raises(
                SystemExit, match="cluster_enabled:1, and a Valkey or Redis Cluster cannot be"
            ):
                celery.look_at_the_broker()
        finally:
            publish_to(before)
    celery.look_at_the_broker()


@contextlib.contextmanager
def a_node_of_a_cluster(place):
    port = servers.free_port()
    process = subprocess.Popen(
        [servers.valkey_binary(), "--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes"],
        cwd=place,
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port) as client:
            waiting.until(lambda: answers(client), "it answers")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def answers(client):
    with contextlib.suppress(redis.ConnectionError):
        return client.ping()


def to_its_end(saga):
    def ended():
        saga.refresh_from_db()
        return saga.finished_at

    waiting.until(ended, "it ends")
    assert saga.state == "completed"


@contextlib.contextmanager
def a_broker(place):
    """A broker of this test's own; this process publishes to it."""
    broker = servers.Valkey(place / "valkey", durable=False)
    broker.start()
    before = celery.app.conf.broker_url
    try:
        publish_to(broker.url)
        yield broker
    finally:
        publish_to(before)
        broker.stop()
        broker.discard()


def publish_to(url):
    # Kombu keeps its pools by address, closed ones too: all of them are forgotten, so that a broker
    # that is come back to is not met with a closed one.
    pools.reset()
    celery.app._pool = celery.app.amqp._producer_pool = None
    celery.app.conf.broker_url = url
