"""What a saga costs: statements, transactions, bytes on the wire, and what the sweep has to read."""

import contextlib
import json
import re
import uuid

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from sagas import engine, models, tasks
from sagas.declaration import registry
from sagas.declaration.states import Direction
from sagas.engine import dispatching, probes, transport
from sagas.testing import clocks, memory_transport
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys

ENGINES = ("sagas_",)

LOOK = dispatching.grace() * 1.1
"""After this long a message is asked after."""


@contextlib.contextmanager
def counted():
    """The engine's statements, and the transactions, of this thread's connection."""
    with CaptureQueriesContext(connection) as captured:
        bill = {}
        yield bill
    statements = [query["sql"] for query in captured.captured_queries]
    bill["transactions"] = sum(sql.startswith("BEGIN") for sql in statements)
    bill["statements"] = sum(any(table in sql for table in ENGINES) for sql in statements)


def costs(broker):
    with counted() as bill:
        assert broker.deliver()
    return bill["transactions"], bill["statements"]


def test_a_local_step_is_one_transaction_and_two_statements(broker):
    harness.begin(toys.LOCAL)

    assert [costs(broker) for _ in range(3)] == [(1, 2)] * 3


def test_a_local_undo_costs_the_same(broker):
    harness.begin(toys.LOCAL, "do a, do b, fail c")
    for _ in range(4):
        broker.deliver()

    assert [costs(broker) for _ in range(2)] == [(1, 2)] * 2


def test_a_remote_step_is_two_transactions(broker):
    harness.begin(toys.REMOTE)

    # Lock and look at the circuit, claim; record and tell the circuit.
    assert [costs(broker) for _ in range(3)] == [(2, 3)] * 3


def test_a_step_that_goes_well_touches_no_index(broker):
    """No column that an index reads is written, so PostgreSQL updates the row in place (HOT)."""
    saga = harness.begin(toys.LOCAL)
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(indexdef, ' ') FROM pg_indexes WHERE tablename = 'sagas_saga'")
        (indexes,) = cursor.fetchone()
    before = models.SagaInstance.objects.filter(pk=saga.pk).values().get()

    broker.deliver()

    after = models.SagaInstance.objects.filter(pk=saga.pk).values().get()
    written = {name for name in before if before[name] != after[name]}
    assert "position" in written
    assert not {name for name in written if re.search(rf"\b{name}\b", indexes)}


def test_to_begin_is_one_statement(broker):
    with counted() as bill:
        harness.begin(toys.LOCAL)

    assert bill["statements"] == 1


def test_to_begin_many_is_one_statement_too(broker):
    with counted() as bill, transaction.atomic():
        engine.begin_many(toys.LOCAL, [(str(number), {}) for number in range(50)])

    assert bill["statements"] == 1


def test_many_are_published_as_each_would_be(valkey):
    dispatches = [longest_dispatch(registry.get("order-fulfilment", 1), Direction.FORWARD) for _ in range(3)]
    queue = dispatches[0].messages[0].queue

    tasks.CeleryTransport().send_many(dispatches)

    sent = [json.loads(message)["headers"] for message in reversed(valkey.lrange(queue, 0, -1))]
    assert [eval(headers["kwargsrepr"])["saga_id"] for headers in sent] == [
        str(dispatch.saga_id) for dispatch in dispatches
    ]
    assert all(headers["root_id"] == headers["id"] for headers in sent)


def test_many_are_published_although_the_connection_died_meanwhile(valkey):
    dispatches = [longest_dispatch(registry.get("order-fulfilment", 1), Direction.FORWARD) for _ in range(3)]
    tasks.CeleryTransport().send_many(dispatches)

    valkey.cut_off()
    tasks.CeleryTransport().send_many(dispatches)

    assert valkey.llen(dispatches[0].messages[0].queue) >= 6


def test_a_message_that_is_void_costs_one_read_and_is_counted(broker):
    saga = harness.begin(toys.LOCAL)
    message = broker.waiting[0]
    harness.drive(broker, saga)

    with counted() as bill:
        broker.carry_out(message)

    assert (bill["transactions"], bill["statements"]) == (1, 2)


# --- On the wire ----------------------------------------------------------------------------------


def longest_dispatch(saga, direction):
    """A whole window of the saga's steps with the longest names."""
    steps = [step for step in saga.steps if direction == Direction.FORWARD or step.undo]
    steps = sorted(steps, key=lambda step: len(step.name + step.queue))[-dispatching.WINDOW :]
    return transport.Dispatch(
        saga_id=uuid.uuid4(),
        epoch=4_000_000_000,
        name=saga.name,
        direction=direction,
        messages=tuple(transport.Message(step=step.name, queue=step.queue) for step in steps),
    )


@pytest.mark.parametrize("direction", Direction)
def test_a_message_of_the_orders_saga_is_under_two_kilobytes(valkey, direction):
    saga = registry.get("order-fulfilment", 1)
    dispatch = longest_dispatch(saga, direction)

    tasks.CeleryTransport().send(dispatch)

    (message,) = valkey.lrange(dispatch.messages[0].queue, 0, -1)
    assert len(message) < 2048, f"{len(message)} bytes: {json.loads(message)['headers']}"


