"""What a provider tells us is believed only from it, and only where it agrees with what was asked."""

from typing import Any

import pytest
from django.conf import settings as configured
from django.utils import timezone

from invoicing import models as invoicing
from orders import audit
from payments import models as payments
from sagas import engine, models
from sagas.testing import clocks, memory_transport
from shipping import models as shipping
from tests import callbacks
from tests.orders.conftest import Api, order
from tests.sandbox.running import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)

PIX = {"method": "pix"}


def tell(
    ana: Api, where: str, kind: str, key: str, data: dict[str, Any], id_: str = "evt_1", secret: str = ""
) -> Any:
    """A callback, signed by whoever reports such things or with another secret."""
    now = timezone.now()
    headers, body = callbacks.signed(
        kind=kind, key=key, data=data, id_=id_, at=now, sent_at=now, secret=secret
    )
    return ana.client.post(f"/api/v1/webhooks/{where}", body, "application/json", headers=headers)


def charge(sandbox: Sandbox, key: str) -> dict[str, Any]:
    """The charge in the bank's own words."""
    return dict(sandbox.http.get(f"/bank/charges/{key}").raise_for_status().json())


def waiting(ana: Api, broker: memory_transport.MemoryTransport) -> dict[str, Any]:
    """An order that waits for its PIX to be paid."""
    placed = ana.order(order(payment=PIX)).json()
    broker.deliver_all()
    return dict(placed)


