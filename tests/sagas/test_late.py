"""A lock that another session holds makes a step late: it is tried until that is free, and never fails."""

import contextlib
import datetime

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from sagas import database, engine, errors, models, story, verdict
from sagas.testing import clocks
from tests.sagas import rules, stage
from tests.sagas.toybox import models as toybox
from tests.sagas.toybox import saga as toys
from tests.sagas.toybox import verbs

SECOND = datetime.timedelta(seconds=1)
MINUTE = datetime.timedelta(minutes=1)
SHELF = "shelf"

pytestmark = pytest.mark.usefixtures("brief_waits")


@pytest.fixture
def brief_waits(office):
    """Who waits for a lock gives up soon, as by WORKER_LOCK_TIMEOUT."""
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")


@contextlib.contextmanager
def a_neighbour_in_the_middle_of_a_transaction(
    statement="UPDATE toybox_toy SET made = made WHERE key = %s", *given
):
    """Another session that changed a row, and is silent since."""
    toybox.Toy.objects.get_or_create(key=SHELF)
    settings = connection.settings_dict
    with psycopg.connect(
        host=settings["HOST"], port=settings["PORT"], user=settings["USER"], dbname=settings["NAME"]
    ) as link:
        link.execute(statement, given or [SHELF])
        yield link
        link.rollback()


def take_from_the_shelf(*, key):
    verbs.local_execute("UPDATE toybox_toy SET made = made WHERE key = %s", [SHELF])
    return verbs.make(key=key)


def put_back_on_the_shelf(*, key):
    verbs.local_execute("UPDATE toybox_toy SET made = made WHERE key = %s", [SHELF])
    return verbs.unmake(key=key)


def told_at_the_shelf(*, key):
    verbs.local_execute("UPDATE toybox_toy SET made = made WHERE key = %s", [SHELF])
    return verbs.completed(key=key)


def booked_with_the_shelf(*, key):
    verbs.local_execute("UPDATE toybox_toy SET made = made WHERE key = %s", [SHELF])
    return verbs.book(key=key)


AT_SHELF = toys.saga("late-do", toys.remote("a"), toys.local("b", do=take_from_the_shelf), toys.local("c"))
BACK_AT_SHELF = toys.saga(
    "late-undo", toys.remote("a"), toys.local("b", undo=put_back_on_the_shelf), toys.local("c")
)
TOLD_AT_SHELF = toys.saga("late-hook", toys.remote("a"), toys.local("b"), completed=told_at_the_shelf)
REMOTE_TOLD = toys.saga("late-hook-remote", toys.local("a"), toys.remote("b"), completed=told_at_the_shelf)
REMOTE_AT_SHELF = toys.saga("late-remote", toys.remote("a", **toys.ASK, do=booked_with_the_shelf))


def time_goes_by(office, rounds):
    """Deliver what there is, and let the next thing become due; the pauses that were waited for."""
    pauses = []
    for _ in range(rounds):
        office.deliver_all()
        pauses.append(clocks.until_due())
        clocks.skip()
        engine.sweep()
    office.deliver_all()
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
        "a deed",
        "an undo",
        "its owner's hook",
        "its owner's hook after a remote step",
        "a remote step's own rows",
    ],
)
def test_who_waits_for_a_lock_is_late_however_long_and_goes_on_when_it_is_free(
    office, declared, script, step, kind, ends
):
    saga = stage.begin(declared, script)
    with a_neighbour_in_the_middle_of_a_transaction():
        time_goes_by(office, far_more_often_than_any_budget(saga))
        saga.refresh_from_db()
        row = saga.steps.get(name=step)
        assert saga.state == ("compensating" if kind == "undo.late" else "running")
        assert stage.kinds(saga, step).count(kind) > far_more_often_than_any_budget(saga) - 2
        assert "toybox_toy" in row.error["message"]

    stage.drive(office, saga)

    assert saga.state == ends
    assert stage.books(saga)["a"] == ((1, 1) if ends == "compensated" else (1, 0))
    assert not models.Circuit.objects.filter(opened_at__isnull=False).exists(), "no provider was away"
    rules.check(saga)


def test_a_local_step_that_is_late_spends_none_of_its_attempts(office):
    saga = stage.begin(AT_SHELF)
    with a_neighbour_in_the_middle_of_a_transaction():
        time_goes_by(office, 10)
        assert saga.steps.get(name="b").attempts == 0

    stage.drive(office, saga)

    assert saga.steps.get(name="b").attempts == 1


