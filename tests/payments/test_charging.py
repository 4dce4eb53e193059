"""What a charge comes to, for each way to pay and each fate."""

import datetime

import pytest
from django.db import transaction

from payments import models, services
from tests.payments import examples
from tests.support import waiting

pytestmark = pytest.mark.django_db


def test_a_card_is_paid_at_once(sandbox):
    facts = examples.charge("a.take-payment")

    assert facts["paid"] is True
    assert facts["method"] == "card"
    assert facts["provider_ref"].startswith("ch_")
    assert sandbox.charge("a.take-payment")["captured"] == 18290


def test_a_pix_waits_for_its_payer(sandbox, settings):
    facts = examples.charge("a.take-payment", examples.PIX)

    assert facts["paid"] is False
    assert facts["method"] == "pix"
    assert facts["pix"]["copy_paste"].startswith("000201")
    # The code is good for as long as the saga waits.
    expires_at = datetime.datetime.fromisoformat(facts["pix"]["expires_at"])
    left = expires_at - datetime.datetime.now(datetime.UTC)
    assert settings.PIX_LIMIT - datetime.timedelta(minutes=1) < left <= settings.PIX_LIMIT


def test_what_is_asked_for_again_is_what_was_said_before(sandbox):
    for payment in (examples.card(), examples.PIX):
        key = f"{payment['method']}.take-payment"
        assert examples.charge(key, payment) == examples.charge(key, payment) == services.ask(key=key)


@pytest.mark.parametrize("token", ["tok_declined", "tok_of_nobody"])
def test_a_declined_card_is_refused_for_good(sandbox, token):
    for _ in range(2):
        with pytest.raises(services.Refused):
            examples.charge("a.take-payment", examples.card(token))

    payment = models.Payment.objects.get()
    assert payment.status == models.Status.DECLINED
    assert payment.captured == 0


def test_a_bank_that_is_down_has_done_nothing(sandbox):
    with pytest.raises(services.Unavailable):
        examples.charge("a.take-payment", examples.card("tok_down"))

    assert services.ask(key="a.take-payment") is None


def test_a_bank_that_recovers_is_asked_with_the_same_key(sandbox):
    for _ in range(2):
        with pytest.raises(services.Unavailable):
            examples.charge("a.take-payment", examples.card("tok_flaky"))

    assert examples.charge("a.take-payment", examples.card("tok_flaky"))["paid"] is True
    assert len(sandbox.books()["charges"]) == 1


def test_a_lost_reply_is_unknown_until_the_bank_is_asked(sandbox):
    with pytest.raises(services.Unknown):
        examples.charge("a.take-payment", examples.card("tok_lost_reply"))
    assert models.Payment.objects.get().status == models.Status.REQUESTED

    assert services.ask(key="a.take-payment")["paid"] is True

    # What was learned is written down: the bank need not be asked again (U2).
    assert models.Payment.objects.get().captured == 18290
    assert sandbox.charge("a.take-payment")["captured"] == 18290


def test_a_key_of_which_nobody_has_heard_is_no_charge(sandbox):
    assert services.ask(key="a.take-payment") is None
    assert not models.Payment.objects.exists()


def test_a_key_is_for_one_charge_only(sandbox):
    examples.charge("a.take-payment")

    with pytest.raises(ValueError, match="another charge"):
        examples.charge("a.take-payment", total={"amount": 99, "currency": "BRL"})


def test_an_intent_must_be_durable_before_the_bank_hears_of_it(sandbox):
    with pytest.raises(RuntimeError), transaction.atomic():
        examples.charge("a.take-payment")

    assert sandbox.books()["charges"] == []


def test_a_pix_that_expired_is_refused(sandbox, settings):
    settings.PIX_LIMIT = datetime.timedelta(seconds=1)
    examples.charge("a.take-payment", examples.PIX)
    waiting.until(lambda: sandbox.charge("a.take-payment")["status"] == "expired")

    with pytest.raises(services.Refused):
        services.ask(key="a.take-payment")
    with pytest.raises(services.Refused):
        examples.charge("a.take-payment", examples.PIX)
