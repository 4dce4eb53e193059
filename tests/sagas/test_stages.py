"""What the simulator, the explorer and the races have found of stages: each as the least that shows it."""

import pytest

from sagas import Approval, engine, errors
from sagas.declaration.validation import BadDeclaration
from sagas.testing import clocks, memory_transport
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions, recorder
from tests.sagas.sample_app import saga as toys

WHO = {"actor": "somebody", "reason": "a test"}


def review(**rest):
    return Approval("review", permission="toys.review", **{"limit": toys.HOUR, "lapse": "attention", **rest})


BOTH_REVIEW = toys.saga("toy-both-review", toys.local("a"), review(persons=2), toys.local("b"))
REVIEW_BESIDE = toys.saga(
    "toy-review-beside", toys.at_once("all", toys.local("a"), review()), toys.local("b")
)
BESIDE_REVERSE = toys.saga(
    "toy-beside-reverse", toys.at_once("all", *(toys.remote(name) for name in "abc"), undo="reverse")
)


def states_of(saga):
    return dict(saga.steps.values_list("name", "state"))


def deliver(broker, *names):
    """Deliver the messages of these steps, in this order."""
    for name in names:
        steps = [m for m in broker.waiting if isinstance(m, memory_transport.StepMessage)]
        (message,) = (m for m in steps if m.dispatch.messages[m.number].step == name)
        broker.waiting.remove(message)
        broker.carry_out(message)


def operate(move, saga, step):
    return getattr(engine, move)(saga.pk, seen=engine.look(saga.pk, step), **WHO)


def lapse(saga):
    clocks.pass_time(toys.HOUR + toys.SECOND, saga.pk)
    engine.sweep()
    saga.refresh_from_db()
    assert saga.state == "needs_attention"


# --- Declared --------------------------------------------------------------------------------------


def test_steps_of_two_kinds_are_not_done_at_once():
    with pytest.raises(BadDeclaration, match="two kinds"):
        toys.saga("toy-two-kinds", toys.at_once("all", toys.local("a"), toys.local("r", **toys.RETRIABLE)))


# --- What is left out ------------------------------------------------------------------------------


def test_a_member_that_was_tried_is_not_told_to_be_left_out(broker):
    saga = harness.begin(toys.AT_ONCE_REVERSE, "flake a, fail b")
    engine.sweep()

    deliver(broker, "a", "b")

    assert recorder.lines(saga.pk) == ["flake a", "fail b"]
    harness.drive(broker, saga)
    assert states_of(saga) == {"a": "pending", "b": "failed", "c": "skipped", "d": "pending"}
    rules.check(saga)


# --- Approvals -------------------------------------------------------------------------------------


def test_after_a_lapse_the_first_of_two_persons_gives_the_other_as_much_time(broker):
    saga = harness.begin(BOTH_REVIEW)
    broker.deliver_all()
    lapse(saga)

    engine.approve(saga.pk, "review", actor="alice")

    saga.refresh_from_db()
    assert saga.state == "running"
    assert clocks.until_due() > toys.HOUR / 2
    engine.approve(saga.pk, "review", actor="bob")
    harness.drive(broker, saga)
    assert saga.state == "completed"
    rules.check(saga)


def test_a_lapsed_approval_beside_other_steps_is_asked_for_anew_when_the_saga_is_resumed(broker):
    saga = harness.begin(REVIEW_BESIDE)
    clocks.skip()
    engine.sweep()
    broker.deliver_all()
    lapse(saga)

    operate("resume", saga, "a")
    engine.sweep()

    saga.refresh_from_db()
    assert saga.state == "running"
    assert saga.steps.get(name="review").wait_until is not None
    engine.approve(saga.pk, "review", actor="alice")
    harness.drive(broker, saga)
    assert saga.state == "completed"
    rules.check(saga)


# --- Operators -------------------------------------------------------------------------------------


def test_a_member_that_is_done_is_not_tried_again(broker):
    saga = harness.begin(toys.AT_ONCE_WAIT, "do a, begin w")
    broker.deliver_all()
    assert states_of(saga)["b"] == "done"

    with pytest.raises(errors.NotAllowed):
        operate("retry", saga, "b")


def test_a_member_whose_turn_to_be_undone_has_not_come_is_not_undone_by_an_operator(broker):
    saga = harness.begin(toys.AT_ONCE_REVERSE, "do a, do b, do c, fail d, flake undo c")
    engine.sweep()
    while "flake undo c" not in recorder.lines(saga.pk):
        broker.deliver()

    assert recorder.lines(saga.pk)[:3] == ["do b", "do c", "do a"]
    events = saga.events.count()

    with pytest.raises(errors.NotAllowed, match="b is undone when its turn comes: c is first"):
        operate("retry", saga, "b")

    assert saga.events.count() == events
    harness.drive(broker, saga)
    assert recorder.lines(saga.pk)[-4:] == ["undo a", "flake undo c", "undo c", "undo b"]
    rules.check(saga)


