"""A PIX charge that was given up unpaid is asked about for a while: it may be paid all the same (M3)."""

import datetime
import itertools

import pytest
from django.db.models import F

from payments import models, services
from tests.payments import examples
from tests.support import step_functions

pytestmark = pytest.mark.django_db

KEY = "a.take-payment"


@pytest.fixture(autouse=True)
def pace(settings):
    settings.PIX_POLL = datetime.timedelta(hours=1)
    settings.PIX_LOOK_BACK = datetime.timedelta(hours=100)


def give_up(key=KEY):
    examples.charge(key, examples.PIX)
    services.refund(key=key)


def pass_time(**time):
    by = datetime.timedelta(**time)
    models.Payment.objects.update(undone_at=F("undone_at") - by, asked_at=F("asked_at") - by)


def test_its_turn_comes_ever_more_seldom_and_then_no_more(sandbox):
    give_up()
    turns = []
    for hour in range(1, 200):
        pass_time(hours=1)
        if services.abandoned():
            turns.append(hour)

    assert turns[0] == 1
    # As long after each as had passed before it, and perhaps a moment, which costs the next hour.
    assert all(after - 2 * before in (0, 1) for before, after in itertools.pairwise(turns))
    assert 50 <= turns[-1] < 100


def test_a_turn_is_taken_once(sandbox):
    give_up("a.take-payment")
    give_up("b.take-payment")
    pass_time(hours=1)

    assert {services.abandoned(), services.abandoned()} == {"a.take-payment", "b.take-payment"}
    assert services.abandoned() is None


def test_what_nobody_can_pay_any_more_has_no_turn(sandbox):
    examples.charge("a.take-payment", examples.PIX)  # Somebody still waits for it.
    examples.charge("b.take-payment")
    services.refund(key="b.take-payment")
    step_functions.attempt(lambda: examples.charge("c.take-payment", examples.card("tok_declined")), services)
    services.refund(key="c.take-payment")
    services.refund(key="d.take-payment")
    give_up("e.take-payment")
    sandbox.post("/pix/e.take-payment/pay")
    examples.report(sandbox, "e.take-payment", "pix.paid")
    services.refund(key="e.take-payment")
    pass_time(hours=1)

    assert services.abandoned() is None


def test_an_answer_is_what_the_callback_would_have_been(sandbox):
    give_up()
    sandbox.post(f"/pix/{KEY}/pay")
    found = services.inquire(key=KEY)
    told = examples.callback(sandbox, KEY, "pix.paid")

    assert found is not None
    assert (found.key, found.facts, found.refused, found.report) == (
        told.key, told.facts, told.refused, told.report,
    )  # fmt: skip
    assert services.inquire(key=KEY).event_id == found.event_id, "asked again, it is no news"


def test_a_bank_that_knows_nothing_of_it_says_so(sandbox):
    give_up()
    sandbox.post("/reset")

    assert services.inquire(key=KEY) is None


def test_a_bank_that_is_gone_is_not_an_answer(sandbox, settings):
    give_up()
    settings.PAYMENTS_URL = "http://127.0.0.1:9/bank"

    with pytest.raises(services.Unavailable):
        services.inquire(key=KEY)