def test_what_is_sent_says_how_often_its_step_was_tried_before(broker, valkey):
    """Flower shows it as the task's retries; it decides nothing."""
    saga = harness.begin(toys.REMOTE, "2x flake a, do a, fail b, flake undo b")
    harness.drive(broker, saga)
    dispatches_sent = {
        m.dispatch.epoch: m.dispatch for m in broker.sent if isinstance(m, memory_transport.StepMessage)
    }

    told = [
        (dispatch.direction.name, dispatch.messages[0].step, dispatch.tried)
        for dispatch in dispatches_sent.values()
    ]
    assert told == [
        ("FORWARD", "a", 0),
        ("FORWARD", "a", 1),
        ("FORWARD", "a", 2),
        ("BACKWARD", "b", 0),
        ("BACKWARD", "b", 1),
    ]

    tasks.CeleryTransport().send(dispatches_sent[3])
    (message,) = valkey.lrange("world", 0, -1)
    assert json.loads(message)["headers"]["retries"] == 2


def test_a_message_does_not_grow_with_the_saga(broker):
    sent = [harness.begin(saga) and len(broker.sent[-1].dispatch.messages) for saga in (toys.ONE, toys.LONG)]

    assert sent == [1, dispatching.WINDOW]
    assert len(toys.LONG.steps) > dispatching.WINDOW, "else nothing was shown"


# --- The sweep ------------------------------------------------------------------------------------


def test_the_sweep_reads_only_what_is_due(broker):
    """Ten thousand that have ended and a thousand that sleep are none of its business."""
    fill(ended=10_000, asleep=1_000, due=10)

    with CaptureQueriesContext(connection) as captured:
        engine.sweep()
    query = next(
        q["sql"] for q in captured.captured_queries if '"sagas_saga"' in q["sql"] and "SKIP" in q["sql"]
    )
    fill(ended=0, asleep=0, due=10)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")
        (plan,) = cursor.fetchone()[0]

    scan = plan["Plan"]
    while "Plans" in scan:
        (scan,) = scan["Plans"]
    assert (scan["Node Type"], scan["Index Name"]) == ("Index Scan", "saga_due")
    assert "wake_at" in scan["Index Cond"], "its time is a bound of the scan, not a filter on it"
    assert scan["Actual Rows"] == 10
    assert scan.get("Rows Removed by Filter", 0) == 0


def fill(*, ended, asleep, due):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sagas_saga (id, name, version, fingerprint, key, state, direction, position, epoch,"
            " facts, dispatches, cancel_reason, cancel_actor, wake_at, finished_at)"
            " SELECT gen_random_uuid(), 'toy-one', 1, 'f', gen_random_uuid()::text,"
            " CASE WHEN n <= %(ended)s THEN 'completed' ELSE 'running' END, 1, 0, 1, '{}', 1, '', '',"
            " CASE WHEN n > %(ended)s + %(asleep)s THEN now() - interval '1 s'"
            "      WHEN n > %(ended)s THEN now() + interval '1 h' END,"
            " CASE WHEN n <= %(ended)s THEN now() END"
            " FROM generate_series(1, %(all)s) AS n",
            {"ended": ended, "asleep": asleep, "all": ended + asleep + due},
        )
        cursor.execute(
            "INSERT INTO sagas_step (saga_id, position, name, state, attempts, undo_attempts, fence, task_id,"
            " worker) SELECT id, 0, 'a', 'pending', 0, 0, 0, '', '' FROM sagas_saga WHERE wake_at < now()"
            " AND NOT EXISTS (SELECT 1 FROM sagas_step s WHERE s.saga_id = sagas_saga.id)"
        )
        cursor.execute("ANALYZE sagas_saga")


def test_a_backlog_costs_a_sweep_as_much_however_long_it_is(broker):
    bills = []
    engine.sweep()  # Which makes the queues known.
    for more in (1, 19):
        for _ in range(more):
            harness.begin(toys.LOCAL)
        clocks.pass_time(LOOK)
        # Whether a queue is due for a probe hangs upon how long each round took, and is asked by others.
        models.Queue.objects.update(probed_at=models.ClockTimestamp(), unanswered_since=None)
        with counted() as bill:
            engine.sweep()
        bills.append(bill["statements"])

    assert bills[0] == bills[1], "those that merely wait are put off together"
    assert not models.SagaInstance.objects.filter(epoch__gt=1).exists(), "and none is sent again"


def test_whoever_waits_long_is_looked_after_more_seldom(broker):
    saga = harness.begin(toys.LOCAL)
    pauses = []
    for waited in (10 * LOOK, 100 * LOOK):
        clocks.pass_time(waited)
        engine.sweep()
        pauses.append(clocks.until_due())
    saga.refresh_from_db()

    assert dispatching.grace() < pauses[0] < pauses[1] <= probes.LONGEST_LOOK_PAUSE


def test_an_idle_sweep_costs_as_much_however_many_sagas_have_ended(broker):
    with counted() as before:
        engine.sweep()
    fill(ended=1_000, asleep=100, due=0)
    with counted() as after:
        engine.sweep()

    assert after["statements"] <= before["statements"]
    assert clocks.until_due() is not None
