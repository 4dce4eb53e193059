"""Parents of many children: what one that ends costs, and what is lost, held or wanted by two at once."""

import concurrent.futures
import datetime
import threading

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from sagas import ForEach, engine, models
from sagas.engine import children, sweeping
from sagas.testing import clocks
from tests.sagas import rules
from tests.sagas.sample_app import saga as toys
from tests.sagas.test_children import WHO, begin, children_of, drive, each, world  # noqa: F401 - a fixture
from tests.support import locks, waiting

LOST = children.LOST + datetime.timedelta(seconds=1)
MANY = 60
WAITS = toys.saga("toy-patient-parcel", toys.waits("y"), inputs=["parcel"])


def all_wait(count):
    """What each of so many children answers: it has begun, and waits to be told."""
    return {f"do_y_{number}": "begin" for number in range(count)}


def end(child):
    """Tell a child what it waits for."""
    key = f"{child.pk}.y"
    engine.receive(source="world", event_id=key, key=key, facts={"settled": True})


def nobody_tells(patch):
    """Whoever was to tell or to look after a commit dies before it does."""
    patch.setattr(children, "_tell", lambda parent_id, step: None)


def rows_read():
    """How many rows of sagas this session has read so far."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables"
            " WHERE relname = 'sagas_saga'"
        )
        return cursor.fetchone()[0]


# --- What it costs --------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 2], ids=["all at once", "a few at once"])
def test_a_child_that_ends_costs_as_much_however_many_siblings_it_has(broker, world, limit):  # noqa: F811
    world(**all_wait(MANY))
    families = [begin(each(name=f"toy-{count}", child=WAITS, limit=limit), count) for count in (4, MANY)]
    broker.deliver_all()
    for saga in families:
        end(children_of(saga)[0])
    broker.deliver_all()
    bills = []
    with connection.cursor() as cursor:
        # The planner is to choose as for a table of more than a page, whatever it knew of the table before.
        cursor.execute("ANALYZE sagas_saga; SET enable_seqscan = off; SET enable_bitmapscan = off")

    for saga in families:
        second = children_of(saga)[1]
        before = rows_read()
        with CaptureQueriesContext(connection) as captured:
            end(second)
        bills.append((len(captured), rows_read() - before))
        assert saga.steps.get(name="deliver").standing["counts"]["done"] == 2

    with connection.cursor() as cursor:
        cursor.execute("RESET enable_seqscan; RESET enable_bitmapscan")
    assert bills[0] == bills[1], "statements, and the rows that they read"


def test_many_begin_and_are_told_that_they_are_not_wanted_in_few_transactions(broker, world):  # noqa: F811
    world(**all_wait(MANY))
    with CaptureQueriesContext(connection) as captured:
        saga = begin(each(child=WAITS), MANY)
        broker.deliver()
    inserts = [
        query["sql"] for query in captured.captured_queries if "INSERT INTO sagas_saga" in query["sql"]
    ]
    assert len(inserts) == 2, "itself, and all of its children"
    broker.deliver_all()

    with CaptureQueriesContext(connection) as captured:
        engine.cancel(saga.pk, **WHO)

    begun = [query["sql"] for query in captured.captured_queries if query["sql"].startswith("BEGIN")]
    assert len(begun) < 8
    assert {child.direction for child in children_of(saga)} == {-1}
    drive(broker, saga, rounds=2000)
    assert saga.state == "compensated"
    rules.check(saga)


# --- What is lost ---------------------------------------------------------------------------------


def test_children_are_started_although_the_worker_dies_that_began_them(broker, world, monkeypatch):  # noqa: F811
    world(**all_wait(3))
    with monkeypatch.context() as patch:
        nobody_tells(patch)
        saga = begin(each(child=WAITS))
        broker.deliver_all()
    assert {child.epoch for child in children_of(saga)} == {0}

    clocks.pass_time(LOST)
    engine.sweep()

    assert {child.epoch for child in children_of(saga)} == {1}
    saga.refresh_from_db()
    assert saga.wake_at > models.database_now() + sweeping.dispatching.grace(), "it is not looked at for ever"


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
def test_children_are_undone_although_the_worker_dies_that_began_to(broker, world, monkeypatch, beside):  # noqa: F811
    world(**all_wait(3))
    step = ForEach("deliver", of="parcels", saga=WAITS)
    stage = toys.at_once("both", step, toys.local("b")) if beside else step
    saga = begin(toys.saga("toy-lost-undo", toys.local("a"), stage, inputs=["parcels"]))
    broker.deliver_all()

    with monkeypatch.context() as patch:
        nobody_tells(patch)
        engine.cancel(saga.pk, **WHO)
    assert saga.steps.get(name="deliver").state == "undoing"
    assert {child.direction for child in children_of(saga)} == {1}
    clocks.pass_time(LOST)
    engine.sweep()

    assert {child.direction for child in children_of(saga)} == {-1}
    drive(broker, saga)
    rules.check(saga)


def test_children_never_started_are_over_although_the_worker_dies_that_puts_their_parent_aside(
    broker,
    world,  # noqa: F811
    monkeypatch,
):
    world(do_y_0="fail", undo_y_0="fail", **{f"do_y_{number}": "begin" for number in (1, 2)})
    child = toys.saga("toy-once-parcel", toys.waits("y"), inputs=["parcel"])
    saga = begin(each(child=child, failed="keep", limit=1))
    broker.deliver_all()
    saga.refresh_from_db()
    assert saga.state == "needs_attention"

    with monkeypatch.context() as patch:
        nobody_tells(patch)
        engine.close(saga.pk, seen=engine.look(saga.pk), **WHO)
    assert [child.state for child in children_of(saga)][1:] == ["running", "running"]
    clocks.pass_time(LOST)
    engine.sweep()

    assert [child.state for child in children_of(saga)][1:] == ["compensated", "compensated"]


def test_a_sum_that_is_wrong_is_counted_anew(broker, world):  # noqa: F811
    world(**all_wait(3))
    saga = begin(each(child=WAITS))
    broker.deliver_all()
    step = saga.steps.get(name="deliver")
    step.standing = {"counts": {"going": 2}, "first": 9}
    step.save(update_fields=["standing"])

    clocks.pass_time(children.START_LOOK, saga.pk)
    engine.sweep()

    step.refresh_from_db()
    assert step.standing == {"counts": {"going": 3}, "first": 0}


# --- Two at once ----------------------------------------------------------------------------------


def holding(saga_id, let_go):
    """Hold a saga's row on a connection of its own until then; gives when it is held, and when it is over."""
    held = threading.Event()

    def hold():
        try:
            with transaction.atomic():
                assert models.SagaInstance.objects.select_for_update().filter(pk=saga_id).exists()
                held.set()
                waiting.until(let_go, "that the row may be let go", seconds=30)
        finally:
            connection.close()

    pool = concurrent.futures.ThreadPoolExecutor(1)
    over = pool.submit(hold)
    pool.shutdown(wait=False)
    assert held.wait(20)
    return over


