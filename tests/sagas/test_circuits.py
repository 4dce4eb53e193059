"""An outage of one provider pauses its steps, spends no budgets, and keeps nobody else waiting (R4)."""

import contextlib
import datetime
import re
import threading
import uuid
from concurrent import futures

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from sagas import Retry, conf, engine, models
from sagas.declaration import registry
from sagas.engine import circuits, store
from sagas.testing import clocks, crashes, memory_transport
from tests.sagas import harness, rules
from tests.sagas.console import admin_client
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

NO_TIME = datetime.timedelta(0)
SECOND = datetime.timedelta(seconds=1)
MINUTE = datetime.timedelta(minutes=1)
HOUR = datetime.timedelta(hours=1)

PATIENT = toys.saga(
    "toy-patient", toys.remote("a"), retry=Retry(on=[functions.Unavailable], attempts=3, first=MINUTE)
)


class Outage(functions.Scripted):
    """A world that answers nobody, until it does."""

    down = True

    def __init__(self):
        self.calls = 0

    def do(self, key, *, local=False):
        if not local:
            self.calls += 1
            if self.down:
                raise functions.Unavailable("nobody home")
        return super().do(key, local=local)


@pytest.fixture
def world(monkeypatch):
    world = Outage()
    monkeypatch.setattr(functions, "WORLD", world)
    return world


def live_for(broker, span, *, until=lambda: False):
    """Let so much time pass, with everybody at work all the while."""
    passed = datetime.timedelta(0)
    while passed < span and not until():
        if not broker.deliver():
            left = clocks.until_due()
            if left is None:
                return
            passed += left
            clocks.skip()
            engine.sweep()


def test_an_outage_costs_nothing_but_time(broker, world):
    sagas = [harness.begin(toys.REMOTE) for _ in range(conf.CIRCUIT_THRESHOLD)]
    bystander = harness.begin(toys.LOCAL)

    live_for(broker, 10 * MINUTE)

    assert set(models.SagaInstance.objects.filter(name="toy-remote").values_list("state")) == {("running",)}
    assert world.calls < 200, "a few are tried now and then, ever more seldom"
    bystander.refresh_from_db()
    assert bystander.state == "completed"

    world.down = False
    harness.drive(broker, *sagas)

    assert {saga.state for saga in sagas} == {"completed"}
    assert not models.Circuit.objects.exclude(open_until=None).exists()
    for saga in sagas:
        rules.check(saga)


def circuit():
    return models.Circuit.objects.get(name="world")


def test_the_longer_it_lasts_the_longer_are_the_pauses_between_trials(broker, world):
    for _ in range(conf.CIRCUIT_THRESHOLD):
        harness.begin(toys.REMOTE)
    broker.deliver_all()

    pauses = []
    for lasted in (NO_TIME, 20 * SECOND, 3 * MINUTE, HOUR):
        clocks.pass_time(max(lasted - (models.database_now() - circuit().opened_at), NO_TIME) + 2 * SECOND)
        engine.sweep()
        pauses.append(round((circuit().open_until - models.database_now()).total_seconds()))
        broker.deliver_all()

    assert pauses[0] == circuits.FIRST_PAUSE_S
    assert pauses == sorted(pauses)
    assert pauses[-1] == circuits.LONGEST_PAUSE_S


def test_one_saga_that_fails_often_is_no_outage(broker, world):
    saga = harness.begin(toys.REMOTE)

    harness.drive(broker, saga)

    assert saga.state == "compensated"
    assert world.calls == 3
    assert circuit().open_until is None


class Poisoned(functions.Scripted):
    """A world that works, but not for some, and for nobody while it is down."""

    def __init__(self):
        self.bad, self.down, self.asked = set(), False, []

    def do(self, key, *, local=False):
        self.asked.append(key.split(".")[0])
        if self.down or key.split(".")[0] in self.bad:
            raise functions.Unavailable("503")
        return super().do(key, local=local)


@pytest.fixture
def poisoned(monkeypatch):
    world = Poisoned()
    monkeypatch.setattr(functions, "WORLD", world)
    return world


def begin_poisoned(world, count, saga=toys.ONE_REMOTE):
    sagas = [harness.begin(saga) for _ in range(count)]
    world.bad |= {str(saga.pk) for saga in sagas}
    return sagas


def test_many_bad_orders_beside_good_ones_are_no_outage_and_come_to_an_end(broker, poisoned):
    bad = []
    for _ in range(2 * conf.CIRCUIT_THRESHOLD):
        bad += begin_poisoned(poisoned, 1, PATIENT)
        good = harness.begin(toys.ONE_REMOTE)
        while good.state == "running":
            broker.deliver()
            good.refresh_from_db()

    harness.drive(broker, *bad, rounds=400)

    assert {saga.state for saga in bad} == {"compensated"}
    assert circuit().opened_at is None
    for saga in bad:
        step = saga.steps.get()
        assert (step.attempts, step.excused) == (3, 0), "they spend their own attempts"


