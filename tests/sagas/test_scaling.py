"""What a queue's workers are counted by: its steps that are due or under way, as the rows say."""

import datetime

from django.db import connection

from saga_project.deployment import layout, scaling
from sagas import engine, models
from sagas.declaration import registry
from sagas.engine import dispatching
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys

HOUR = datetime.timedelta(hours=1)


def counted(queue):
    """How many steps the query of that queue counts."""
    worker = next(worker for worker in layout.workers() if worker.queue == queue)
    with connection.cursor() as cursor:
        cursor.execute(scaling.query(worker))
        return cursor.fetchone()[0]


def change(saga, **values):
    models.SagaInstance.objects.filter(pk=saga.pk).update(**values)


def change_step(saga, name, **values):
    models.StepInstance.objects.filter(saga=saga, name=name).update(**values)


def test_messages_under_way_are_counted_and_each_queue_counts_its_own(broker):
    for _ in range(3):
        harness.begin(toys.ONE_REMOTE)
    harness.begin(toys.ONE)

    assert counted("world") == 3
    assert counted("toys") == 1
    broker.deliver_all()
    assert counted("world") == counted("toys") == 0, "all have ended"


def test_what_a_worker_has_in_its_hands_is_counted_until_its_lease_ends(broker):
    saga = harness.begin(toys.ONE_REMOTE)
    now = models.database_now()
    change(saga, dispatched_at=None, wake_at=now + HOUR / 60)

    change_step(saga, "a", state="running", lease_until=now + HOUR / 60)
    assert counted("world") == 1
    change(saga, held_at=now)
    assert counted("world") == 1, "an operator holds it, and the worker is at it all the same"
    change_step(saga, "a", lease_until=now - HOUR)
    assert counted("world") == 0


def test_what_is_due_is_counted_and_what_waits_is_not(broker):
    saga = harness.begin(toys.ONE_REMOTE)
    now = models.database_now()

    change(saga, dispatched_at=None, wake_at=now - HOUR)
    assert counted("world") == 1
    change(saga, wake_at=now + HOUR / 60)
    assert counted("world") == 0, "a pause, a timer or a callback"
    change(saga, in_line_for="world", wake_at=now + HOUR)
    assert counted("world") == 1, "it stands in the line of its queue"
    change(saga, in_line_for=None, parked_for="world", wake_at=now - HOUR)
    assert counted("world") == 0, "its provider is out"
    change(saga, parked_for=None, held_at=now)
    assert counted("world") == 0, "an operator holds it"


def test_it_goes_by_the_step_that_the_saga_is_at(broker):
    saga = harness.begin(toys.MIXED)
    assert (counted("toys"), counted("world")) == (1, 0)

    change(saga, position=1)
    assert (counted("toys"), counted("world")) == (0, 1)
    change(saga, state="compensating", direction=-1, position=0)
    assert (counted("toys"), counted("world")) == (1, 0)


def test_steps_at_once_are_counted_each(broker):
    instance = harness.begin(toys.AT_ONCE_FIRST)
    members = models.StepInstance.objects.filter(saga=instance, epoch__isnull=False)
    assert sorted(members.values_list("name", flat=True)) == ["a", "b", "c"]

    assert (counted("toys"), counted("world")) == (1, 2)
    change_step(instance, "b", dispatched_at=None, wake_at=models.database_now() + HOUR)
    assert counted("world") == 1
    change_step(instance, "b", wake_at=models.database_now() - HOUR)
    assert counted("world") == 2
    change_step(instance, "b", parked_for="world")
    assert counted("world") == 1


def much_that_has_ended():
    """A history, and a planner that knows of it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sagas_saga (id, name, version, fingerprint, key, state, direction, position, epoch,"
            " facts, dispatches, cancel_reason, cancel_actor, finished_at)"
            " SELECT gen_random_uuid(), 'toy-one', 1, 'f', gen_random_uuid()::text, 'completed', 1, 1, 1,"
            " '{}', 1, '', '', now() FROM generate_series(1, 5000)"
        )
        cursor.execute(
            "INSERT INTO sagas_step (saga_id, position, name, state, attempts, undo_attempts, fence, task_id,"
            " worker) SELECT id, 0, 'a', 'done', 1, 0, 1, '', '' FROM sagas_saga WHERE state = 'completed'"
        )
        cursor.execute("ANALYZE sagas_saga, sagas_step")


def test_it_is_found_by_the_indexes_of_the_sweep_however_long_the_history(broker):
    much_that_has_ended()
    worker = next(worker for worker in layout.workers() if worker.queue == "world")
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {scaling.query(worker)}")
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "Seq Scan" not in plan, plan
    assert {"saga_due", "saga_in_line", "step_due"} <= set(plan.replace("(", " ").split()), plan


def test_nothing_under_way_is_out_of_sight():
    """The query reads what the sweep will look at soon: that must be all that a worker may be at."""
    assert layout.horizon() >= dispatching.LONGEST_GRACE
    longest = max(step.timeout for saga in registry.everything() for step in saga.all_steps)
    assert layout.horizon() >= longest + engine.LEASE_MARGIN
