"""Which queues need a worker is read from the declarations and the tasks."""

import pytest

from saga_project import celery, queues
from sagas import conf
from sagas.declaration import registry
from tests.sagas.sample_app import saga as toys


def test_every_declared_step_and_every_task_of_ours_has_a_queue_in_it():
    steps = {step.queue for saga in registry.everything() for step in saga.all_steps if step.has_worker}

    assert {"payments", "inventory", "invoicing", "shipping"} < steps
    assert set(queues.everything()) == {
        *steps,
        conf.ENGINE_QUEUE,
        conf.SWEEP_QUEUE,
        conf.BULK_QUEUE,
        conf.ARCHIVE_QUEUE,
        "webhooks",
    }


def test_a_saga_that_is_declared_brings_its_queue_along():
    registry.add(toys.saga("brings-its-queue", toys.local("a", queue="gifts")))

    assert "gifts" in queues.everything()


def test_a_task_that_beat_sends_to_a_queue_of_its_own_brings_it_along(monkeypatch):
    entry = {"task": "orders.clear-up", "schedule": 60, "options": {"queue": "broom"}}
    monkeypatch.setitem(celery.app.conf.beat_schedule, "broom", entry)

    assert "broom" in queues.everything()


@pytest.mark.parametrize("entry", celery.app.conf.beat_schedule.values(), ids=lambda entry: entry["task"])
def test_nothing_is_scheduled_that_no_worker_takes(entry):
    queues.everything()
    task = celery.app.tasks[entry["task"]]
    queue = entry.get("options", {}).get("queue") or task.queue

    assert queue in queues.everything()


def test_what_names_no_queue_goes_to_the_engines():
    assert celery.app.conf.task_default_queue == conf.ENGINE_QUEUE
