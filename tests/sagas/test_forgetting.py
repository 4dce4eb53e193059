"""Secrets that a deed needs are kept only as long as it may still need them (A3)."""

import pytest

from sagas import engine, models
from tests.sagas import rules, stage
from tests.sagas.toybox import saga as toys
from tests.sagas.toybox import verbs

GIVEN = {"token": "tok_4242", "total": 990}
WHO = {"actor": "operator", "reason": "I looked into it"}


def pay(*, key, token):
    assert token == GIVEN["token"], "it was forgotten too early"
    return verbs.WORLD.do(key)


def secretive(name, *rest, **pays):
    step = toys.remote("pay", do=pay, given=["token"], forgets=["token"], **pays)
    return toys.saga(name, toys.local("a"), step, *rest, given=["token", "total"])


PAID = secretive("secret-paid", toys.remote("c"))
WAITS = secretive("secret-waits", wait=toys.Wait(until="settled", limit=toys.HOUR))


def facts(saga):
    saga.refresh_from_db()
    return saga.facts


def test_a_secret_is_struck_with_the_record_of_the_deed_that_needed_it(office):
    saga = stage.begin(PAID, given=GIVEN)
    office.deliver()
    assert facts(saga) == GIVEN

    office.deliver()

    assert facts(saga) == {"total": 990}
    assert saga.state == "running"


@pytest.mark.parametrize(
    "script", ["flake pay, lose pay, do pay", "do a, fail pay", "fail a", "3x flake pay"]
)
def test_it_is_there_for_every_attempt_and_gone_in_the_end(office, script):
    saga = stage.begin(PAID, script, given=GIVEN)

    stage.drive(office, saga)

    assert facts(saga) == {"total": 990}
    rules.check(saga)


def test_a_deed_that_waits_may_need_it_again(office):
    saga = stage.begin(WAITS, "begin pay", given=GIVEN)
    office.deliver_all()
    assert facts(saga) == GIVEN

    engine.receive(source="bank", event_id="1", key=f"{saga.pk}.pay", facts={"settled": True})

    assert facts(saga) == {"total": 990}


def test_what_is_put_aside_forgets_too(office):
    saga = stage.begin(PAID, "fail pay, fail undo pay", given=GIVEN)
    stage.drive(office, saga)
    assert saga.state == "needs_attention"
    assert facts(saga) == GIVEN, "it may yet be retried"

    engine.close(saga.pk, seen=engine.look(saga.pk), **WHO)

    assert facts(saga) == {"total": 990}


def test_no_event_and_no_step_tells_it(office):
    saga = stage.begin(PAID, "flake pay, break pay", given=GIVEN)
    stage.drive(office, saga)

    told = [*models.Event.objects.values_list("data", "reason"), *saga.steps.values_list("facts", "error")]
    assert "tok_4242" not in str([told, saga.failure])
