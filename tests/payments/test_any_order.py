"""Charge and refund in every order, any number of times, dying at every point: nothing is left (E1-E5)."""

import itertools

import pytest

from payments import models, services
from tests import crashes, verbs
from tests.payments import payers
from tests.sandbox import Sandbox

pytestmark = pytest.mark.django_db

FATES = {
    "card": payers.card(),
    "declined": payers.card("tok_declined"),
    "lost-reply": payers.card("tok_lost_reply"),
    "refund-flaky": payers.card("tok_refund_flaky"),
    "pix": payers.PIX,
}


def nothing_is_left(sandbox: Sandbox, key: str) -> None:
    charge = sandbox.charge(key)
    if charge:
        assert charge["captured"] in (0, 18290), "charged twice (E1)"
        assert charge["refunded"] == charge["captured"], "money was kept (M1)"
        assert charge["status"] != "pending", "it can still be paid"
    payment = models.Payment.objects.get(key=key)
    assert payment.undone_at is not None
    assert (payment.captured, payment.refunded) == (
        (charge["captured"], charge["refunded"]) if charge else (0, 0)
    ), "our books differ from the bank's"
    with pytest.raises(services.Refused):
        payers.charge(key)
    assert sandbox.charge(key) == charge, "a charge came after its tombstone (E5)"


@verbs.every_script
@pytest.mark.parametrize("fate", FATES)
def test_every_order_and_every_death_nets_to_nothing(sandbox, settings, script, fate):
    settings.PAYMENTS_GATEWAY = "tests.payments.crashing.Gateway"
    for point in itertools.count():
        key = verbs.key(point, "take-payment")
        with crashes.at(point):
            verbs.play(script, **payers.verbs(key, FATES[fate]))

            nothing_is_left(sandbox, key)
        if point and not crashes.was_met(point):
            break


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fate", ["card", "lost-reply", "pix"])
def test_all_at_once_nets_to_nothing(sandbox, fate):
    for round_ in range(5):
        key = verbs.key(round_, "take-payment")
        verbs.at_once(["do", "undo", "do", "undo"], **payers.verbs(key, FATES[fate]))

        nothing_is_left(sandbox, key)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fate", ["card", "lost-reply"])
def test_charges_at_once_are_one_charge(sandbox, fate):
    payer = payers.verbs("one.take-payment", FATES[fate])
    verbs.at_once(["do"] * 4, **{**payer, "undo": payer["do"]})

    assert [charge["captured"] for charge in sandbox.books()["charges"]] == [18290]
    assert models.Operation.objects.filter(kind=models.Kind.CAPTURE).count() == 1