def test_what_an_outage_cost_is_not_held_against_a_saga_afterwards(broker, world):
    sagas = [harness.begin(toys.ONE_REMOTE) for _ in range(conf.CIRCUIT_THRESHOLD)]
    live_for(broker, 10 * MINUTE)

    for saga in sagas:
        step = saga.steps.get()
        assert step.attempts > 3
        assert step.attempts - step.excused <= 1

    world.down = False
    harness.drive(broker, *sagas)
    assert {saga.state for saga in sagas} == {"completed"}


def test_several_are_let_through_and_first_those_that_never_failed_there(broker, poisoned):
    poisoned.down = True
    bad = begin_poisoned(poisoned, conf.CIRCUIT_THRESHOLD)
    broker.deliver_all()
    good = [harness.begin(toys.ONE_REMOTE) for _ in range(2 * circuits.PROBES)]
    broker.deliver_all()
    poisoned.asked.clear()
    clocks.pass_time(circuits.FIRST_PAUSE_S * SECOND + clocks.A_MOMENT)

    engine.sweep()
    broker.deliver_all()

    assert len(set(poisoned.asked)) == len(poisoned.asked) >= circuits.PROBES
    assert set(poisoned.asked) <= {str(saga.pk) for saga in good}

    poisoned.down = False
    harness.drive(broker, *good, *bad, rounds=400)
    assert {saga.state for saga in good} == {"completed"}
    assert {saga.state for saga in bad} == {"compensated"}


def test_the_first_success_of_another_saga_closes_the_circuit(broker, poisoned):
    begin_poisoned(poisoned, conf.CIRCUIT_THRESHOLD)
    broker.deliver_all()
    assert circuit().opened_at is not None
    clocks.pass_time(circuits.FIRST_PAUSE_S * SECOND + clocks.A_MOMENT)

    good = harness.begin(toys.ONE_REMOTE)
    broker.deliver_all()

    good.refresh_from_db()
    assert good.state == "completed", "who never failed there need not wait for a sweep"
    assert circuit().opened_at is None


def test_a_provider_that_hangs_is_not_given_ever_more_to_do(broker, poisoned):
    poisoned.down = True
    for _ in range(30):
        harness.begin(toys.ONE_REMOTE)
    broker.deliver_all()
    broker.waiting.clear()

    for _ in range(20):
        clocks.pass_time(2 * SECOND)
        engine.sweep()

    let_through = models.SagaInstance.objects.filter(
        dispatched_at__isnull=False, name="toy-one-remote"
    ).count()
    assert let_through <= circuits.PROBES_UNDER_WAY + 20 * 2 / circuits.UNTRIED_PAUSE_S * circuits.PROBES


def test_an_attempt_that_was_under_way_when_it_opened_tells_nothing_new(rows):
    began = models.database_now()
    for number in range(conf.CIRCUIT_THRESHOLD):
        tell_that_failed(number)

    tell_that_worked(began)
    assert circuit().opened_at is not None

    tell_that_worked(models.database_now())
    assert circuit().opened_at is None


def test_what_fails_again_after_the_provider_worked_for_another_says_nothing_about_it(rows):
    first = models.database_now()
    for number in range(conf.CIRCUIT_THRESHOLD - 1):
        tell_that_failed(number, since=first)
    tell_that_worked(models.database_now())

    for number in range(3 * conf.CIRCUIT_THRESHOLD):
        tell_that_failed(number, since=first)
    assert circuit().opened_at is None

    for number in range(conf.CIRCUIT_THRESHOLD):
        tell_that_failed(f"new {number}")
    assert circuit().opened_at is not None


def test_the_reason_why_a_circuit_is_open_is_kept(rows):
    for number in range(conf.CIRCUIT_THRESHOLD):
        tell_that_failed(number)

    told = circuit()
    assert (told.failures, told.error["message"]) == (conf.CIRCUIT_THRESHOLD, "nobody home")
    assert told.failing_since <= told.opened_at


def test_the_console_says_what_a_saga_waits_for_and_why(broker, world):
    saga = wait_for_world(broker, world)

    page = admin_client.text(admin_client.viewer().get(admin_client.page(saga)))
    overview = admin_client.text(admin_client.viewer().get("/admin/"))

    assert "a waits for world, which is out since" in page
    assert "Unavailable: nobody home" in page
    assert "5 failures in" in overview
    assert "Unavailable: nobody home" in overview


def tell_that_worked(began):
    with transaction.atomic():
        store.send([circuits.worked("world", begun_at=began)])


