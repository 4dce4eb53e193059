"""Workers that vanish in the middle of a step: another is sent, the step's budget is spent, and it ends."""

from sagas import engine, models, registry, tasks
from sagas.testing import clocks
from tests.sagas import rules, stage
from tests.sagas.toybox import saga as toys
from tests.sagas.toybox import witness

LEASE = toys.MIXED.steps[1].timeout * 2.5
"""The toys' timeout and the margin: no lease is longer."""


def test_a_step_that_kills_every_worker_is_undone_when_its_budget_is_spent(office, mortal):
    saga = stage.begin(toys.REMOTE, "do a, 20x die b")

    stage.drive(office, saga)

    assert saga.state == "compensated"
    assert saga.steps.get(name="b").attempts == 3
    assert witness.lines(saga.pk) == ["do a", *["die b"] * 3, "undo b", "undo a"]
    assert (saga.failure["kind"], saga.failure["clock"]) == ("unknown", "lease")
    rules.check(saga)


def test_a_local_step_too_though_its_first_death_is_not_counted(office, mortal):
    saga = stage.begin(toys.LOCAL, "do a, 20x die b")

    stage.drive(office, saga)

    assert saga.state == "compensated"
    assert saga.steps.get(name="b").attempts == 3
    assert witness.lines(saga.pk) == ["do a", *["die b"] * 4, "undo a"]
    rules.check(saga)


def test_a_local_step_that_died_with_its_worker_was_rolled_back_and_is_not_undone(office, mortal):
    saga = stage.begin(toys.LOCAL, "do a, 20x die b")
    while not saga.steps.filter(name="b", state="running").exists():
        with stage.suppress_death():
            if not office.deliver():
                clocks.skip()
                engine.sweep()

    engine.cancel(saga.pk, actor="customer", reason="too slow")
    stage.drive(office, saga)

    assert saga.state == "compensated"
    assert [line for line in witness.lines(saga.pk) if "undo" in line] == ["undo a"]
    assert saga.steps.get(name="b").state == "pending"
    rules.check(saga)


def test_an_undo_that_kills_every_worker_needs_a_person(office, mortal):
    saga = stage.begin(toys.REMOTE, "do a, fail b, 20x die undo b")

    stage.drive(office, saga)

    assert saga.state == "needs_attention"
    assert saga.steps.get(name="b").state == "undo_failed"
    assert saga.steps.get(name="b").undo_attempts == 4
    assert saga.attention["step"] == "b"
    rules.check(saga)


def test_a_pivot_that_kills_every_worker_may_have_happened(office, mortal):
    saga = stage.begin(toys.BLIND_PIVOT, "do a, 20x die p")

    stage.drive(office, saga)

    assert (saga.state, saga.steps.get(name="p").state) == ("needs_attention", "unknown")
    rules.check(saga)


def test_a_local_pivot_that_kills_every_worker_did_not_happen(office, mortal):
    saga = stage.begin(toys.LOCAL_PIVOT, "do a, 20x die p")

    stage.drive(office, saga)

    assert saga.state == "compensated"
    rules.check(saga)


def test_who_dies_while_asking_how_a_wait_goes_does_not_end_it(office, mortal):
    saga = stage.begin(toys.WAIT, "do a, 2x flake w, begin w, die ask w, begin ask w, ask w, do c")

    stage.drive(office, saga)

    assert witness.lines(saga.pk)[-5:] == ["begin w", "die ask w", "begin ask w", "ask w", "do c"]
    assert saga.state == "completed"
    rules.check(saga)


def test_what_the_dead_may_have_done_is_asked_about_first(office, mortal):
    saga = stage.begin(toys.MIXED, "do a, perish b")

    stage.drive(office, saga)

    assert witness.lines(saga.pk) == ["do a", "perish b", "ask b", "do c", "do d"]
    rules.check(saga)


def test_while_a_lease_lasts_nobody_else_touches_the_step(office, mortal):
    saga = stage.begin(toys.REMOTE, "die a")
    office.redeliver = True
    with stage.suppress_death():
        office.deliver_all()

    for act in (
        engine.sweep,
        office.deliver_all,
        lambda: engine.take_up(saga.pk, 1),
        lambda: engine.cancel(saga.pk, actor="customer", reason="changed my mind"),
        lambda: clocks.pass_time(LEASE / 2),
        engine.sweep,
        office.deliver_all,
    ):
        act()

    assert witness.lines(saga.pk) == ["die a"], "O2"
    stage.drive(office, saga)
    assert witness.lines(saga.pk) == ["die a", "undo a"]
    assert saga.state == "compensated"
    rules.check(saga)


