"""Workers that vanish in the middle of a step: another is sent, the step's budget is spent, and it ends."""

from sagas import conf, engine, models
from sagas.declaration import registry
from sagas.testing import clocks
from tests.sagas import harness, rules
from tests.sagas.sample_app import recorder
from tests.sagas.sample_app import saga as toys

LEASE = toys.MIXED.steps[1].timeout * 2.5
"""The toys' timeout and the margin: no lease is longer."""


def test_a_step_that_kills_every_worker_is_undone_when_its_budget_is_spent(broker, simulated_death):
    saga = harness.begin(toys.REMOTE, "do a, 20x die b")

    harness.drive(broker, saga)

    assert saga.state == "compensated"
    assert saga.steps.get(name="b").attempts == 3
    assert recorder.lines(saga.pk) == ["do a", *["die b"] * 3, "undo b", "undo a"]
    assert (saga.failure["kind"], saga.failure["clock"]) == ("unknown", "lease")
    rules.check(saga)


def test_a_local_step_too_though_its_first_death_is_not_counted(broker, simulated_death):
    saga = harness.begin(toys.LOCAL, "do a, 20x die b")

    harness.drive(broker, saga)

    assert saga.state == "compensated"
    assert saga.steps.get(name="b").attempts == 3
    assert recorder.lines(saga.pk) == ["do a", *["die b"] * 4, "undo a"]
    rules.check(saga)


def test_a_local_step_that_died_with_its_worker_was_rolled_back_and_is_not_undone(broker, simulated_death):
    saga = harness.begin(toys.LOCAL, "do a, 20x die b")
    while not saga.steps.filter(name="b", state="running").exists():
        with harness.suppress_death():
            if not broker.deliver():
                clocks.skip()
                engine.sweep()

    engine.cancel(saga.pk, actor="customer", reason="too slow")
    harness.drive(broker, saga)

    assert saga.state == "compensated"
    assert [line for line in recorder.lines(saga.pk) if "undo" in line] == ["undo a"]
    assert saga.steps.get(name="b").state == "pending"
    rules.check(saga)


def test_an_undo_that_kills_every_worker_needs_a_person(broker, simulated_death):
    saga = harness.begin(toys.REMOTE, "do a, fail b, 20x die undo b")

    harness.drive(broker, saga)

    assert saga.state == "needs_attention"
    assert saga.steps.get(name="b").state == "undo_failed"
    assert saga.steps.get(name="b").undo_attempts == 4
    assert saga.attention["step"] == "b"
    rules.check(saga)


def test_a_pivot_that_kills_every_worker_may_have_happened(broker, simulated_death):
    saga = harness.begin(toys.BLIND_PIVOT, "do a, 20x die p")

    harness.drive(broker, saga)

    assert (saga.state, saga.steps.get(name="p").state) == ("needs_attention", "unknown")
    rules.check(saga)


def test_a_local_pivot_that_kills_every_worker_did_not_happen(broker, simulated_death):
    saga = harness.begin(toys.LOCAL_PIVOT, "do a, 20x die p")

    harness.drive(broker, saga)

    assert saga.state == "compensated"
    rules.check(saga)


def test_a_worker_that_dies_while_it_asks_how_a_wait_goes_does_not_end_it(broker, simulated_death):
    saga = harness.begin(toys.WAIT, "do a, 2x flake w, begin w, die ask w, begin ask w, ask w, do c")

    harness.drive(broker, saga)

    assert recorder.lines(saga.pk)[-5:] == ["begin w", "die ask w", "begin ask w", "ask w", "do c"]
    assert saga.state == "completed"
    rules.check(saga)


def test_what_a_dead_worker_may_have_done_is_asked_about_first(broker, simulated_death):
    saga = harness.begin(toys.MIXED, "do a, perish b")

    harness.drive(broker, saga)

    assert recorder.lines(saga.pk) == ["do a", "perish b", "ask b", "do c", "do d"]
    rules.check(saga)


def test_while_a_lease_lasts_nobody_else_touches_the_step(broker, simulated_death):
    saga = harness.begin(toys.REMOTE, "die a")
    broker.redeliver = True
    with harness.suppress_death():
        broker.deliver_all()

    for act in (
        engine.sweep,
        broker.deliver_all,
        lambda: engine.on_chain_error(saga.pk, 1),
        lambda: engine.cancel(saga.pk, actor="customer", reason="changed my mind"),
        lambda: clocks.pass_time(LEASE / 2),
        engine.sweep,
        broker.deliver_all,
    ):
        act()

    assert recorder.lines(saga.pk) == ["die a"], "O2"
    harness.drive(broker, saga)
    assert recorder.lines(saga.pk) == ["die a", "undo a"]
    assert saga.state == "compensated"
    rules.check(saga)


