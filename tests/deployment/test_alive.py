"""A worker and beat touch a file while they go round: that is all that says of them that they do."""

import celery
import pytest
from celery import signals

from saga_project import beat
from saga_project import celery as ours


@pytest.fixture
def file(settings, tmp_path):
    settings.ALIVE_FILE = str(tmp_path / "alive")
    return tmp_path / "alive"


def test_a_worker_says_so_with_each_heartbeat(file):
    assert not file.exists()

    signals.heartbeat_sent.send(sender=None)

    assert file.exists()


def test_beat_says_so_with_each_round(file, tmp_path):
    assert ours.app.conf.beat_scheduler == "saga_project.beat:Scheduler"
    scheduler = beat.Scheduler(
        app=celery.Celery(set_as_current=False), schedule_filename=str(tmp_path / "schedule")
    )
    assert not file.exists()

    scheduler.tick()

    assert file.exists()
    scheduler.close()


def test_nobody_who_is_not_asked_says_so(settings):
    settings.ALIVE_FILE = ""

    signals.heartbeat_sent.send(sender=None)
