"""What a clock sends: it says no time, nothing stands before it, and it does not pile up."""

import json

import pytest
from celery import beat

from saga_project import celery
from sagas import tasks

assert tasks.sweep, "beat imports the tasks as well"


def tick(name, **changed):
    """Send a scheduled task once, as beat does."""
    scheduler = beat.Scheduler(celery.app, lazy=True)
    entry = celery.app.conf.beat_schedule[name] | changed
    scheduler.apply_async(scheduler.Entry(name=name, app=celery.app, **entry), advance=False)


def messages(valkey):
    return {
        queue.decode(): [json.loads(message) for message in valkey.lrange(queue, 0, -1)]
        for queue in valkey.scan_iter(_type="list")
    }


@pytest.mark.parametrize("name", celery.app.conf.beat_schedule)
def test_nothing_that_beat_sends_says_when_it_was_sent_or_until_when_it_is_worth_anything(valkey, name):
    tick(name)

    ((message,),) = messages(valkey).values()
    assert (message["headers"]["expires"], message["headers"]["eta"]) == (None, None), "D9"


@pytest.mark.parametrize(
    ("name", "queue"), [("sagas-sweep", "sagas-sweep"), ("deliver-webhooks", "webhooks")]
)
def test_however_long_nobody_works_one_tick_waits(valkey, name, queue):
    for _ in range(50):
        tick(name)

    assert {name: len(waiting) for name, waiting in messages(valkey).items()} == {queue: 1}


def test_once_it_is_taken_the_next_one_is_sent(valkey):
    for _ in range(3):
        tick("sagas-sweep")
        assert valkey.lpop("sagas-sweep") is not None


def test_a_schedule_that_was_written_for_another_version_sends_it_where_nothing_stands_before_it(valkey):
    tick("sagas-sweep", options={"queue": "sagas", "expires": 10})

    ((queue, (message,)),) = messages(valkey).items()
    assert (queue, message["headers"]["expires"]) == ("sagas-sweep", None)
