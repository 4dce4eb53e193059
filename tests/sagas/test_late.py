"""A lock that another session holds makes a step late: it is tried until that is free, and never fails."""

import contextlib
import datetime

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from sagas import database, engine, errors, models
from sagas.console import history, summary
from sagas.testing import clocks
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import models as sample_app
from tests.sagas.sample_app import saga as toys

SECOND = datetime.timedelta(seconds=1)
MINUTE = datetime.timedelta(minutes=1)
SHELF = "shelf"

pytestmark = pytest.mark.usefixtures("brief_waits")


@pytest.fixture
def brief_waits(broker):
    """Who waits for a lock gives up soon, as by WORKER_LOCK_TIMEOUT."""
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")


@contextlib.contextmanager
def a_neighbour_in_the_middle_of_a_transaction(
    statement="UPDATE sample_app_toy SET made = made WHERE key = %s", *given
):
    """Another session that changed a row, and is silent since."""
    sample_app.Toy.objects.get_or_create(key=SHELF)
    settings = connection.settings_dict
    with psycopg.connect(
        host=settings["HOST"], port=settings["PORT"], user=settings["USER"], dbname=settings["NAME"]
    ) as link:
        link.execute(statement, given or [SHELF])
        yield link
        link.rollback()


def take_from_the_shelf(*, key):
    functions.local_execute("UPDATE sample_app_toy SET made = made WHERE key = %s", [SHELF])
    return functions.make(key=key)


def put_back_on_the_shelf(*, key):
    functions.local_execute("UPDATE sample_app_toy SET made = made WHERE key = %s", [SHELF])
    return functions.unmake(key=key)


def told_at_the_shelf(*, key):
    functions.local_execute("UPDATE sample_app_toy SET made = made WHERE key = %s", [SHELF])
    return functions.completed(key=key)


def booked_with_the_shelf(*, key):
    functions.local_execute("UPDATE sample_app_toy SET made = made WHERE key = %s", [SHELF])
    return functions.book(key=key)


AT_SHELF = toys.saga("late-do", toys.remote("a"), toys.local("b", do=take_from_the_shelf), toys.local("c"))
BACK_AT_SHELF = toys.saga(
    "late-undo", toys.remote("a"), toys.local("b", undo=put_back_on_the_shelf), toys.local("c")
)
TOLD_AT_SHELF = toys.saga("late-hook", toys.remote("a"), toys.local("b"), on_completed=told_at_the_shelf)
REMOTE_TOLD = toys.saga("late-hook-remote", toys.local("a"), toys.remote("b"), on_completed=told_at_the_shelf)
REMOTE_AT_SHELF = toys.saga("late-remote", toys.remote("a", **toys.ASK, do=booked_with_the_shelf))


def time_goes_by(broker, rounds):
    """Deliver what there is, and let the next thing become due; the pauses that were waited for."""
    pauses = []
    for _ in range(rounds):
        broker.deliver_all()
        pauses.append(clocks.until_due())
        clocks.skip()
        engine.sweep()
    broker.deliver_all()
    return pauses


def far_more_often_than_any_budget(saga):
    return 2 * saga.definition.retry.attempts + 3


@pytest.mark.parametrize(
    ("declared", "script", "step", "kind", "ends"),
    [
        (AT_SHELF, "", "b", "step.late", "completed"),
        (BACK_AT_SHELF, "do a, do b, fail c", "b", "undo.late", "compensated"),
        (TOLD_AT_SHELF, "", "b", "step.late", "completed"),
        (REMOTE_TOLD, "", "b", "step.unknown", "completed"),
        (REMOTE_AT_SHELF, "", "a", "step.unknown", "completed"),
    ],
    ids=[
        "an action",
        "an undo",
        "its owner's hook",
        "its owner's hook after a remote step",
        "a remote step's own rows",
    ],
)
def test_a_step_that_waits_for_a_lock_is_late_however_long_and_goes_on_when_it_is_free(
    broker, declared, script, step, kind, ends
):
    saga = harness.begin(declared, script)
    with a_neighbour_in_the_middle_of_a_transaction():
        time_goes_by(broker, far_more_often_than_any_budget(saga))
        saga.refresh_from_db()
        row = saga.steps.get(name=step)
        assert saga.state == ("compensating" if kind == "undo.late" else "running")
        assert harness.kinds(saga, step).count(kind) > far_more_often_than_any_budget(saga) - 2
        assert "sample_app_toy" in row.error["message"]

    harness.drive(broker, saga)

    assert saga.state == ends
    assert harness.books(saga)["a"] == ((1, 1) if ends == "compensated" else (1, 0))
    assert not models.Circuit.objects.filter(opened_at__isnull=False).exists(), "no provider was away"
    rules.check(saga)


def test_a_local_step_that_is_late_spends_none_of_its_attempts(broker):
    saga = harness.begin(AT_SHELF)
    with a_neighbour_in_the_middle_of_a_transaction():
        time_goes_by(broker, 10)
        assert saga.steps.get(name="b").attempts == 0

    harness.drive(broker, saga)

    assert saga.steps.get(name="b").attempts == 1


def test_a_late_step_is_tried_ever_more_seldom(broker):
    harness.begin(AT_SHELF)
    with a_neighbour_in_the_middle_of_a_transaction():
        pauses = time_goes_by(broker, 12)

    assert SECOND / 3 < pauses[0] <= SECOND
    assert all(20 * SECOND < pause <= MINUTE for pause in pauses[-3:])