def test_a_member_of_which_nothing_is_to_be_undone_is_not_tried_again(broker):
    saga = harness.begin(toys.AT_ONCE_FIRST, "fail a, flake undo b")
    deliver(broker, "b", "a")
    while "flake undo b" not in recorder.lines(saga.pk):
        assert broker.deliver()
    events = saga.events.count()

    with pytest.raises(errors.NotAllowed, match="a did nothing that is to be undone"):
        operate("retry", saga, "a")

    assert saga.events.count() == events
    operate("retry", saga, "b")
    harness.drive(broker, saga)
    assert saga.state == "compensated"
    rules.check(saga)


def test_that_an_undo_did_not_happen_is_said_when_it_can_be_tried_again(broker):
    saga = harness.begin(toys.AT_ONCE_REVERSE, "do a, do b, do c, fail d, fail undo c")
    while "fail undo c" not in recorder.lines(saga.pk):
        assert broker.deliver()
    first = next(name for name, state in states_of(saga).items() if state == "done")
    before = rules.snapshot(saga)

    with pytest.raises(errors.NotAllowed, match=f"c is undone when its turn comes: {first} is first"):
        engine.resolve(saga.pk, seen=engine.look(saga.pk, "c"), happened=False, **WHO)

    assert rules.snapshot(saga) == before
    harness.drive(broker, saga)
    assert (saga.state, states_of(saga)["c"]) == ("needs_attention", "undo_failed")
    engine.resolve(saga.pk, seen=engine.look(saga.pk, "c"), happened=False, **WHO)
    harness.drive(broker, saga)
    assert saga.state == "compensated"
    rules.check(saga)


def test_while_a_stage_drains_none_of_it_is_tried_again(broker, monkeypatch):
    """The operator comes during a call, which ends after the saga has turned round."""
    refused = []

    def come():
        engine.cancel(saga.pk, actor="customer", reason="no")
        with pytest.raises(
            errors.NotAllowed, match="attempts under way have ended, or count as lost: b"
        ) as why:
            operate("retry", saga, "a")
        refused.append(str(why.value))

    monkeypatch.setattr(functions, "WORLD", harness.Meanwhile(lambda: None))
    saga = harness.begin(toys.AT_ONCE_FIRST)
    deliver(broker, "a")
    monkeypatch.setattr(functions, "WORLD", harness.Meanwhile(come))

    deliver(broker, "b")

    assert refused
    harness.drive(broker, saga)
    assert saga.state == "compensated"
    rules.check(saga)


# --- The drain -------------------------------------------------------------------------------------


@pytest.fixture
def dead(broker, simulated_death):
    """A saga that has turned round while a worker of its stage is dead, and that worker's lease lives."""
    saga = harness.begin(BESIDE_REVERSE, "die a, fail b")
    engine.sweep()
    with harness.suppress_death():
        deliver(broker, "a")
    deliver(broker, "b")
    saga.refresh_from_db()
    assert (saga.state, states_of(saga)["a"]) == ("compensating", "running")
    return saga


def test_nothing_is_undone_between_a_leases_end_and_the_sweep_that_finds_it(broker, dead):
    broker.waiting.clear()
    sent = len(harness.step_messages(broker))
    clocks.pass_time(toys.SECOND * 60, dead.pk)

    engine.on_chain_error(dead.pk, 1, "b")
    operate("hold", dead, "a")
    operate("release", dead, "a")

    assert not harness.step_messages(broker)[sent:], "what came of a is not written yet"
    engine.sweep()
    assert states_of(dead)["a"] == "unknown"
    harness.drive(broker, dead)
    assert recorder.lines(dead.pk) == ["die a", "fail b", "undo b", "undo a"]
    rules.check(dead)


def test_a_member_whose_lease_ended_in_the_drain_is_undone_in_its_turn_and_not_at_its_timer(broker, dead):
    clocks.pass_time(toys.SECOND * 60, dead.pk)
    engine.sweep()

    unknown = dead.steps.get(name="a")
    assert (unknown.wake_at, unknown.dispatched_at) == (None, None)
    harness.drive(broker, dead)
    assert recorder.lines(dead.pk) == ["die a", "fail b", "undo b", "undo a"]
    rules.check(dead)


