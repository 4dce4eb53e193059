"""An outage of one provider pauses its steps, spends no budgets, and keeps nobody else waiting (R4)."""

import datetime

import pytest

from sagas import circuits, engine, models
from sagas.testing import clocks
from tests.sagas import rules, stage
from tests.sagas.toybox import saga as toys
from tests.sagas.toybox import verbs

MINUTE = datetime.timedelta(minutes=1)


class Outage(verbs.Scripted):
    """A world that answers nobody, until it does."""

    down = True

    def __init__(self):
        self.calls = 0

    def do(self, key, *, local=False):
        if not local:
            self.calls += 1
            if self.down:
                raise verbs.Unavailable("nobody home")
        return super().do(key, local=local)


@pytest.fixture
def world(monkeypatch):
    world = Outage()
    monkeypatch.setattr(verbs, "WORLD", world)
    return world


def live_for(office, span, *, until=lambda: False):
    """Let so much time pass, with everybody at work all the while."""
    passed = datetime.timedelta(0)
    while passed < span and not until():
        if not office.deliver():
            left = clocks.until_due()
            if left is None:
                return
            passed += left
            clocks.skip()
            engine.sweep()


def test_an_outage_costs_nothing_but_time(office, world):
    sagas = [stage.begin(toys.REMOTE) for _ in range(circuits.THRESHOLD)]
    bystander = stage.begin(toys.LOCAL)

    live_for(office, 10 * MINUTE)

    assert set(models.SagaInstance.objects.filter(name="toy-remote").values_list("state")) == {("running",)}
    assert world.calls < 40, "it is tried again once a minute, by one for all"
    bystander.refresh_from_db()
    assert bystander.state == "completed"

    world.down = False
    stage.drive(office, *sagas)

    assert {saga.state for saga in sagas} == {"completed"}
    assert not models.Circuit.objects.exclude(open_until=None).exists()
    for saga in sagas:
        rules.check(saga)


def test_each_trial_in_vain_makes_the_pause_longer(office, world):
    for _ in range(circuits.THRESHOLD):
        stage.begin(toys.REMOTE)
    office.deliver_all()

    pauses = []
    for _ in range(8):
        circuit = models.Circuit.objects.get(name="world")
        pauses.append(round((circuit.open_until - models.database_now()).total_seconds()))
        calls = world.calls
        clocks.pass_time(circuit.open_until - models.database_now() + clocks.A_MOMENT)
        live_for(office, 2 * MINUTE, until=lambda calls=calls: world.calls > calls)

    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


def test_one_saga_that_fails_often_is_no_outage(office, world):
    saga = stage.begin(toys.REMOTE)

    stage.drive(office, saga)

    assert saga.state == "compensated"
    assert world.calls == 3
    assert models.Circuit.objects.get(name="world").open_until is None


def test_an_attempt_that_was_under_way_when_it_opened_tells_nothing_new(rows):
    begun_at = models.database_now()
    for number in range(circuits.THRESHOLD):
        circuits_failed(number, begun_at)
    opened = models.Circuit.objects.get(name="world")

    circuits_failed(99, begun_at)

    assert models.Circuit.objects.get(name="world").open_until == opened.open_until
    assert models.Circuit.objects.get(name="world").trips == 1


def circuits_failed(number, begun_at):
    with stage.transaction.atomic():
        error = {"error": "Unavailable", "kind": "transient", "message": "nobody home", "step": "a"}
        circuits.failed("world", f"saga {number}", begun_at=begun_at, error=error)


def test_what_waits_for_a_provider_that_is_out_ends_by_its_deadline(office, world):
    short = toys.saga("toy-short", toys.local("a"), toys.remote("b"), deadline=MINUTE)
    sagas = [stage.begin(short) for _ in range(6)]

    live_for(office, 3 * MINUTE, until=lambda: ended(sagas))

    assert {saga.state for saga in sagas} == {"compensated"}, "T2"
    assert {saga.failure["clock"] for saga in sagas} <= {"deadline", None}
    for saga in sagas:
        rules.check(saga)


def ended(sagas):
    for saga in sagas:
        saga.refresh_from_db()
    return all(saga.finished_at for saga in sagas)
