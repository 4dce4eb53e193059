"""What one message carries beyond its own step, and in how many round trips."""

import contextlib
import dataclasses

import pytest
from django.db import connection, transaction

from sagas import engine, errors
from sagas.declaration import registry
from sagas.engine import pipeline, store, transport
from sagas.testing import clocks, memory_transport
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys


@pytest.fixture
def inline(rows):
    """Messages that carry a saga as far as it goes."""
    broker = memory_transport.MemoryTransport(inline=harness.always)
    with transport.use(broker):
        yield broker


@pytest.fixture
def trips(monkeypatch):
    """The engine's round trips: the statements of each."""
    seen = []
    send = pipeline.send

    def counted(raw, statements):
        seen.append([statement.text.split()[0] for statement in statements])
        return send(raw, statements)

    monkeypatch.setattr(pipeline, "send", counted)
    return seen


def test_one_message_carries_a_saga_to_its_end(inline):
    saga = harness.begin(toys.MIXED)

    assert inline.deliver()

    saga.refresh_from_db()
    assert saga.state == "completed"
    assert len(inline.sent) == 1
    assert [row.task_id for row in saga.steps.all()] == ["task-1", "task-1-1", "task-1-2", "task-1-3"]
    rules.check(saga)


def test_the_error_callback_begins_the_way_back_and_carries_it_to_its_end(inline):
    saga = harness.begin(toys.LOCAL, "do a, do b, fail c")

    inline.deliver_all()

    saga.refresh_from_db()
    assert saga.state == "compensated"
    assert [type(message).__name__ for message in inline.sent] == ["StepMessage", "ChainError"]
    rules.check(saga)


def test_a_declaration_may_ask_for_a_message_for_each_step(inline):
    declared = registry.add(dataclasses.replace(toys.LOCAL, name="toy-one-by-one", inline=False))
    harness.begin(declared)

    inline.deliver_all()

    assert [message.number for message in inline.sent] == [0, 1, 2]


def test_a_local_step_costs_one_round_trip_beside_its_functions(inline, trips):
    harness.begin(toys.LOCAL)
    trips.clear()

    inline.deliver()

    # Lock; record, commit, lock the next; the last one's record comes before its owner's hook.
    assert trips == [["SELECT"], ["WITH", "COMMIT", "SELECT"], ["WITH", "COMMIT", "SELECT"], ["WITH"]]


def test_a_remote_step_costs_two_round_trips_beside_its_functions(inline, trips):
    harness.begin(toys.REMOTE)
    trips.clear()

    inline.deliver()

    # Lock; claim, commit; record, commit, lock the next; the last one's record comes before its owner's hook.
    lock, claim, turn = ["SELECT"], ["WITH", "COMMIT"], ["WITH", "COMMIT", "SELECT"]
    assert trips == [lock, claim, turn, claim, turn, claim, ["WITH"]]


@pytest.mark.parametrize(
    ("script", "recorded"),
    [
        ("do a, begin w", [["SELECT", "SELECT"], ["WITH", "COMMIT"]]),
        ("do a, do w", [["WITH", "COMMIT", "SELECT"]]),
    ],
)
def test_only_a_step_that_begins_to_wait_reads_its_rows_and_its_inbox_anew(inline, trips, script, recorded):
    harness.begin(toys.BLIND_WAIT, script)
    trips.clear()

    inline.deliver()

    assert trips[3 : 3 + len(recorded)] == recorded


def test_a_callback_that_came_before_its_step_waits_is_taken_up_in_the_same_message(inline, monkeypatch):
    def happen():
        engine.receive(source="world", event_id="early", key=f"{saga.pk}.w", facts={"settled": True})

    monkeypatch.setattr(functions, "WORLD", harness.Meanwhile(happen))
    saga = harness.begin(toys.BLIND_WAIT, "do a, begin w")

    inline.deliver()

    saga.refresh_from_db()
    assert saga.state == "completed"


def test_what_a_remote_step_did_stays_whatever_comes_of_the_local_one_behind_it(inline):
    """Both are recorded in one block of transactions."""
    saga = harness.begin(toys.MIXED, "do a, do b, fail c")

    inline.deliver_all()

    saga.refresh_from_db()
    assert saga.state == "compensated"
    assert list(saga.steps.values_list("state", flat=True)) == ["undone", "undone", "failed", "pending"]
    rules.check(saga)


def test_what_one_step_did_stays_whatever_comes_of_the_next(inline):
    """It is recorded before the next one is looked at."""
    saga = harness.begin(toys.LOCAL, "do a, break b")

    inline.deliver_all()

    assert list(saga.steps.values_list("state", flat=True)) == ["undone", "failed", "pending"]
    rules.check(saga)