def test_a_worker_that_lost_the_lease_cannot_commit(broker, monkeypatch):
    saga = harness.begin(toys.REMOTE, "do a")
    world = harness.Slow(broker, saga, LEASE)
    monkeypatch.setattr("tests.sagas.sample_app.functions.WORLD", world)

    broker.deliver_all()

    # While the first worker was at it its lease ran out, and a second did the whole saga.
    assert world.meanwhile == "completed"
    assert harness.kinds(saga, "a") == ["step.started", "step.unknown", "step.started", "step.done"], "D6"
    rules.check(saga)


def test_a_worker_that_lost_the_lease_cannot_commit_though_its_successor_died(
    broker, simulated_death, monkeypatch
):
    saga = harness.begin(toys.ONE_REMOTE, "die a, do a, do a")
    world = harness.Meanwhile(lambda: lose_the_lease_and_the_successor(broker))
    monkeypatch.setattr("tests.sagas.sample_app.functions.WORLD", world)

    broker.deliver()

    saga.refresh_from_db()
    step = saga.steps.get()
    assert (step.state, step.fence, saga.state) == ("running", 3, "running"), "D6"
    harness.drive(broker, saga)
    assert saga.state == "completed"
    rules.check(saga)


def lose_the_lease_and_the_successor(broker):
    clocks.pass_time(LEASE)
    engine.sweep()
    with harness.suppress_death():
        broker.deliver_all()


def test_a_worker_that_lost_the_lease_of_an_undo_cannot_commit(broker, monkeypatch):
    saga = harness.begin(toys.ONE_REMOTE, "fail a")
    world = harness.MeanwhileUndoing(lambda: lose_the_lease_and_the_message(broker))
    monkeypatch.setattr("tests.sagas.sample_app.functions.WORLD", world)

    deliver(broker, 3)

    saga.refresh_from_db()
    assert (saga.state, saga.steps.get().state) == ("compensating", "undoing"), "D6"
    harness.drive(broker, saga)
    assert (saga.state, saga.steps.get().undo_attempts) == ("compensated", 2)
    rules.check(saga)


def lose_the_lease_and_the_message(broker):
    clocks.pass_time(LEASE)
    engine.sweep()
    broker.waiting.clear()


def test_nor_can_a_worker_whose_undo_is_given_up_meanwhile(broker, monkeypatch):
    saga = harness.begin(toys.REMOTE, "do a, fail b")
    world = harness.MeanwhileUndoing(lambda: outlast(toys.REMOTE.undo_deadline))
    monkeypatch.setattr("tests.sagas.sample_app.functions.WORLD", world)

    deliver(broker, 5)

    saga.refresh_from_db()
    assert (saga.state, saga.position, saga.attention["step"]) == ("needs_attention", 1, "b")
    assert harness.kinds(saga)[-1] == "saga.attention", "nothing happens to what a person looks at"
    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="the provider is back")
    harness.drive(broker, saga)
    assert saga.state == "compensated"
    rules.check(saga)


def outlast(span):
    clocks.pass_time(span)
    engine.sweep()


def deliver(broker, messages):
    for _ in range(messages):
        broker.deliver()


def test_no_lease_ends_before_the_time_limit_of_the_task_that_versions_share(broker, simulated_death):
    newer = toys.saga("toy-leased", toys.remote("a", timeout=toys.SECOND), version=2)
    registry.add(toys.saga("toy-leased", toys.remote("a", timeout=60 * toys.SECOND)))
    saga = harness.begin(newer, "die a")

    with harness.suppress_death():
        broker.deliver_all()

    leased = saga.steps.get().lease_until - models.database_now()
    assert leased > (60 + conf.HARD_LIMIT_MARGIN_S) * toys.SECOND, "O2"


def test_what_is_tried_again_for_years_is_counted_all_the_while(broker):
    saga = harness.begin(toys.ONE_REMOTE, "fail a, fail undo a")
    harness.drive(broker, saga)
    saga.steps.update(undo_attempts=32_767)

    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="once more")
    broker.deliver_all()

    saga.refresh_from_db()
    assert (saga.state, saga.steps.get().undo_attempts) == ("compensated", 32_768)