# --- Called for one, and settled by another ----------------------------------------------------------

LAST_TWO = toys.saga(
    "toy-last-two", toys.at_once("last", toys.waits("w", **toys.RETRIABLE), toys.local("r", **toys.RETRIABLE))
)


def test_a_callback_that_settles_one_member_has_the_other_tried_again(broker):
    saga = harness.begin(LAST_TWO, "begin w, fail r, do r")
    engine.sweep()
    deliver(broker, "w", "r")
    broker.waiting.clear()
    saga.refresh_from_db()
    assert (saga.state, states_of(saga)) == ("needs_attention", {"w": "waiting", "r": "failed"})

    engine.receive(source="world", event_id="1", key=f"{saga.pk}.w", facts={"settled": True})
    harness.drive(broker, saga)

    assert saga.state == "completed"
    rules.check(saga)


def test_an_error_callback_sends_no_member_that_has_failed(broker):
    saga = harness.begin(LAST_TWO, "begin w, do r")
    engine.sweep()
    saga.steps.filter(name="r").update(state="failed", dispatched_at=saga.created_at, dispatches=1)

    assert engine.on_chain_error(saga.pk, saga.steps.get(name="r").epoch, "r").dispatch is None


# --- Lost its lease ----------------------------------------------------------------------------------


def test_a_worker_that_lost_its_lease_leaves_quietly_where_the_next_step_was_left_out(broker, monkeypatch):
    declared = toys.saga(
        "toy-left-out-next", toys.remote("a"), toys.local("b", when="yes"), toys.local("c"), inputs=["yes"]
    )
    saga = harness.begin(declared, inputs={"yes": False})
    monkeypatch.setattr(functions, "WORLD", harness.Slow(broker, saga, toys.SECOND * 60))

    broker.deliver()

    assert broker.bugs == []
    harness.drive(broker, saga)
    assert (saga.state, states_of(saga)["b"]) == ("completed", "skipped")
    rules.check(saga)


# --- Put aside, and out of time ------------------------------------------------------------------------

BRIEF = toys.saga(
    "toy-brief", toys.at_once("all", review(limit=toys.SECOND), toys.remote("b")), toys.local("c")
)


def test_a_saga_is_not_put_aside_while_a_member_is_at_work_and_then_its_record_is_void(broker, monkeypatch):
    saga = harness.begin(BRIEF, "fail b")
    told = []

    def close_meanwhile():
        for by in (toys.SECOND * 2, toys.SECOND * 60):
            clocks.pass_time(by, saga.pk)
            engine.sweep()
            try:
                operate("close", saga, "review")
            except errors.NotAllowed as refused:
                told.append(str(refused))

    monkeypatch.setattr(functions, "WORLD", harness.Meanwhile(close_meanwhile))
    engine.sweep()
    deliver(broker, "b")

    assert [why.partition(";")[0] for why in told] == ["An attempt is under way"]
    saga.refresh_from_db()
    assert saga.closed_at is not None
    assert (saga.state, states_of(saga)["b"]) == ("needs_attention", "unknown")
    rules.check(saga)


LOCALS = toys.saga("toy-locals", toys.local("a"), toys.at_once("all", toys.local("b"), toys.local("c")))


def test_a_drain_that_ends_with_the_time_for_undoing_leaves_the_saga_before_what_is_left(
    broker, simulated_death
):
    saga = harness.begin(LOCALS, "do a, die b, undo a")
    deliver(broker, "a")
    with harness.suppress_death():
        deliver(broker, "b")
    engine.cancel(saga.pk, **WHO)
    clocks.pass_time(LOCALS.undo_deadline + toys.HOUR, saga.pk)
    engine.sweep()
    saga.refresh_from_db()
    assert (saga.state, saga.attention["step"]) == ("needs_attention", "a")

    operate("resume", saga, "a")
    harness.drive(broker, saga)

    assert (saga.state, states_of(saga)) == ("compensated", {"a": "undone", "b": "pending", "c": "skipped"})
    rules.check(saga)


def test_a_drain_that_ends_with_the_time_for_undoing_and_nothing_to_undo_ends_the_saga(
    broker, simulated_death
):
    saga = harness.begin(toys.AT_ONCE_REVERSE, "die a")
    engine.sweep()
    with harness.suppress_death():
        deliver(broker, "a")
    engine.cancel(saga.pk, **WHO)
    clocks.pass_time(LOCALS.undo_deadline + toys.HOUR, saga.pk)

    engine.sweep()

    saga.refresh_from_db()
    assert saga.state == "compensated"
    rules.check(saga)
