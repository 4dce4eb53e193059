"""Beat's scheduler, where the clock of its machine is set."""

import datetime
import math

import celery
import pytest
from celery import beat as celerys

from saga_project import beat

EVERY = datetime.timedelta(seconds=1)


class Scheduler(beat.Scheduler):
    """Notes what it sends: there is no broker here."""

    sent = 0
    producer = None

    def apply_async(self, entry, producer=None, advance=True, **kwargs):
        self.sent += 1


@pytest.fixture
def app():
    app = celery.Celery(set_as_current=False)
    app.conf.result_expires = None  # Else Celery adds a task of its own.
    app.conf.beat_schedule = {"sweep": {"task": "sagas.sweep", "schedule": EVERY}}
    return app


@pytest.fixture
def clock(app, monkeypatch):
    """The machine's clock, which somebody may set."""

    class Clock:
        now = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
        set_back_after = math.inf
        """So many reads of it, by a day."""

        def passes(self, **more):
            self.now += datetime.timedelta(**more)

        def read(self, _=None):
            self.set_back_after -= 1
            if self.set_back_after == 0:
                self.passes(days=-1)
            return self.now

    clock = Clock()
    monkeypatch.setattr(app, "now", clock.read)
    monkeypatch.setattr(celerys.ScheduleEntry, "default_now", clock.read)
    monkeypatch.setattr(celery.schedules.schedule, "now", clock.read)
    return clock


def rounds(scheduler):
    """Let it go round until it would sleep; how long, and what it sent meanwhile."""
    before = scheduler.sent
    while not (pause := scheduler.tick()):
        pass
    return pause, scheduler.sent - before


def test_a_clock_that_was_ahead_and_is_set_right_holds_up_no_sweep(app, clock, tmp_path):
    scheduler = Scheduler(app=app, schedule_filename=str(tmp_path / "schedule"))
    rounds(scheduler)
    clock.passes(days=1)
    assert rounds(scheduler)[1] == 1

    clock.passes(days=-1)

    assert rounds(scheduler)[0] <= 1
    clock.passes(seconds=1.1)
    assert rounds(scheduler)[1] == 1
    scheduler.close()


@pytest.mark.parametrize("reads", range(1, 16))
def test_nor_does_one_that_is_set_right_in_the_midst_of_a_round(app, clock, tmp_path, reads):
    scheduler = Scheduler(app=app, schedule_filename=str(tmp_path / "schedule"))
    rounds(scheduler)
    clock.passes(days=1)
    right = clock.now

    clock.set_back_after = reads
    while clock.now == right:
        pause, _ = rounds(scheduler)

    assert pause <= 1
    clock.passes(seconds=1.1)
    assert rounds(scheduler)[1] == 1
    scheduler.close()


def test_nor_does_one_that_was_ahead_when_beat_ended(app, clock, tmp_path):
    before = Scheduler(app=app, schedule_filename=str(tmp_path / "schedule"))
    clock.passes(days=1)
    rounds(before)
    before.close()

    clock.passes(days=-1)
    scheduler = Scheduler(app=app, schedule_filename=str(tmp_path / "schedule"))

    assert rounds(scheduler)[0] <= 1
    clock.passes(seconds=1.1)
    assert rounds(scheduler)[1] == 1
    scheduler.close()


def test_a_clock_that_is_right_sends_what_is_due_and_no_more(app, clock, tmp_path):
    scheduler = Scheduler(app=app, schedule_filename=str(tmp_path / "schedule"))
    clock.passes(seconds=1.1)
    assert rounds(scheduler)[1] == 1
    clock.passes(seconds=0.5)

    assert rounds(scheduler)[1] == 0
    scheduler.close()
