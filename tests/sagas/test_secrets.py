"""Secrets that an action needs are kept only as long as it may still need them (A3)."""

import pytest

from sagas import engine, models
from tests.sagas import harness, rules
from tests.sagas.sample_app import functions
from tests.sagas.sample_app import saga as toys

GIVEN = {"token": "tok_4242", "total": 990}
WHO = {"actor": "operator", "reason": "I looked into it"}


def pay(*, key, token):
    assert token == GIVEN["token"], "it was forgotten too early"
    return functions.WORLD.do(key)


def secretive(name, *rest, **pays):
    step = toys.remote("pay", do=pay, inputs=["token"], secrets=["token"], **pays)
    return toys.saga(name, toys.local("a"), step, *rest, inputs=["token", "total"])


PAID = secretive("secret-paid", toys.remote("c"))
WAITS = secretive("secret-waits", wait=toys.Wait(until="settled", limit=toys.HOUR))


def facts(saga):
    saga.refresh_from_db()
    return saga.facts


def test_a_secret_is_struck_with_the_record_of_the_action_that_needed_it(broker):
    saga = harness.begin(PAID, inputs=GIVEN)
    broker.deliver()
    assert facts(saga) == GIVEN

    broker.deliver()

    assert facts(saga) == {"total": 990}
    assert saga.state == "running"


@pytest.mark.parametrize(
    "script", ["flake pay, lose pay, do pay", "do a, fail pay", "fail a", "3x flake pay"]
)
def test_a_secret_is_there_for_every_attempt_and_gone_in_the_end(broker, script):
    saga = harness.begin(PAID, script, inputs=GIVEN)

    harness.drive(broker, saga)

    assert facts(saga) == {"total": 990}
    rules.check(saga)


def test_a_secret_is_kept_for_an_action_that_waits(broker):
    saga = harness.begin(WAITS, "begin pay", inputs=GIVEN)
    broker.deliver_all()
    assert facts(saga) == GIVEN

    engine.receive(source="bank", event_id="1", key=f"{saga.pk}.pay", facts={"settled": True})

    assert facts(saga) == {"total": 990}


def test_a_saga_that_is_put_aside_forgets_its_secrets_too(broker):
    saga = harness.begin(PAID, "fail pay, fail undo pay", inputs=GIVEN)
    harness.drive(broker, saga)
    assert saga.state == "needs_attention"
    assert facts(saga) == GIVEN, "it may yet be retried"

    engine.close(saga.pk, seen=engine.look(saga.pk), **WHO)

    assert facts(saga) == {"total": 990}


def draw_token(*, key):
    return functions.WORLD.do(key) | {"token": GIVEN["token"], "number": 7}


TOKEN = {"do": draw_token, "outputs": ["token", "number"]}
PAYS = {"do": pay, "inputs": ["token"], "secrets": ["token"]}
DRAWN = [
    toys.saga("secret-drawn", toys.remote("draw", **TOKEN), toys.remote("pay", **PAYS), toys.local("c")),
    toys.saga(
        "secret-drawn-at-once",
        toys.at_once("first", toys.remote("draw", **TOKEN), toys.local("b")),
        toys.at_once("then", toys.remote("pay", **PAYS), toys.local("c")),
        toys.local("d"),
    ),
]


@pytest.mark.parametrize("saga", DRAWN, ids=str)
@pytest.mark.parametrize("script", ["", "fail pay", "fail pay, 2x flake undo draw", "fail c"])
def test_a_secret_that_a_step_put_out_goes_from_that_steps_row_too(broker, saga, script):
    saga = harness.begin(saga, script)

    harness.drive(broker, saga)

    assert facts(saga) == {"number": 7} if saga.state == "completed" else "token" not in facts(saga)
    assert saga.steps.get(name="draw").facts["number"] == 7
    assert GIVEN["token"] not in str([*models.SagaInstance.objects.values(), *saga.steps.values()])
    rules.check(saga)


def test_it_is_there_for_as_long_as_it_may_be_needed(broker):
    saga = harness.begin(DRAWN[0], "flake pay, lose pay")
    broker.deliver()
    assert facts(saga)["token"] == saga.steps.get(name="draw").facts["token"] == GIVEN["token"]

    harness.drive(broker, saga)

    assert saga.state == "completed"


def test_no_event_and_no_step_tells_a_secret(broker):
    saga = harness.begin(PAID, "flake pay, break pay", inputs=GIVEN)
    harness.drive(broker, saga)

    told = [*models.Event.objects.values_list("data", "reason"), *saga.steps.values_list("facts", "error")]
    assert "tok_4242" not in str([told, saga.failure])
