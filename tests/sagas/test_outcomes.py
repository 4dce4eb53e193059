"""How many children must be done, and what their parent is told of each."""

import json

import pytest

from sagas import ForEach, engine, models
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys


class World(functions.Scripted):
    """A world in which the children of some elements are answered otherwise than well."""

    def __init__(self, answers):
        self.answers = answers

    def _answer(self, function, key):
        saga_id, step = key.split(".")
        item = models.SagaInstance.objects.get(pk=saga_id).parent_item
        return self.answers.get(f"{function} {step} {item}", "well")


@pytest.fixture
def world(monkeypatch):
    return lambda answers: monkeypatch.setattr(functions, "WORLD", World(answers))


def deliver(name="toy-told", child=toys.PARCEL, of="parcels", **rest):
    step = ForEach("deliver", of=of, saga=child, outputs=["delivered"], **rest)
    return toys.saga(name, toys.local("a"), step, toys.local("z"), inputs=[of])


def played(broker, declared, parcels):
    saga = harness.begin(declared, inputs={"parcels": parcels})
    drive(broker, saga)
    return saga


def drive(broker, saga):
    harness.drive(broker, saga, rounds=400)
    while broker.deliver():
        pass
    saga.refresh_from_db()


def children_of(saga):
    return list(models.SagaInstance.objects.filter(parent_id=saga.pk).order_by("parent_item"))


SOME = ["one", "two", "three"]

# --- How many --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1])
@pytest.mark.parametrize("fail", [[], [0], [2], [0, 1]], ids=str)
def test_as_many_as_can_be_are_done_where_the_rest_is_to_finish(broker, world, fail, limit):
    world({f"do y {number}": "fail" for number in fail})

    saga = played(broker, deliver(need=1, rest="finish", limit=limit), SOME)

    assert saga.state == "completed"
    states = ["compensated" if number in fail else "completed" for number in range(3)]
    assert [child.state for child in children_of(saga)] == states
    assert [one["done"] for one in saga.facts["delivered"]] == [state == "completed" for state in states]
    rules.check(saga)


def test_none_is_too_few(broker, world):
    world({f"do y {number}": "fail" for number in range(3)})

    saga = played(broker, deliver(need=1, rest="finish"), SOME)

    assert saga.state == "compensated"
    assert (saga.failure["step"], saga.failure["kind"]) == ("deliver", "refused")
    rules.check(saga)


def test_where_too_few_are_left_to_be_done_nobody_waits_for_the_rest(broker, world):
    world({"do y 0": "fail", "do y 1": "begin", "do y 2": "begin"})
    slow = toys.saga("toy-told-slow", toys.waits("y"), inputs=["parcel"])

    saga = played(broker, deliver(child=slow, need=3, rest="finish"), SOME)

    assert (saga.state, {child.state for child in children_of(saga)}) == ("compensated", {"compensated"})


def test_a_child_that_still_runs_is_waited_for_although_enough_are_done(broker, world):
    world({"do y 1": "begin"})
    slow = toys.saga("toy-told-slow", toys.waits("y"), inputs=["parcel"])
    saga = harness.begin(deliver(child=slow, need=1, rest="finish"), inputs={"parcels": SOME})

    broker.deliver_all()

    saga.refresh_from_db()
    assert saga.position == 1, "it waits for the second one"
    key = f"{children_of(saga)[1].pk}.y"
    engine.receive(source="world", event_id=key, key=key, facts={"settled": True})
    drive(broker, saga)
    assert [one["done"] for one in saga.facts["delivered"]] == [True, True, True]


# --- What is told ------------------------------------------------------------------------------------


def test_each_outcome_says_of_which_element_it_is_how_it_stands_and_why(broker, world):
    world({"do y 1": "fail"})

    saga = played(broker, deliver(failed="keep"), SOME)

    found = children_of(saga)
    refused = {"step": "y", "kind": "refused", "message": found[1].failure["message"]}
    assert refused["message"]
    assert saga.facts["delivered"] == [
        {
            "item": number,
            "element": parcel,
            "saga": str(found[number].pk),
            "done": number != 1,
            "state": "compensated" if number == 1 else "completed",
            "facts": {},
            "failure": refused if number == 1 else None,
        }
        for number, parcel in enumerate(SOME)
    ]
    assert saga.steps.get(name="deliver").facts["delivered"] == saga.facts["delivered"]


def test_one_that_was_not_needed_any_more_says_so(broker, world):
    world({"do y 0": "begin"})
    slow = toys.saga("toy-told-slow", toys.waits("y"), inputs=["parcel"])

    saga = played(broker, deliver(child=slow, need=1), SOME[:2])

    outcome = saga.facts["delivered"][0]
    assert (outcome["done"], outcome["failure"]["kind"]) == (False, "cancelled")
    assert outcome["failure"]["message"] == "Enough of them are done."


def refuse_all(*, key, guest, card, seats):
    raise functions.Refused(f"{guest['name']} of {guest['cpf']} has no {card} for {seats}\nand so on")


def give(*, key):
    pass


GUEST = {"name": "Ana Souza", "cpf": 39053344705}
TELLS_ALL = toys.saga(
    "toy-tells-all",
    toys.remote("x", do=refuse_all, undo=give, inputs=["guest", "card", "seats"], secrets=["card"]),
    inputs=["guest", "card", "seats"],
    personal=["guest"],
)


def test_neither_element_nor_reason_tells_what_the_child_hides(broker):
    declared = deliver(child=TELLS_ALL, failed="keep")

    saga = played(broker, declared, [{"guest": GUEST, "card": "tok_4242", "seats": {"row": 7, "guest": 1}}])

    (outcome,) = saga.facts["delivered"]
    assert outcome["element"] == {"seats": {"row": 7}}
    assert outcome["failure"]["message"] == "[given] of [given] has no [given] for {'row': 7, 'guest': 1}"
    told = json.dumps(saga.facts["delivered"])
    assert [value for value in ("Ana", "3905334", "tok_4242") if value in told] == []


def test_an_element_that_is_hidden_whole_is_not_told(broker):
    inner = toys.saga("toy-hidden-parcel", toys.local("x"), inputs=["parcel"], personal=["parcel"])

    saga = played(broker, deliver(child=inner), SOME)

    assert [one["element"] for one in saga.facts["delivered"]] == [None] * 3