def test_a_child_that_ends_while_somebody_else_holds_its_parents_row_is_heard_without_a_sweep(broker, world):  # noqa: F811
    world(**all_wait(1))
    saga = begin(each(child=WAITS), 1)
    broker.deliver_all()
    over = holding(saga.pk, locks.waiters)

    end(children_of(saga)[0])

    over.result(30)
    saga.refresh_from_db()
    assert (saga.position, saga.steps.get(name="deliver").state) == (2, "done")


def test_a_child_that_is_at_work_keeps_its_siblings_from_nothing(broker, world):  # noqa: F811
    world(**all_wait(3))
    saga = begin(each(child=WAITS))
    broker.deliver_all()
    first, *others = children_of(saga)

    def others_are_told():
        told = models.SagaInstance.objects.filter(pk__in=[child.pk for child in others], direction=-1)
        return told.count() == len(others)

    over = holding(first.pk, others_are_told)
    engine.cancel(saga.pk, **WHO)

    over.result(30)
    drive(broker, saga)
    assert (saga.state, {child.state for child in children_of(saga)}) == ("compensated", {"compensated"})
    rules.check(saga)


def test_two_sweepers_with_each_others_children_do_not_wait_for_each_other(
    broker,
    world,  # noqa: F811
    monkeypatch,
    caplog,
):
    world()
    declared = toys.saga(
        "toy-lapsing-parent",
        ForEach("deliver", of="parcels", saga=toys.PARCEL),
        toys.approval(lapse="approve"),
        inputs=["parcels"],
    )
    parents = [begin(declared, 1) for _ in range(2)]
    broker.deliver_all()
    (first,), (second,) = (children_of(saga) for saga in parents)
    over = models.database_now() - datetime.timedelta(minutes=1)
    models.StepInstance.objects.filter(name="ok").update(wait_until=over)
    # Each sweeper's batch is a parent and the child of the other one.
    for place, one in enumerate((second, parents[0], first, parents[1])):
        due = over + place * datetime.timedelta(seconds=1)
        models.SagaInstance.objects.filter(pk=one.pk).update(wake_at=due)
    wake, mine = sweeping._wake, threading.local()
    has_batch, both = threading.Event(), threading.Barrier(2)

    def wake_once_both_have_their_batches(work):
        if not hasattr(mine, "has_batch"):
            mine.has_batch = True
            has_batch.set()
            both.wait(20)
        wake(work)

    monkeypatch.setattr(sweeping, "_wake", wake_once_both_have_their_batches)

    def sweep():
        try:
            return engine.sweep(2)
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        one = pool.submit(sweep)
        assert has_batch.wait(20)
        assert (pool.submit(sweep).result(60), one.result(60)) == (2, 2)

    assert "could not be woken" not in caplog.text
    # A parent that heard of its child at that moment is woken by the next sweep.
    monkeypatch.setattr(sweeping, "_wake", wake)
    engine.sweep()
    for saga in (*parents, first, second):
        saga.refresh_from_db()
        assert saga.state == "completed"
        rules.check(saga)
