"""The kit plays a saga until it rests: whatever goes on by itself is done, and nothing else."""

import random

import pytest

from sagas import Approval, engine
from sagas.engine import transport
from sagas.testing import memory_transport
from tests.sagas import harness, rules
from tests.sagas.sample_app import recorder
from tests.sagas.sample_app import saga as toys

WHO = {"actor": "somebody", "reason": "a test"}
TWO = {"parcels": ["one", "two"]}
BESIDE = toys.saga(
    "toy-approval-beside",
    toys.at_once("both", Approval("ok", permission=toys.MAY_APPROVE, limit=toys.HOUR), toys.remote("b")),
)


def play(broker, declared, script="", inputs=None):
    return broker.play(harness.begin(declared, script, inputs=inputs))


@pytest.mark.parametrize(
    ("declared", "script", "inputs", "state"),
    [
        (toys.REMOTE, "do a, 2x flake b", {}, "completed"),
        (toys.REMOTE, "do a, fail b", {}, "compensated"),
        (toys.LOCAL, "do a, do b, fail c, fail undo b", {}, "needs_attention"),
        (toys.BLIND_WAIT, "do a, begin w", {}, "running"),
        (toys.APPROVED, "", {}, "running"),
        (BESIDE, "2x flake b", {}, "running"),
        (toys.EACH, "", TWO, "completed"),
        (toys.EACH, "fail deliver.1.y", TWO, "compensated"),
        (toys.EACH, "fail deliver.1.y, fail undo deliver.1.y", TWO, "needs_attention"),
        (toys.EACH_WAITS, "begin deliver.1.y", TWO, "running"),
        (toys.EACH_WAITS, "2x flake deliver.0.y, begin deliver.1.y", TWO, "running"),
    ],
)
@pytest.mark.parametrize("rough", [False, True], ids=["calm", "messages lost, doubled and out of order"])
def test_a_saga_is_played_until_it_rests(rows, declared, script, inputs, state, rough):
    share = 0.3 if rough else 0
    broker = memory_transport.MemoryTransport(
        chance=random.Random(7), lose=share, double=share, shuffle=rough
    )
    with transport.use(broker):
        saga = play(broker, declared, script, inputs)

        assert (saga.state, broker.waiting, broker.bugs) == (state, [], [])
        assert memory_transport.rests(saga)
        said = recorder.lines(saga.pk)
        broker.play(saga)
        assert recorder.lines(saga.pk) == said, "nothing is left to do"
        if state != "running":
            rules.check(saga)


def test_it_goes_on_once_what_it_waits_for_has_come(broker):
    saga = play(broker, toys.EACH_WAITS, "begin deliver.0.y, begin deliver.1.y", TWO)
    first, second = saga_children(saga)
    for child in (second, first):
        engine.receive(source="world", event_id=str(child.pk), key=f"{child.pk}.y", facts={"settled": True})
        broker.play(saga)

    assert saga.state == "completed"


def test_a_saga_that_is_held_rests_and_so_does_one_of_its_children(broker):
    saga = harness.begin(toys.EACH_IN_TURN, inputs=TWO)
    while not (children := saga_children(saga)):
        broker.deliver()
    engine.hold(children[0].pk, seen=engine.look(children[0].pk), **WHO)

    assert broker.play(saga).state == "running"

    engine.release(children[0].pk, seen=engine.look(children[0].pk), **WHO)
    assert broker.play(saga).state == "completed"


def test_one_that_never_rests_is_an_error_that_says_what_happened(broker):
    saga = harness.begin(toys.REMOTE)

    with pytest.raises(AssertionError, match=r"never came to rest: running after saga.begun"):
        broker.play(saga, most=1)


def saga_children(saga):
    return list(type(saga).objects.filter(parent_id=saga.pk).order_by("parent_item"))
