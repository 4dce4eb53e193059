"""What happens while a provider is asked, or is not as it was asked, is not written over."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Sum, functions

from invoicing import models as invoicing
from invoicing import services as invoices
from payments import models as payments
from payments import services as charges
from shipping import models as shipping
from shipping import services as shipments
from tests.invoicing.examples import issue
from tests.payments import examples as bank
from tests.sandbox.running import Sandbox
from tests.shipping import examples as carrier
from tests.support import eventful

pytestmark = pytest.mark.django_db

KEY = "a.step"
MODELS: list[Any] = [payments.Payment, invoicing.Invoice, shipping.Shipment]
CALLS: list[Callable[[], Any]] = [
    lambda: bank.charge(KEY),
    lambda: issue(KEY),
    lambda: carrier.dispatch(KEY),
]
each = pytest.mark.parametrize(
    ("model", "call"), list(zip(MODELS, CALLS, strict=True)), ids=["charge", "issue", "dispatch"]
)


@pytest.fixture
def world(sandbox: Sandbox, settings: Any) -> Sandbox:
    settings.PAYMENTS_GATEWAY = "tests.support.eventful.Bank"
    settings.INVOICING_GATEWAY = "tests.support.eventful.Authority"
    settings.SHIPPING_GATEWAY = "tests.support.eventful.Carrier"
    return sandbox


@pytest.fixture
def happens(world: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[[eventful.Event], None]:
    """Say what happens between the answer and its record."""

    def say(event: eventful.Event) -> None:
        for gateway in (eventful.Bank, eventful.Authority, eventful.Carrier):
            monkeypatch.setattr(gateway, "happens", staticmethod(event), raising=False)

    return say


def change(model: Any, **values: Any) -> eventful.Event:
    """The row is changed, and the answer is as it is."""

    def event(answer: Any) -> Any:
        assert model.objects.filter(key=KEY).update(**values) == 1
        return answer

    return event


@each
def test_an_undo_that_died_at_its_tombstone_is_carried_out_by_the_action(
    happens: Any, model: Any, call: Callable[[], Any]
) -> None:
    happens(change(model, undo_requested_at=functions.Now()))

    with pytest.raises((charges.Refused, invoices.Refused, shipments.Refused), match="undone"):
        call()

    # E3: nobody had to call the undo again.
    assert model.objects.get().undone_at is not None


@each
def test_a_stranger_s_word_that_came_meanwhile_is_set_right(
    happens: Any, model: Any, call: Callable[[], Any]
) -> None:
    happens(change(model, mismatch="key b.step instead of a.step"))

    call()

    assert model.objects.get().mismatch == ""


@each
def test_an_answer_about_another_s_key_settles_nothing(
    happens: Any, model: Any, call: Callable[[], Any]
) -> None:
    happens(lambda answer: dataclasses.replace(answer, key="b.step"))

    with pytest.raises((charges.Mismatch, invoices.Mismatch, shipments.Mismatch)):
        call()

    assert model.objects.get().status == "requested"


@pytest.mark.parametrize(
    ("call", "other"),
    [(CALLS[0], {"captured": 18291}), (CALLS[1], {"amount": 18291}), (CALLS[2], {"parcels": 7})],
    ids=["charge", "issue", "dispatch"],
)
def test_an_answer_of_other_figures_is_a_mismatch(
    happens: Any, call: Callable[[], Any], other: dict[str, Any]
) -> None:
    happens(lambda answer: dataclasses.replace(answer, **other))

    with pytest.raises((charges.Mismatch, invoices.Mismatch, shipments.Mismatch), match="instead of"):
        call()


def test_a_charge_that_is_another_payment_s_is_a_mismatch(happens: Any) -> None:
    def event(charge: Any) -> Any:
        payments.Payment.objects.create(key="b.step", method="card", provider_ref=charge.ref)
        return charge

    happens(event)

    with pytest.raises(charges.Mismatch, match="another"):
        bank.charge(KEY)


def test_a_callback_that_came_meanwhile_is_in_the_ledger_once(happens: Any, world: Sandbox) -> None:
    def event(charge: Any) -> Any:
        bank.report(world, KEY, "charge.captured")
        return charge

    happens(event)

    assert bank.charge(KEY)["paid"]
    captured = payments.Operation.objects.filter(kind=payments.Kind.CAPTURE)
    assert captured.aggregate(Sum("amount")) == {"amount__sum": 18290}


def test_a_delivery_that_was_told_of_meanwhile_stays_one(happens: Any, world: Sandbox) -> None:
    def event(parcel: Any) -> Any:
        carrier.report(world, KEY, "delivered")
        return parcel

    happens(event)

    assert carrier.dispatch(KEY)["delivered"]


def test_a_parcel_that_is_not_on_its_way_is_not_booked(happens: Any) -> None:
    happens(lambda parcel: dataclasses.replace(parcel, status=shipping.Status.FAILED))

    with pytest.raises(shipments.Refused):
        carrier.dispatch(KEY)
