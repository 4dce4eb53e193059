"""What the simulator, the explorer and the races have found of stages: each as the least that shows it."""

import pytest

from sagas import Approval, engine, errors
from sagas.declaration.validation import BadDeclaration
from sagas.testing import clocks, memory_transport
from tests.sagas import harness, rules
from tests.sagas.sample_app import recorder
from tests.sagas.sample_app import saga as toys

WHO = {"actor": "somebody", "reason": "a test"}


def review(**rest):
    return Approval("review", permission="toys.review", **{"limit": toys.HOUR, "lapse": "attention", **rest})


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