def test_a_function_that_fails_leaves_nothing_waiting_for_a_commit_and_no_statement_to_prepare_anew(
    inline, monkeypatch
):
    called = []

    class Tells(functions.Scripted):
        def do(self, key, **rest):
            transaction.on_commit(lambda: called.append(key[-1]))
            return super().do(key, **rest)

    monkeypatch.setattr(functions, "WORLD", Tells())
    harness.begin(toys.LOCAL)
    inline.deliver()
    before = prepared()
    called.clear()
    saga = harness.begin(toys.LOCAL, "do a, fail b")

    inline.deliver_all()

    saga.refresh_from_db()
    assert saga.state == "compensated"
    assert called == ["a"]
    assert prepared() >= before > 0


@pytest.mark.parametrize("meddles", ["a cancellation", "a lease that ran out"])
def test_what_was_written_during_a_remote_call_is_read_before_its_outcome_is_recorded(
    inline, monkeypatch, meddles
):
    def happen():
        if meddles == "a cancellation":
            engine.cancel(saga.pk, actor="customer", reason="changed my mind")
        else:
            clocks.pass_time(toys.HOUR, saga.pk)
            engine.sweep()

    monkeypatch.setattr(functions, "WORLD", harness.Meanwhile(happen))
    saga = harness.begin(toys.ONE_REMOTE)

    inline.deliver()

    saga.refresh_from_db()
    step = saga.steps.get()
    if meddles == "a cancellation":
        assert (saga.state, step.state) == ("compensating", "done")
    else:
        assert (saga.state, step.state) == ("running", "unknown"), "the fence is another's"
    harness.drive(inline, saga)
    rules.check(saga)


def test_what_waits_for_the_commit_of_a_step_is_called_after_it_and_before_the_next(inline, monkeypatch):
    """A function may have something done after its commit, as anywhere in Django."""
    called = []

    class Tells(functions.Scripted):
        def do(self, key, **rest):
            transaction.on_commit(lambda: called.append((key[-1], connection.in_atomic_block)))
            return super().do(key, **rest)

    monkeypatch.setattr(functions, "WORLD", Tells())
    saga = harness.begin(toys.LOCAL)

    inline.deliver()

    saga.refresh_from_db()
    assert saga.state == "completed"
    assert called == [("a", False), ("b", False), ("c", False)]


def test_a_write_that_no_longer_holds_commits_nothing(rows):
    with transport.use(memory_transport.MemoryTransport()):
        saga = harness.begin(toys.LOCAL)

    with contextlib.suppress(errors.LostRace), store.Transactions.begin() as transactions:
        work = transactions.lock(saga.pk, "a")
        functions.local_execute("UPDATE sagas_saga SET state = 'compensating' WHERE id = %s", [saga.pk])
        work.note("told", actor="test")
        work.commit()
        transactions.turn(saga.pk, "b")
        pytest.fail("it held")

    saga.refresh_from_db()
    assert saga.state == "running", "what came before it in the transaction is rolled back too"
    assert list(saga.events.values_list("kind", flat=True)) == ["saga.begun"]


# --- The pipeline ---------------------------------------------------------------------------------


def value(number):
    ((told,),) = pipeline.send(connection.connection, [pipeline.Statement("SELECT %s::int", [number])])
    return told


def prepared():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'sagas_%%'")
        return cursor.fetchone()[0]


def test_statements_are_prepared_and_survive_that_psycopg_forgets_its_own(rows):
    with transaction.atomic():
        for _ in range(5):  # What psycopg itself has prepared it deallocates after a rollback.
            functions.local_execute("SELECT 1", [])
        assert value(1) == 1
        assert prepared() > 0
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            raise ZeroDivisionError
        assert prepared() == 0, "else nothing is shown"
        assert value(2) == 2
        assert prepared() > 0


def test_a_connection_that_prepares_nothing_is_sent_none_prepared(rows, monkeypatch):
    with transaction.atomic():
        raw = connection.connection
        monkeypatch.setattr(raw, "prepare_threshold", None)
        monkeypatch.setitem(pipeline._prepared, raw, pipeline.Prepared(raw))
        before = prepared()
        assert value(3) == 3
        assert prepared() == before


def test_the_first_statement_that_fails_is_what_is_told_and_none_behind_it_happens(rows):
    commands = [
        pipeline.Statement("INSERT INTO sample_app_end (key, kind) VALUES (%s, %s)", ["x", "told"]),
        pipeline.Statement("SELECT 1 / %s::int", [0]),
        pipeline.COMMIT,
    ]
    with pytest.raises(errors.LostRace), transaction.atomic():
        store.send(commands)

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sample_app_end WHERE key = 'x'")
        assert cursor.fetchone() == (0,)