def test_late_steps_are_not_tried_again_all_at_once(broker):
    sagas = [harness.begin(AT_SHELF) for _ in range(5)]
    with a_neighbour_in_the_middle_of_a_transaction():
        broker.deliver_all()
        wakes = models.SagaInstance.objects.order_by("id").values_list("wake_at", flat=True)
        since = models.Event.objects.filter(kind="step.late").order_by("saga_id").values_list("at", flat=True)
        pauses = sorted(wake - at for wake, at in zip(wakes, since, strict=True))

    assert len(pauses) == len(sagas)
    assert pauses[-1] - pauses[0] > SECOND / 20, "each after a pause of its own"


def test_the_page_says_what_a_late_step_waits_for(broker):
    saga = harness.begin(AT_SHELF)
    with a_neighbour_in_the_middle_of_a_transaction():
        broker.deliver_all()
        told = history.read(saga.pk)
        said = summary.of(told)

    assert said.next.startswith(
        "b is late: Another session holds a lock that it needs, on a row of sample_app_toy. Tried again"
    )
    assert [attempt.outcome for attempt in history.attempts(told)] == ["done", "late"]


def test_a_deadline_ends_even_what_waits_for_a_lock(broker):
    saga = harness.begin(AT_SHELF)
    with a_neighbour_in_the_middle_of_a_transaction():
        time_goes_by(broker, 3)
        saga.refresh_from_db()
        clocks.pass_time(saga.deadline_at - models.database_now(), saga.pk)
        harness.drive(broker, saga)

    assert saga.state == "compensated"
    assert harness.books(saga) == {"a": (1, 1), "b": (0, 0), "c": (0, 0)}
    rules.check(saga)


def test_a_deadlock_costs_its_victim_time_and_no_attempt(broker):
    """Two sessions that wait for each other: PostgreSQL ends one of them, which may be a step."""
    saga = harness.begin(AT_SHELF)
    raised = []

    def be_the_victim(*, key):
        if not raised:
            raised.append(key)
            functions.local_execute(
                "DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END $$", []
            )
        return functions.make(key=key)

    saga = harness.begin(toys.saga("late-deadlock", toys.local("a", do=be_the_victim)))
    harness.drive(broker, saga)

    assert harness.kinds(saga, "a") == ["step.late", "step.done"]
    assert saga.steps.get(name="a").attempts == 1


MOVES = {
    "cancel": lambda pk, seen: engine.cancel(pk, actor="ana", reason="changed my mind"),
    "retry": lambda pk, seen: engine.retry(pk, seen=seen, actor="olga", reason="now"),
    "hold": lambda pk, seen: engine.hold(pk, seen=seen, actor="olga", reason="wait"),
    "compensate": lambda pk, seen: engine.compensate(
        pk, seen=seen, actor="olga", reason="the customer called"
    ),
}


@pytest.mark.parametrize("move", MOVES)
def test_an_operator_is_told_at_once_that_the_saga_is_locked(broker, move):
    saga = harness.begin(toys.LOCAL)
    row = "SELECT FROM sagas_saga WHERE id = %s FOR UPDATE"
    before, seen = rules.snapshot(saga), engine.look(saga.pk)
    with (
        a_neighbour_in_the_middle_of_a_transaction(row, saga.pk),
        pytest.raises(errors.Busy, match="Try again"),
    ):
        MOVES[move](saga.pk, seen)
    assert rules.snapshot(saga) == before

    MOVES[move](saga.pk, seen)


def test_an_operator_at_the_shell_is_told_so_too(broker):
    saga = harness.begin(toys.LOCAL)
    row = "SELECT FROM sagas_saga WHERE id = %s FOR UPDATE"
    with (
        a_neighbour_in_the_middle_of_a_transaction(row, saga.pk),
        pytest.raises(CommandError, match="Somebody else is at this saga"),
    ):
        call_command("saga", "hold", str(saga.pk), "--reason", "wait", "--seen", str(engine.look(saga.pk)))


def test_a_saga_whose_own_row_is_held_goes_on_when_it_is_free(broker):
    saga = harness.begin(toys.LOCAL)
    row = "SELECT FROM sagas_saga WHERE id = %s FOR UPDATE"
    with a_neighbour_in_the_middle_of_a_transaction(row, saga.pk):
        broker.deliver_all()
        engine.sweep()

    # The message is gone; a probe that was sent after it comes through.
    for _ in range(3):
        clocks.pass_time(MINUTE)
        engine.sweep()
        broker.deliver_all()
    saga.refresh_from_db()

    assert saga.state == "completed"
    assert {step.attempts for step in saga.steps.all()} == {1}


def test_what_an_error_of_the_database_means_is_told_by_its_code():
    with connection.cursor() as cursor:
        kinds = {}
        for code in (
            "55P03",
            "40P01",
            "40001",
            "57014",
            "25006",
            "57P01",
            "08006",
            "53300",
            "42P05",
            "26000",
            "42P03",
            "34000",
            "0A000",
            "22012",
            "23505",
        ):
            with pytest.raises(Exception, match="told") as caught:
                cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'told' USING ERRCODE = '{code}'; END $$")
            kinds[code] = (database.is_busy(caught.value), database.is_away(caught.value))

    busy, away, neither = (True, False), (False, True), (False, False)
    assert kinds == {
        "55P03": busy, "40P01": busy, "40001": busy,
        "57014": neither, "22012": neither, "23505": neither, "0A000": neither,
        "25006": away, "57P01": away, "08006": away, "53300": away,
        "42P05": away, "26000": away, "42P03": away, "34000": away,
    }  # fmt: skip