def test_who_lost_the_lease_cannot_commit(office, monkeypatch):
    saga = stage.begin(toys.REMOTE, "do a")
    world = stage.Slow(office, saga, LEASE)
    monkeypatch.setattr("tests.sagas.toybox.verbs.WORLD", world)

    office.deliver_all()

    # While the first worker was at it its lease ran out, and a second did the whole saga.
    assert world.meanwhile == "completed"
    assert stage.kinds(saga, "a") == ["step.started", "step.unknown", "step.started", "step.done"], "D6"
    rules.check(saga)


def test_who_lost_the_lease_cannot_commit_though_its_successor_died(office, mortal, monkeypatch):
    saga = stage.begin(toys.ONE_REMOTE, "die a, do a, do a")
    world = stage.Meanwhile(lambda: lose_the_lease_and_the_successor(office))
    monkeypatch.setattr("tests.sagas.toybox.verbs.WORLD", world)

    office.deliver()

    saga.refresh_from_db()
    step = saga.steps.get()
    assert (step.state, step.fence, saga.state) == ("running", 3, "running"), "D6"
    stage.drive(office, saga)
    assert saga.state == "completed"
    rules.check(saga)


def lose_the_lease_and_the_successor(office):
    clocks.pass_time(LEASE)
    engine.sweep()
    with stage.suppress_death():
        office.deliver_all()


def test_who_lost_the_lease_of_an_undo_cannot_commit(office, monkeypatch):
    saga = stage.begin(toys.ONE_REMOTE, "fail a")
    world = stage.MeanwhileUndoing(lambda: lose_the_lease_and_the_message(office))
    monkeypatch.setattr("tests.sagas.toybox.verbs.WORLD", world)

    deliver(office, 3)

    saga.refresh_from_db()
    assert (saga.state, saga.steps.get().state) == ("compensating", "undoing"), "D6"
    stage.drive(office, saga)
    assert (saga.state, saga.steps.get().undo_attempts) == ("compensated", 2)
    rules.check(saga)


def lose_the_lease_and_the_message(office):
    clocks.pass_time(LEASE)
    engine.sweep()
    office.waiting.clear()


def test_nor_who_is_undoing_when_a_person_is_called(office, monkeypatch):
    saga = stage.begin(toys.REMOTE, "do a, fail b")
    world = stage.MeanwhileUndoing(lambda: outlast(toys.REMOTE.undo_deadline))
    monkeypatch.setattr("tests.sagas.toybox.verbs.WORLD", world)

    deliver(office, 5)

    saga.refresh_from_db()
    assert (saga.state, saga.position, saga.attention["step"]) == ("needs_attention", 1, "b")
    assert stage.kinds(saga)[-1] == "saga.attention", "nothing happens to what a person looks at"
    engine.retry(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="the provider is back")
    stage.drive(office, saga)
    assert saga.state == "compensated"
    rules.check(saga)


def outlast(span):
    clocks.pass_time(span)
    engine.sweep()


def deliver(office, messages):
    for _ in range(messages):
        office.deliver()


def test_no_lease_ends_before_the_time_limit_of_the_task_that_versions_share(office, mortal):
    newer = toys.saga("toy-leased", toys.remote("a", timeout=toys.SECOND), version=2)
    registry.add(toys.saga("toy-leased", toys.remote("a", timeout=60 * toys.SECOND)))
    saga = stage.begin(newer, "die a")

    with stage.suppress_death():
        office.deliver_all()

    leased = saga.steps.get().lease_until - models.database_now()
    assert leased > (60 + tasks.HARD_LIMIT_MARGIN_S) * toys.SECOND, "O2"


def test_what_is_tried_again_for_years_is_counted_all_the_while(office):
    saga = stage.begin(toys.ONE_REMOTE, "fail a, fail undo a")
    stage.drive(office, saga)
    saga.steps.update(undo_attempts=32_767)

    engine.retry(saga.pk, seen=engine.look(saga.pk), actor="operator", reason="once more")
    office.deliver_all()

    saga.refresh_from_db()
    assert (saga.state, saga.steps.get().undo_attempts) == ("compensated", 32_768)