def test_the_carrier_cannot_say_that_an_order_is_paid(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = waiting(ana, broker)
    key = placed["payment"]["key"]
    paid = charge(sandbox, key) | {"status": "captured", "captured": placed["total"]["amount"]}

    carriers = tell(ana, "payments", "pix.paid", key, paid, secret=configured.SHIPPING_WEBHOOK_SECRETS[0])
    broker.deliver_all()

    assert carriers.status_code == 400
    assert ana.get(f"/orders/{placed['id']}").json()["payment"]["status"] == "awaiting_payment"
    assert not models.Signal.objects.exists()


@pytest.mark.parametrize("place", [0, 1])
def test_a_callback_is_not_lost_while_its_sender_s_secret_is_changed(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, settings: Any, place: int
) -> None:
    settings.PAYMENTS_WEBHOOK_SECRETS = [
        "whsec_YSBuZXcgc2VjcmV0IG9mIHRoZSBiYW5r",
        *settings.PAYMENTS_WEBHOOK_SECRETS,
    ]
    placed = waiting(ana, broker)
    key = placed["payment"]["key"]
    sandbox.post(f"/pix/{key}/pay")

    tell(
        ana,
        "payments",
        "pix.paid",
        key,
        charge(sandbox, key),
        secret=settings.PAYMENTS_WEBHOOK_SECRETS[place],
    )
    broker.deliver_all()

    assert ana.get(f"/orders/{placed['id']}").json()["payment"]["status"] == "paid"


# --- Amounts, currencies, totals, parcels (M1, M2, M3) ------------------------------------------------

CARD = {"method": "card"}
ONE_CENTAVO = {"status": "captured", "amount": 1, "captured": 1}


def stands(ana: Api, placed: dict[str, Any], step: str) -> models.SagaInstance:
    """The order's saga, which must wait for a person at that step."""
    saga = models.SagaInstance.objects.get(order=placed["id"])
    assert saga.state == "needs_attention"
    assert saga.attention is not None
    assert saga.attention["step"] == step
    assert ana.get(f"/orders/{placed['id']}").json()["status"] == "attention"
    return saga


def undo(broker: memory_transport.MemoryTransport, saga: models.SagaInstance) -> None:
    engine.compensate(saga.pk, seen=engine.look(saga.pk), actor="olga", reason="not what was asked")
    broker.deliver_all()


def settled(sandbox: Sandbox, ana: Api, placed: dict[str, Any]) -> None:
    """Everything is undone, and all the books agree."""
    assert ana.get(f"/orders/{placed['id']}").json()["status"] == "cancelled"
    taken = sandbox.charge(placed["payment"]["key"])
    assert taken is not None
    assert taken["captured"] == taken["refunded"] > 0
    assert audit.run(sandbox.books()).discrepancies == []


def test_a_callback_of_one_centavo_does_not_pay_an_order(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = waiting(ana, broker)
    key = placed["payment"]["key"]

    answer = tell(ana, "payments", "pix.paid", key, charge(sandbox, key) | ONE_CENTAVO)
    broker.deliver_all()

    assert answer.status_code == 202, "to send it again would change nothing"
    saga = stands(ana, placed, "take-payment")
    total = placed["total"]["amount"]
    assert f"captured 1 instead of {total}" in saga.attention["why"]
    assert payments.Payment.objects.get(key=key).captured == 1, "what was taken is not lost track of"
    assert not invoicing.Invoice.objects.exists()
    assert models.Signal.objects.get().fate == "mismatch"


@pytest.mark.parametrize(
    ("change", "figures"),
    [
        ({"currency": "USD", "status": "captured", "captured": 18290}, "currency USD instead of BRL"),
        ({"status": "captured", "captured": 18291}, "captured 18291 instead of 18290"),
        ({"status": "captured", "captured": 0}, "captured 0 instead of 18290"),
        ({"status": "expired", "captured": 18290}, "status expired instead of captured"),
        ({"status": "captured", "captured": 5, "refunded": 9}, "refunded 9 instead of at_most_5"),
        (
            {"status": "captured", "captured": 18290, "id": "ch_another"},
            "reference ch_another instead of ch_",
        ),
        (
            {"status": "captured", "captured": 18290, "key": "another.take-payment"},
            "key another.take-payment",
        ),
        ({"status": "captured", "captured": 18290, "method": "card"}, "method card instead of pix"),
    ],
)
def test_no_callback_that_differs_from_what_was_asked_pays_an_order(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, change: dict[str, Any], figures: str
) -> None:
    placed = waiting(ana, broker)
    key = placed["payment"]["key"]

    assert tell(ana, "payments", "pix.paid", key, charge(sandbox, key) | change).status_code == 202
    broker.deliver_all()

    assert figures in stands(ana, placed, "take-payment").attention["why"]


def test_a_pix_paid_with_another_amount_goes_back_in_full_as_it_was_taken(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = waiting(ana, broker)
    key = placed["payment"]["key"]
    sandbox.http.post(f"/pix/{key}/pay", json={"amount": 20000}).raise_for_status()

    tell(ana, "payments", "pix.paid", key, charge(sandbox, key))
    broker.deliver_all()
    undo(broker, stands(ana, placed, "take-payment"))

    settled(sandbox, ana, placed)
    assert payments.Payment.objects.get(key=key).refunded == 20000


def test_a_provider_that_corrects_itself_is_asked_again_and_the_order_goes_on(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = waiting(ana, broker)
    key = placed["payment"]["key"]
    tell(ana, "payments", "pix.paid", key, charge(sandbox, key) | ONE_CENTAVO)
    broker.deliver_all()
    saga = stands(ana, placed, "take-payment")

    sandbox.post(f"/pix/{key}/pay")
    engine.resume(saga.pk, seen=engine.look(saga.pk), actor="olga", reason="the bank says that it was a slip")
    broker.deliver_all()

    assert ana.get(f"/orders/{placed['id']}").json()["payment"]["status"] == "paid"
    assert payments.Payment.objects.get(key=key).mismatch == ""


@pytest.mark.parametrize("token", ["tok_one_centavo", "tok_other_currency"])
def test_a_card_charged_with_something_else_pays_no_order_and_goes_back(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, token: str
) -> None:
    placed = ana.order(order(payment=CARD | {"token": token})).json()
    broker.deliver_all()

    saga = stands(ana, placed, "take-payment")
    assert "instead of" in saga.attention["why"]
    assert saga.wake_at is None, "asking again by itself changes nothing"
    undo(broker, saga)
    settled(sandbox, ana, placed)


def test_an_invoice_over_another_total_is_not_shipped_with_and_is_cancelled(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    body = order()
    body["customer"]["tax_id"] = "00000000272"
    placed = ana.order(body).json()
    broker.deliver_all()

    saga = stands(ana, placed, "issue-invoice")
    assert f"total 1 instead of {placed['total']['amount']}" in saga.attention["why"]
    assert not shipping.Shipment.objects.exists()
    undo(broker, saga)
    settled(sandbox, ana, placed)
    assert invoicing.Invoice.objects.get().status == "cancelled"


def test_parcels_that_nobody_sent_are_seen_and_called_back(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    body = order()
    body["shipping_address"]["postal_code"] = "99999-004"
    placed = ana.order(body).json()
    broker.deliver_all()

    saga = stands(ana, placed, "deliver-order")
    assert "parcels 3 instead of 2" in saga.attention["why"]
    undo(broker, saga)
    settled(sandbox, ana, placed)


@pytest.mark.parametrize(
    ("change", "figures"),
    [
        ({"tracking": "SB999999999BR"}, "tracking SB999999999BR instead of"),
        ({"reference": "1" * 44}, "reference 1111"),
        ({"key": "another.deliver-order"}, "key another.deliver-order"),
        ({"parcels": 7}, "parcels 7 instead of 2"),
    ],
)
def test_a_delivery_of_something_else_fulfils_no_order(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, change: dict[str, Any], figures: str
) -> None:
    placed = ana.order().json()
    broker.deliver_all()
    key = placed["payment"]["key"].replace("take-payment", "deliver-order")
    shipment = sandbox.http.get(f"/carrier/shipments/{key}").raise_for_status().json()

    assert tell(ana, "carrier", "shipment.delivered", key, shipment | change).status_code == 202
    broker.deliver_all()

    assert figures in stands(ana, placed, "deliver-order").attention["why"]


def test_a_late_payment_of_another_amount_is_returned_in_full_too(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = waiting(ana, broker)
    key = placed["payment"]["key"]
    ana.post(f"/orders/{placed['id']}/cancel", {"reason": "changed my mind"})
    broker.deliver_all()
    sandbox.http.post(f"/pix/{key}/pay", json={"amount": 777}).raise_for_status()

    tell(ana, "payments", "pix.paid", key, charge(sandbox, key))
    engine.sweep()
    broker.deliver_all()

    settled(sandbox, ana, placed)
    assert payments.Payment.objects.get(key=key).refunded == 777


def test_a_carrier_has_nothing_to_say_of_a_payment(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = waiting(ana, broker)

    tell(ana, "carrier", "shipment.failed", placed["payment"]["key"], {})
    broker.deliver_all()

    assert ana.get(f"/orders/{placed['id']}").json()["payment"]["status"] == "awaiting_payment"
    signal = models.Signal.objects.get()
    assert (signal.fate, signal.attention_at is not None) == ("unmatched", True)


def test_money_that_goes_back_by_itself_after_the_order_was_paid_is_shown_to_a_person(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = ana.order().json()
    broker.deliver_all()
    key = placed["payment"]["key"]
    back = charge(sandbox, key) | {"status": "refunded", "refunded": 18290}

    assert tell(ana, "payments", "charge.refunded", key, back).status_code == 202

    signal = models.Signal.objects.get()
    assert "refunded 18290 instead of 0" in signal.attention
    assert signal.settled_at is None


# --- What cannot be understood ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {"captured": 10**30},
        {"captured": 1.5},
        {"captured": "18290"},
        {"captured": True},
        {"currency": "Real"},
        {"id": "\x00"},
        {"id": "x" * 101},
        {"pix": {"copy_paste": "x" * 2000}},
    ],
)
def test_a_signed_callback_that_can_never_be_kept_is_answered_with_a_reason_and_shown_to_a_person(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, data: dict[str, Any]
) -> None:
    placed = waiting(ana, broker)
    key = placed["payment"]["key"]

    answers = [tell(ana, "payments", "pix.paid", key, charge(sandbox, key) | data) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [400] * 3
    assert answers[0].json()["type"] == "/api/problems/bad-signature"
    signal = models.Signal.objects.get()
    assert (signal.fate, signal.event_id, signal.step_key) == ("unreadable", "evt_1", "")
    assert signal.attention_at is not None


def test_a_type_that_is_too_long_is_refused_and_not_repeated_for_ever(ana: Api) -> None:
    answer = tell(ana, "payments", "p" * 41, "a.take-payment", {})

    assert answer.status_code == 400
    assert "40" in answer.json()["detail"]


# --- Our key has expired (R4) --------------------------------------------------------------------------


def test_a_key_that_expired_spends_no_order_and_all_go_on_when_it_is_renewed(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    sandbox.http.post("/faults", json={"denied_rate": 1}).raise_for_status()
    orders = [ana.order(key=f"key-{number}").json() for number in range(3)]
    for _ in range(4):
        broker.deliver_all()
        clocks.skip()
        engine.sweep()

    circuit = models.Circuit.objects.get(name="payments")
    assert circuit.needs_person
    assert "401" in circuit.error["message"]
    assert {ana.get(f"/orders/{one['id']}").json()["status"] for one in orders} == {"pending"}

    sandbox.http.post("/faults", json={}).raise_for_status()
    for _ in range(12):
        broker.deliver_all()
        clocks.skip()
        engine.sweep()
    broker.deliver_all()

    assert {ana.get(f"/orders/{one['id']}").json()["payment"]["status"] for one in orders} == {"paid"}
    assert not models.Circuit.objects.get(name="payments").needs_person
    for step in models.StepInstance.objects.filter(name="take-payment"):
        assert step.attempts - step.excused == 1, "an outage of ours is no attempt of theirs"
