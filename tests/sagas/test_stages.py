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