def test_who_is_late_comes_back_ever_more_seldom(office):
    stage.begin(AT_SHELF)
    with a_neighbour_in_the_middle_of_a_transaction():
        pauses = time_goes_by(office, 12)

    assert SECOND / 3 < pauses[0] <= SECOND
    assert all(20 * SECOND < pause <= MINUTE for pause in pauses[-3:])


def test_those_who_are_late_do_not_come_back_all_at_once(office):
    sagas = [stage.begin(AT_SHELF) for _ in range(5)]
    with a_neighbour_in_the_middle_of_a_transaction():
        office.deliver_all()
        wakes = models.SagaInstance.objects.order_by("id").values_list("wake_at", flat=True)
        since = models.Event.objects.filter(kind="step.late").order_by("saga_id").values_list("at", flat=True)
        pauses = sorted(wake - at for wake, at in zip(wakes, since, strict=True))

    assert len(pauses) == len(sagas)
    assert pauses[-1] - pauses[0] > SECOND / 20, "each after a pause of its own"


def test_the_page_says_what_a_late_step_waits_for(office):
    saga = stage.begin(AT_SHELF)
    with a_neighbour_in_the_middle_of_a_transaction():
        office.deliver_all()
        told = story.read(saga.pk)
        said = verdict.of(told)

    assert said.next.startswith(
        "b is late: Another session holds a lock that it needs, on a row of toybox_toy. Tried again"
    )
    assert [attempt.outcome for attempt in story.attempts(told)] == ["done", "late"]


def test_a_deadline_ends_even_what_waits_for_a_lock(office):
    saga = stage.begin(AT_SHELF)
    with a_neighbour_in_the_middle_of_a_transaction():
        time_goes_by(office, 3)
        saga.refresh_from_db()
        clocks.pass_time(saga.deadline_at - models.database_now(), saga.pk)
        stage.drive(office, saga)

    assert saga.state == "compensated"
    assert stage.books(saga) == {"a": (1, 1), "b": (0, 0), "c": (0, 0)}
    rules.check(saga)


def test_a_deadlock_costs_its_victim_time_and_no_attempt(office):
    """Two sessions that wait for each other: PostgreSQL ends one of them, which may be a step."""
    saga = stage.begin(AT_SHELF)
    raised = []

    def be_the_victim(*, key):
        if not raised:
            raised.append(key)
            verbs.local_execute(
                "DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END $$", []
            )
        return verbs.make(key=key)

    saga = stage.begin(toys.saga("late-deadlock", toys.local("a", do=be_the_victim)))
    stage.drive(office, saga)

    assert stage.kinds(saga, "a") == ["step.late", "step.done"]
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
def test_a_person_is_told_at_once_that_somebody_else_is_at_it(office, move):
    saga = stage.begin(toys.LOCAL)
    row = "SELECT FROM sagas_saga WHERE id = %s FOR UPDATE"
    before, seen = rules.snapshot(saga), engine.look(saga.pk)
    with (
        a_neighbour_in_the_middle_of_a_transaction(row, saga.pk),
        pytest.raises(errors.Busy, match="Try again"),
    ):
        MOVES[move](saga.pk, seen)
    assert rules.snapshot(saga) == before

    MOVES[move](saga.pk, seen)


def test_at_the_shell_too(office):
    saga = stage.begin(toys.LOCAL)
    row = "SELECT FROM sagas_saga WHERE id = %s FOR UPDATE"
    with (
        a_neighbour_in_the_middle_of_a_transaction(row, saga.pk),
        pytest.raises(CommandError, match="Somebody else is at this saga"),
    ):
        call_command("saga", "hold", str(saga.pk), "--reason", "wait", "--seen", str(engine.look(saga.pk)))


def test_a_saga_whose_own_row_is_held_goes_on_when_it_is_free(office):
    saga = stage.begin(toys.LOCAL)
    row = "SELECT FROM sagas_saga WHERE id = %s FOR UPDATE"
    with a_neighbour_in_the_middle_of_a_transaction(row, saga.pk):
        office.deliver_all()
        engine.sweep()

    # The message is gone; a probe that was sent after it comes through.
    for _ in range(3):
        clocks.pass_time(MINUTE)
        engine.sweep()
        office.deliver_all()
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
            "22012",
            "23505",
        ):
            with pytest.raises(Exception, match="told") as caught:
                cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'told' USING ERRCODE = '{code}'; END $$")
            kinds[code] = (database.is_busy(caught.value), database.is_away(caught.value))

    busy, away, neither = (True, False), (False, True), (False, False)
    assert kinds == {
        "55P03": busy, "40P01": busy, "40001": busy,
        "57014": neither, "22012": neither, "23505": neither,
        "25006": away, "57P01": away, "08006": away, "53300": away,
    }  # fmt: skip
