"""Charge and refund in every order, any number of times, dying at every point: nothing is left (E1-E5)."""

import itertools
from typing import Any

import pytest

from payments import gateway, models, services
from tests.payments import examples
from tests.sandbox.running import Sandbox
from tests.support import crashes, step_functions

pytestmark = pytest.mark.django_db

FATES = {
    "card": examples.card(),
    "declined": examples.card("tok_declined"),
    "lost-reply": examples.card("tok_lost_reply"),
    "refund-flaky": examples.card("tok_refund_flaky"),
    "pix": examples.PIX,
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
        examples.charge(key)
    assert sandbox.charge(key) == charge, "a charge came after its tombstone (E5)"


@step_functions.every_script_and(FATES)
def test_every_order_and_every_death_nets_to_nothing(sandbox, settings, script, fate):
    settings.PAYMENTS_GATEWAY = "tests.payments.crashing.Gateway"
    for point in itertools.count():
        key = step_functions.key(point, "take-payment")
        with crashes.at(point):
            step_functions.play(script, **examples.functions(key, FATES[fate]))
            met = crashes.was_met(point)

        nothing_is_left(sandbox, key)
        if point and not met:
            break


class Forgetful(gateway.HttpGateway):
    """A bank without tombstones, and an undo that comes between our intent and our call."""

    def charge_card(self, *, key: str, **given: Any) -> gateway.Charge:
        services.refund(key=key)
        return super().charge_card(key=key, **given)

    def charge_pix(self, *, key: str, **given: Any) -> gateway.Charge:
        services.refund(key=key)
        return super().charge_pix(key=key, **given)

    def refund(self, *, key: str, operation: str) -> gateway.Charge:
        if self.ask(key=key):
            return super().refund(key=key, operation=operation)
        return gateway.Charge(
            status=models.Status.VOIDED, method="", amount=0, currency="BRL", captured=0, refunded=0, ref=""
        )


@pytest.mark.parametrize(("fate", "status"), [("card", "refunded"), ("pix", "cancelled")])
def test_a_charge_that_lands_although_it_was_undone_is_undone_at_once(sandbox, settings, fate, status):
    settings.PAYMENTS_GATEWAY = "tests.payments.test_any_order.Forgetful"
    with pytest.raises(services.Refused):
        examples.charge("a.take-payment", FATES[fate])

    # E3: nobody had to call the undo again.
    assert sandbox.charge("a.take-payment")["status"] == status
    nothing_is_left(sandbox, "a.take-payment")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fate", ["card", "lost-reply", "pix"])
def test_all_at_once_nets_to_nothing(sandbox, fate):
    for round_ in range(5):
        key = step_functions.key(round_, "take-payment")
        step_functions.at_once(["do", "undo", "do", "undo"], **examples.functions(key, FATES[fate]))

        nothing_is_left(sandbox, key)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fate", ["card", "lost-reply"])
def test_charges_at_once_are_one_charge(sandbox, fate):
    payer = examples.functions("one.take-payment", FATES[fate])
    step_functions.at_once(["do"] * 4, **{**payer, "undo": payer["do"]})

    assert [charge["captured"] for charge in sandbox.books()["charges"]] == [18290]
    assert models.Operation.objects.filter(kind=models.Kind.CAPTURE).count() == 1