def tell_that_failed(number, *, since=None):
    error = {"error": "Unavailable", "kind": "transient", "message": "nobody home", "step": "a"}
    with transaction.atomic():
        circuits.failed("world", f"saga {number}", troubled_since=since or models.database_now(), error=error)


# --- Those that wait ------------------------------------------------------------------------------


def parked(number, *, opened=True, queue="world", saga=toys.ONE_REMOTE):
    """So many sagas that wait for that circuit, written by SQL."""
    registry.add(saga)
    now = models.database_now()
    models.Circuit.objects.update_or_create(
        name=queue,
        defaults={"opened_at": now, "open_until": now + HOUR, "permits_at": now + HOUR} if opened else {},
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH made AS (INSERT INTO sagas_saga (id, name, version, fingerprint, key, state, direction,"
            " position, epoch, facts, dispatches, cancel_reason, cancel_actor, parked_for, wake_at,"
            " deadline_at) SELECT gen_random_uuid(), %s, 1, %s, gen_random_uuid()::text, 'running', 1, 0, 1,"
            " '{}', 0, '', '', %s, now() + interval '1 h', now() + interval '1 day'"
            " FROM generate_series(1, %s) RETURNING id)"
            " INSERT INTO sagas_step (saga_id, position, name, state, attempts, undo_attempts, fence,"
            " task_id, worker) SELECT id, 0, 'a', 'pending', 0, 0, 0, '', '' FROM made",
            [saga.name, saga.fingerprint, queue, number],
        )
        cursor.execute("ANALYZE sagas_saga")


def waiting():
    return models.SagaInstance.objects.filter(parked_for="world").count()


def test_waiting_costs_a_sweep_as_much_however_many_wait(broker):
    engine.sweep()
    bills = []
    for more in (10, 3_000):
        parked(more)
        with CaptureQueriesContext(connection) as captured:
            engine.sweep()
        bills.append([re.sub(r"'[^']*'", "?", query["sql"]) for query in captured.captured_queries])

    assert bills[0] == bills[1]
    assert not [sql for sql in bills[1] if sql.startswith(("UPDATE", "INSERT"))], "and nothing is written"


def test_an_hour_of_waiting_sends_nothing_but_the_few_that_are_let_through(broker, world):
    for _ in range(40):
        harness.begin(toys.ONE_REMOTE)
    broker.deliver_all()
    sent = len(steps_of(broker))

    live_for(broker, HOUR / 2)

    assert len(steps_of(broker)) - sent < 2 * world.calls
    assert waiting() >= 40 - 2 * circuits.PROBES, "all but those that were let through at last"


def steps_of(broker):
    return [message for message in broker.sent if isinstance(message, memory_transport.StepMessage)]


def test_sagas_are_woken_at_a_bounded_rate_and_keep_no_other_timer_waiting(broker, monkeypatch):
    monkeypatch.setattr(circuits, "WAKE_PAUSE_S", 60.0)  # However slow the machine is.
    parked(500, opened=False)
    bystander = harness.begin(toys.LOCAL, "flake a, do a")
    broker.deliver()
    sent = len(steps_of(broker))

    woken = []
    for _ in range(7):
        before = waiting()
        engine.sweep()
        engine.sweep()
        woken.append(before - waiting())
        if len(woken) == 1:
            bystander.refresh_from_db()
            assert bystander.dispatched_at is not None, "its time had come, and it was not behind them"
        clocks.pass_time(MINUTE)

    assert woken == [circuits.WAKES] * 5 + [0, 0]
    broker.deliver_all()
    assert len(steps_of(broker)) - sent >= 500
    harness.drive(broker, bystander)
    assert set(models.SagaInstance.objects.filter(name="toy-one-remote").values_list("state")) == {
        ("completed",)
    }


def test_a_crash_between_the_close_and_the_waking_loses_nobody(broker, world):
    sagas = [harness.begin(toys.ONE_REMOTE) for _ in range(10)]
    broker.deliver_all()
    world.down = False
    clocks.pass_time(2 * SECOND)
    with crashes.crash_at(3, before=True), contextlib.suppress(crashes.Crash):
        engine.sweep()
        broker.deliver_all()

    harness.drive(broker, *sagas)

    assert {saga.state for saga in sagas} == {"completed"}


def test_a_saga_that_waits_for_a_circuit_that_is_gone_is_woken(broker):
    parked(3)
    models.Circuit.objects.all().delete()

    engine.sweep()

    assert waiting() == 0


def wait_for_world(broker, world, saga=toys.REMOTE):
    sagas = [harness.begin(saga) for _ in range(conf.CIRCUIT_THRESHOLD + 1)]
    broker.deliver_all()
    clocks.pass_time(clocks.A_MOMENT)
    engine.sweep()
    saga = sagas[-1]
    saga.refresh_from_db()
    assert saga.parked_for == "world"
    assert (saga.dispatched_at, world.calls) == (None, conf.CIRCUIT_THRESHOLD)
    return saga


WHO = {"actor": "Alice", "reason": "asked to"}


def test_a_saga_that_waits_for_a_provider_can_be_cancelled(broker, world):
    saga = wait_for_world(broker, world)

    engine.cancel(saga.pk, **WHO)
    broker.deliver_all()

    saga.refresh_from_db()
    assert saga.state == "compensated"
    rules.check(saga)


def test_a_saga_that_waits_for_a_provider_can_be_held_and_goes_on_only_when_released(broker, world):
    saga = wait_for_world(broker, world)
    engine.hold(saga.pk, seen=engine.look(saga.pk), **WHO)
    world.down = False
    live_for(broker, MINUTE, until=lambda: circuit().opened_at is None and waiting() <= 1)
    live_for(broker, MINUTE)

    saga.refresh_from_db()
    assert saga.state == "running"
    assert saga.parked_for == "world"

    engine.release(saga.pk, seen=engine.look(saga.pk), **WHO)
    harness.drive(broker, saga)
    assert saga.state == "completed"


def test_an_operators_retry_is_let_through_at_once(broker, world):
    saga = wait_for_world(broker, world)
    world.down = False

    engine.retry(saga.pk, seen=engine.look(saga.pk), **WHO)
    broker.deliver_all()

    saga.refresh_from_db()
    assert saga.state == "completed"
    assert circuit().opened_at is None, "and all the others follow"


def test_the_time_that_a_step_may_take_ends_its_waiting(broker, world):
    budgeted = toys.saga("toy-budgeted", toys.local("a"), toys.remote("b", budget=MINUTE))
    sagas = [harness.begin(budgeted) for _ in range(conf.CIRCUIT_THRESHOLD)]

    live_for(broker, 3 * MINUTE, until=lambda: ended(sagas))

    assert {(saga.state, saga.failure["clock"]) for saga in sagas} == {("compensated", "budget")}
    for saga in sagas:
        rules.check(saga)


def test_what_waits_for_a_provider_that_is_out_ends_by_its_deadline(broker, world):
    short = toys.saga("toy-short", toys.local("a"), toys.remote("b"), deadline=MINUTE)
    sagas = [harness.begin(short) for _ in range(6)]

    live_for(broker, 3 * MINUTE, until=lambda: ended(sagas))

    assert {saga.state for saga in sagas} == {"compensated"}, "T2"
    assert {saga.failure["clock"] for saga in sagas} <= {"deadline", None}
    for saga in sagas:
        rules.check(saga)


def ended(sagas):
    for saga in sagas:
        saga.refresh_from_db()
    return all(saga.finished_at for saga in sagas)


# --- Many workers at once -------------------------------------------------------------------------


def at_once(count, act):
    """Each with a connection of its own, as workers have; all begin at the same moment."""
    gate = threading.Barrier(count)

    def one(number):
        try:
            gate.wait(30)
            return act(number)
        finally:
            connection.close()

    with futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_workers_that_fail_at_the_same_moment_open_it_once_and_none_is_forgotten(rows, caplog):
    def fail(number):
        error = {"error": "KeyExpired", "kind": "outage", "message": "401", "step": "a"}
        with transaction.atomic():
            return circuits.failed("world", f"saga {number}", troubled_since=None, error=error, outage=True)

    assert at_once(8, fail) == [True] * 8

    assert circuit().failures == 8
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


def test_no_more_workers_get_through_than_there_are_permits(rows):
    for number in range(conf.CIRCUIT_THRESHOLD):
        tell_that_failed(number)
    clocks.pass_time(circuits.FIRST_PAUSE_S * SECOND)

    def ask(number):
        return circuits.admits("world", uuid.uuid4(), untried=True, take=True)

    assert sum(at_once(12, ask)) == circuits.PROBES


def test_sweepers_that_come_at_the_same_moment_let_the_same_few_through(rows):
    parked(50)
    models.Circuit.objects.update(open_until=models.database_now(), permits_at=None)

    at_once(6, lambda _: circuits.tend())

    assert (waiting(), len(circuit().probes)) == (50 - circuits.PROBES, circuits.PROBES)


def test_sweepers_that_come_at_the_same_moment_wake_no_more_than_one_would(rows, monkeypatch):
    monkeypatch.setattr(circuits, "WAKE_PAUSE_S", 60.0)  # However slow the machine is.
    parked(400, opened=False)

    at_once(6, lambda _: circuits.tend())

    assert waiting() == 400 - circuits.WAKES
