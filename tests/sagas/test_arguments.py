"""What undo and ask may take by name: the step's inputs, and what its action returned."""

import functools

import pytest

from sagas import BadDeclaration, engine
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

INPUTS = {"amount": 990, "token": "tok_4242"}

TAKEN: list[tuple[str, dict[str, object]]] = []


@pytest.fixture(autouse=True)
def nothing_taken():
    TAKEN.clear()


def pay(*, key, amount):
    return functions.WORLD.do(key) | {"receipt": f"receipt of {amount}"}


def pay_here(*, key, amount):
    return functions.WORLD.do(key, local=True) | {"receipt": f"receipt of {amount}"}


def give_back(*, key, amount, receipt):
    TAKEN.append(("undo", {"amount": amount, "receipt": receipt}))
    return functions.WORLD.undo(key)


def give_back_here(*, key, receipt, amount):
    TAKEN.append(("undo", {"amount": amount, "receipt": receipt}))
    return functions.WORLD.undo(key, local=True)


def look_up(*, key, amount, receipt, reason="none"):
    TAKEN.append(("ask", {"amount": amount, "receipt": receipt, "reason": reason}))
    found = functions.WORLD.ask(key)
    return found and found | {"receipt": receipt or "found"}


def step(name="pay", **rest):
    paid = {"do": pay, "undo": give_back, "inputs": ["amount"], "outputs": ["receipt"]}
    return toys.remote(name, **{**paid, **rest})


def saga(name, *steps, **rest):
    return toys.saga(name, *steps, inputs=list(INPUTS), **rest)


REMOTE = saga("args-remote", step(ask=look_up), toys.remote("b"))
LOCAL = saga(
    "args-local", step(do=pay_here, undo=give_back_here, remote=False, queue="toys"), toys.local("b")
)
WAITS = saga("args-waits", step(wait=toys.Wait(until="settled", limit=toys.HOUR)))


@pytest.mark.parametrize("declared", [REMOTE, LOCAL], ids=str)
def test_an_undo_takes_inputs_and_what_its_action_returned(broker, declared):
    instance = harness.begin(declared, "do pay, fail b", inputs=INPUTS)

    harness.drive(broker, instance)

    assert instance.state == "compensated"
    assert TAKEN == [("undo", {"amount": 990, "receipt": "receipt of 990"})]
    rules.check(instance)


def test_an_output_is_none_where_nobody_knows_that_the_action_returned_it(broker):
    instance = harness.begin(REMOTE, "fail pay", inputs=INPUTS)

    harness.drive(broker, instance)

    assert TAKEN == [("undo", {"amount": 990, "receipt": None})]


def test_an_ask_takes_them_too_and_an_argument_of_its_own_keeps_its_default(broker):
    instance = harness.begin(REMOTE, "lose pay, do pay", inputs=INPUTS)

    harness.drive(broker, instance)

    assert instance.state == "completed"
    assert TAKEN == [("ask", {"amount": 990, "receipt": None, "reason": "none"})]


def test_what_a_late_callback_tells_of_is_undone_with_the_same_facts(broker):
    instance = harness.begin(WAITS, "begin pay", inputs=INPUTS)
    broker.deliver_all()
    engine.cancel(instance.pk, actor="customer", reason="changed my mind")
    harness.drive(broker, instance)
    assert TAKEN == [("undo", {"amount": 990, "receipt": "receipt of 990"})]

    engine.receive(source="bank", event_id="1", key=f"{instance.pk}.pay", facts={"settled": True})
    engine.sweep()
    broker.deliver_all()

    assert TAKEN == [("undo", {"amount": 990, "receipt": "receipt of 990"})] * 2


def take_secret(*, key, token):
    return functions.WORLD.undo(key)


def take_anything(*, key, **rest):
    TAKEN.append(("undo", rest))
    return functions.WORLD.undo(key)


SECRET = {"inputs": ["amount", "token"], "secrets": ["token"], "do": lambda *, key, amount, token: None}


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"undo": take_secret}, "pay: take_secret takes ['token'], and would be called with []."),
        ({"undo": take_secret, **SECRET}, "pay: take_secret takes ['token'], and would be called with []."),
        ({"ask": take_secret, **SECRET}, "pay: take_secret takes ['token'], and would be called with []."),
        (
            {"ask": look_up, "outputs": []},
            "pay: look_up takes ['amount', 'reason', 'receipt'], and would be called with ['amount'].",
        ),
    ],
    ids=["no input", "a secret", "a secret to ask with", "no output"],
)
def test_what_is_not_there_to_be_taken_is_refused_at_import(wrong, problem):
    with pytest.raises(BadDeclaration) as refused:
        saga("args-wrong", step(**wrong))

    assert "sagas.E003" in str(refused.value)
    assert problem in str(refused.value)


def test_a_secret_that_another_step_strikes_is_not_there_either():
    steps = [toys.remote("a", do=take_secret, undo=take_secret, inputs=["token"]), step("b", **SECRET)]

    with pytest.raises(BadDeclaration, match="a: take_secret takes"):
        saga("args-elsewhere", *steps)


def test_who_takes_anything_is_called_with_the_key_alone(broker):
    declared = saga("args-anything", step(undo=take_anything), toys.remote("b"))
    instance = harness.begin(declared, "do pay, fail b", inputs=INPUTS)

    harness.drive(broker, instance)

    assert TAKEN == [("undo", {})]


def test_what_a_partial_has_filled_in_stays(broker):
    filled = functools.partial(give_back, amount=1)
    declared = saga("args-partial", step(undo=filled), toys.remote("b"))
    instance = harness.begin(declared, "do pay, fail b", inputs=INPUTS)

    harness.drive(broker, instance)

    assert TAKEN == [("undo", {"amount": 1, "receipt": "receipt of 990"})]
