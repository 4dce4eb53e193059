"""An order from its placing to its end, as its client sees it; with real providers' callbacks."""

import base64
import datetime
import hmac
from typing import Any

import pytest
import standardwebhooks
from django.db.models import F
from django.utils import timezone

from orders import audit, customer_messages, payment_reconciliation, saga
from payments import models as payments
from sagas import engine, models
from sagas.engine import transport
from sagas.testing import clocks, memory_transport
from tests import callbacks
from tests.orders.conftest import Api, order
from tests.sandbox.running import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_order_is_paid_invoiced_delivered_and_fulfilled(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/orders/{ana.order().json()['id']}"
    broker.deliver_all()
    under_way = ana.get(path).json()

    assert under_way["status"] == "pending"
    assert under_way["payment"]["status"] == "paid"
    assert under_way["payment"]["pix"] is None
    assert under_way["invoice"]["status"] == "issued"
    assert len(under_way["invoice"]["access_key"]) == 44
    assert under_way["shipment"]["status"] == "in_transit"
    assert under_way["shipment"]["tracking"]
    assert under_way["next"]["message"].startswith("The carrier delivers")
    assert under_way["next"]["at"] is not None

    assert carrier(ana, sandbox, under_way, "shipment.delivered").status_code == 202
    broker.deliver_all()
    done = ana.get(path).json()

    assert done["status"] == "fulfilled"
    assert done["shipment"]["status"] == "delivered"
    assert done["next"]["message"].startswith("Nothing")
    assert [step["status"] for step in done["saga"]["steps"]] == ["skipped", *["done"] * 4]


def test_a_pix_shows_what_to_pay_and_until_when(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/orders/{ana.order(order(payment={'method': 'pix'})).json()['id']}"
    broker.deliver_all()
    waiting = ana.get(path).json()

    assert waiting["payment"]["status"] == "awaiting_payment"
    assert waiting["payment"]["pix"]["copy_paste"]
    assert waiting["payment"]["pix"]["expires_at"]
    assert waiting["next"]["message"].startswith("You pay the PIX")

    sandbox.post(f"/pix/{waiting['payment']['key']}/pay")
    bank(ana, sandbox, waiting, "pix.paid")
    broker.deliver_all()
    assert ana.get(path).json()["payment"]["status"] == "paid"


def test_a_refusal_is_told_in_plain_words_and_everything_is_undone(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    body = order()
    body["customer"]["tax_id"] = "00000000191"
    path = f"/orders/{ana.order(body).json()['id']}"
    broker.deliver_all()
    told = ana.get(path).json()

    assert told["status"] == "cancelled"
    assert told["payment"]["status"] == "refunded"
    assert told["invoice"]["status"] == "rejected"
    assert told["shipment"]["status"] == "pending"
    error = {"kind": "refused", "message": "The fiscal authority rejected the invoice."}
    assert told["saga"]["steps"][3]["error"] == error
    assert told["failure"] == {"step": "issue-invoice", **error}
    assert "00000000191" not in str(told)


def test_what_is_not_turned_back_has_no_failure(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/orders/{ana.order().json()['id']}"
    broker.deliver_all()

    assert ana.get(path).json()["failure"] is None


def test_what_an_operator_noted_is_not_the_customer_s_to_read(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = ana.order().json()
    broker.deliver_all()
    engine.compensate(
        shown["saga"]["id"], seen=engine.look(shown["saga"]["id"]), actor="olga", reason="looks like fraud"
    )
    broker.deliver_all()

    told = ana.get(f"/orders/{shown['id']}")
    assert told.json()["failure"]["kind"] == "operator"
    assert told.json()["failure"]["message"] == "The shop turned the order back."
    stream = ana.stream(f"/orders/{shown['id']}/events")
    assert '"kind":"operator"' in stream
    assert "fraud" not in told.content.decode() + stream
    assert "olga" not in told.content.decode() + stream


def test_what_a_bug_says_is_not_told(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, settings: Any
) -> None:
    settings.PAYMENTS_GATEWAY = "payments.gateway.Misspelt"
    path = f"/orders/{ana.order().json()['id']}"
    broker.deliver_all()

    told = ana.get(path)
    assert told.json()["failure"]["kind"] == "bug"
    assert told.json()["failure"]["message"] == "Something went wrong on our side."
    assert b"Misspelt" not in told.content


def _failure(**kept: Any) -> dict[str, Any]:
    return {"step": "take-payment", "kind": "refused", "message": "PUT charges: 402", "clock": None} | kept


@pytest.mark.parametrize(
    ("kept", "state", "sentence"),
    [
        ({}, "failed", "The payment was declined, or not made in time."),
        ({}, "undo_failed", "We could not return the payment."),
        ({"clock": "wait"}, "failed", "Nobody paid in time."),
        ({"step": "reserve-stock"}, "failed", "There are not enough of the goods in stock."),
        (
            {"step": "deliver-order", "kind": "timeout", "clock": "wait"},
            "",
            "The parcel did not arrive in time.",
        ),
        ({"step": "deliver-order", "kind": "timeout", "clock": "deadline"}, "", "The order's time ran out."),
        ({"kind": "transient"}, "pending", "The bank could not be reached."),
        ({"kind": "unknown", "clock": "attempt"}, "unknown", "The bank did not answer in time."),
        ({"step": None, "kind": "timeout", "clock": "deadline"}, "", "The order's time ran out."),
        ({"kind": "cancelled"}, "", "The order was cancelled on request."),
    ],
)
def test_a_failure_is_a_sentence(kept: dict[str, Any], state: str, sentence: str) -> None:
    failure = _failure(**kept)

    assert customer_messages.error(failure, failure["step"], state)["message"] == sentence


def test_there_are_words_for_every_step() -> None:
    steps = saga.ORDER_FULFILMENT.all_steps
    assert {step.name for step in steps} <= set(customer_messages.STEPS)
    waits = {name for name, words in customer_messages.STEPS.items() if words.waiting and words.late}
    assert waits == {step.name for step in steps if step.wait}


def test_a_declined_card_is_told_as_declined(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/orders/{ana.order(order(payment={'method': 'card', 'token': 'tok_declined'})).json()['id']}"
    broker.deliver_all()

    told = ana.get(path).json()
    assert told["status"] == "cancelled"
    assert told["payment"]["status"] == "declined"


def test_a_pix_that_nobody_pays_in_time_has_expired(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/orders/{ana.order(order(payment={'method': 'pix'})).json()['id']}"
    broker.deliver_all()
    for _ in range(1000):
        if ana.get(path).json()["status"] != "pending":
            break
        clocks.skip()
        engine.sweep()
        broker.deliver_all()
    engine.sweep()
    broker.deliver_all()

    told = ana.get(path).json()
    assert told["status"] == "cancelled"
    assert told["payment"]["status"] == "expired"


def test_a_delivery_that_fails_turns_the_whole_order_back(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/orders/{ana.order().json()['id']}"
    broker.deliver_all()
    carrier(ana, sandbox, ana.get(path).json(), "shipment.failed")
    broker.deliver_all()

    told = ana.get(path).json()
    assert told["status"] == "cancelled"
    assert told["payment"]["status"] == "refunded"
    assert told["invoice"]["status"] == "cancelled"
    charge = sandbox.charge(told["payment"]["key"])
    assert charge is not None
    assert charge["captured"] == charge["refunded"] == told["total"]["amount"]


def test_once_the_goods_have_left_the_invoice_is_undone_by_a_return_note(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/orders/{ana.order().json()['id']}"
    broker.deliver_all()
    under_way = ana.get(path).json()
    carrier(ana, sandbox, under_way, "shipment.handed_over", id_="evt_1")
    carrier(ana, sandbox, under_way, "shipment.failed", id_="evt_2")
    broker.deliver_all()

    assert ana.get(path).json()["status"] == "cancelled"
    keys = [invoice["key"] for invoice in sandbox.books()["invoices"]]
    assert len(keys) == 2, "the sale, and the note that takes it back"


# --- Callbacks: early, late, twice, unknown, forged (M3, D3) -----------------------------------------


def test_a_callback_that_comes_twice_is_one(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/orders/{ana.order().json()['id']}"
    broker.deliver_all()
    under_way = ana.get(path).json()

    answers = [carrier(ana, sandbox, under_way, "shipment.delivered") for _ in range(3)]
    broker.deliver_all()

    assert [answer.status_code for answer in answers] == [202] * 3
    assert ana.get(path).json()["status"] == "fulfilled"


@pytest.mark.parametrize("kind", ["shipment.delivered", "shipment.failed"])
def test_a_callback_that_comes_before_anything_was_asked_is_not_believed(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, kind: str
) -> None:
    placed = ana.order().json()
    key = placed["payment"]["key"].replace("take-payment", "deliver-order")
    assert send(ana, "carrier", kind, key, {"tracking": "BR1"}).status_code == 202

    broker.deliver_all()

    under_way = ana.get(f"/orders/{placed['id']}").json()
    assert under_way["status"] == "pending"
    assert under_way["shipment"]["tracking"].startswith("SB")
    carrier(ana, sandbox, under_way, "shipment.delivered", id_="evt_2")
    broker.deliver_all()
    assert ana.get(f"/orders/{placed['id']}").json()["status"] == "fulfilled"


@pytest.mark.parametrize("captured", [1, 18290])
def test_a_payment_that_is_told_of_before_it_was_asked_for_pays_nothing(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, captured: int
) -> None:
    placed = ana.order(order(payment={"method": "pix"})).json()
    told = {"method": "pix", "status": "captured", "amount": captured, "currency": "BRL"}
    told |= {"captured": captured, "refunded": 0, "id": None}
    assert send(ana, "payments", "pix.paid", placed["payment"]["key"], told).status_code == 202

    broker.deliver_all()

    status = ana.get(f"/orders/{placed['id']}").json()["payment"]["status"]
    assert status == {1: "unconfirmed", 18290: "awaiting_payment"}[captured]


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"[]", b"{}", b'{"id":"evt_1"}', b"\xff", b'{"id":1,"type":2,"key":3,"data":[]}'],
)
@pytest.mark.parametrize("where", ["payments", "carrier"])
def test_a_callback_without_sense_is_refused_though_its_signature_is_right(
    ana: Api, where: str, body: bytes
) -> None:
    now = timezone.now()
    secret = callbacks.secret_for({"payments": "pix.paid", "carrier": "shipment.delivered"}[where])
    signer = standardwebhooks.Webhook(secret)
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(int(now.timestamp()))}
    signed = base64.b64encode(
        hmac.new(
            base64.b64decode(secret.removeprefix("whsec_")),
            f"evt_1.{int(now.timestamp())}.".encode() + body,
            "sha256",
        ).digest()
    ).decode()
    if body.isascii():
        assert signer.sign("evt_1", now, body.decode()) == f"v1,{signed}"

    answer = ana.client.post(
        f"/api/v1/webhooks/{where}",
        body,
        "application/json",
        headers=headers | {"webhook-signature": f"v1,{signed}"},
    )

    assert answer.status_code == 400
    assert answer.json()["type"] == "/api/problems/bad-signature"
    assert models.Signal.objects.get().fate == "unreadable"


def test_a_provider_that_sends_nonsense_is_not_kept_out_for_it(ana: Api, settings: Any) -> None:
    """Only who cannot sign is a stranger; the provider's next callback may be money."""
    settings.STRANGERS_RATE, settings.STRANGERS_BURST = 1, 2

    signed = [send(ana, "carrier", "shipment.teleported", "a.b", {}, id_=f"evt_{n}") for n in range(4)]
    forged = [ana.client.post("/api/v1/webhooks/carrier", b"{}", "application/json") for _ in range(3)]

    assert [answer.status_code for answer in signed] == [400] * 4
    assert [answer.status_code for answer in forged] == [400, 400, 429]


def test_a_payment_that_lands_after_the_cancellation_is_returned(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = ana.order(order(payment={"method": "pix"})).json()
    broker.deliver_all()
    ana.post(f"/orders/{placed['id']}/cancel", {"reason": "changed my mind"})
    broker.deliver_all()
    assert ana.get(f"/orders/{placed['id']}").json()["payment"]["status"] == "cancelled"

    sandbox.post(f"/pix/{placed['payment']['key']}/pay")
    assert bank(ana, sandbox, placed, "pix.paid").status_code == 202
    transport.send_late_compensation(_signal_id(), "payments")
    broker.deliver_all()

    charge = sandbox.charge(placed["payment"]["key"])
    assert charge is not None
    assert charge["captured"] == charge["refunded"] > 0
    assert ana.get(f"/orders/{placed['id']}").json()["status"] == "cancelled"


def test_a_payment_of_which_nobody_tells_us_is_returned_as_well(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = ana.order(order(payment={"method": "pix"})).json()
    key = placed["payment"]["key"]
    broker.deliver_all()
    ana.post(f"/orders/{placed['id']}/cancel", {"reason": "changed my mind"})
    broker.deliver_all()
    payment_reconciliation.run()
    assert not models.Signal.objects.exists(), "nobody has paid, and it is not yet time to ask"

    sandbox.post(f"/pix/{key}/pay")
    an_hour_passes_for_the_bank()
    payment_reconciliation.run()
    engine.sweep()
    broker.deliver_all()

    charge = sandbox.charge(key)
    assert charge is not None
    assert charge["captured"] == charge["refunded"] == placed["total"]["amount"]
    assert audit.run(sandbox.books()).discrepancies == []

    # The callback comes after all.
    assert bank(ana, sandbox, placed, "pix.paid").status_code == 202
    engine.sweep()
    broker.deliver_all()
    assert sandbox.charge(key) == charge


def an_hour_passes_for_the_bank() -> None:
    hour = datetime.timedelta(hours=1)
    payments.Payment.objects.update(undone_at=F("undone_at") - hour, asked_at=F("asked_at") - hour)


def test_a_bank_that_is_gone_is_asked_again_when_it_is_back(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, settings: Any
) -> None:
    placed = ana.order(order(payment={"method": "pix"})).json()
    broker.deliver_all()
    ana.post(f"/orders/{placed['id']}/cancel", {"reason": "changed my mind"})
    broker.deliver_all()
    sandbox.post(f"/pix/{placed['payment']['key']}/pay")

    an_hour_passes_for_the_bank()
    settings.PAYMENTS_URL = "http://127.0.0.1:9/bank"
    payment_reconciliation.run()
    sandbox.point(settings)
    for _ in range(2):
        an_hour_passes_for_the_bank()
    payment_reconciliation.run()

    assert models.Signal.objects.get().fate == "late"


def test_a_callback_about_nothing_of_ours_is_kept_and_answered(ana: Api) -> None:
    answer = send(ana, "carrier", "shipment.delivered", "no-such-key", {"tracking": "BR1"})

    assert answer.status_code == 202
    assert models.Signal.objects.get().fate == "unmatched"


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_web_server_whose_clock_is_an_hour_off_refuses_no_callback(
    ana: Api, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    now = timezone.now()
    headers, body = callbacks.signed(
        kind="shipment.delivered",
        key="no-such-key",
        data={"tracking": "BR1"},
        id_="evt_1",
        at=now,
        sent_at=now,
    )
    monkeypatch.setattr(timezone, "now", lambda: now + datetime.timedelta(hours=hours))

    answer = ana.client.post("/api/v1/webhooks/carrier", body, "application/json", headers=headers)

    assert answer.status_code == 202, "D9"


@pytest.mark.parametrize("harm", ["signature", "body", "timestamp", "id", "nothing"])
def test_a_forged_or_replayed_callback_is_refused(ana: Api, harm: str) -> None:
    headers, body = callbacks.signed(
        kind="pix.paid", key="some.take-payment", data={}, id_="evt_1",
        at=timezone.now(), sent_at=timezone.now(),
    )  # fmt: skip
    match harm:
        case "signature":
            headers["webhook-signature"] = "v1,AAAA"
        case "body":
            body = body.replace(b"some.", b"same.")
        case "timestamp":
            headers["webhook-timestamp"] = "1700000000"
        case "id":
            headers["webhook-id"] = "evt_2"
        case "nothing":
            headers, body = {}, b""

    answer = ana.client.post("/api/v1/webhooks/payments", body, "application/json", headers=headers)

    assert answer.status_code == 400
    assert answer.json()["type"] == "/api/problems/bad-signature"


def carrier(ana: Api, sandbox: Sandbox, shown: dict[str, Any], kind: str, id_: str = "evt_1") -> Any:
    key = shown["payment"]["key"].replace("take-payment", "deliver-order")
    shipment = sandbox.http.get(f"/carrier/shipments/{key}").raise_for_status().json()
    return send(ana, "carrier", kind, key, shipment, id_)


def bank(ana: Api, sandbox: Sandbox, shown: dict[str, Any], kind: str, id_: str = "evt_1") -> Any:
    key = shown["payment"]["key"]
    charge = sandbox.http.get(f"/bank/charges/{key}").raise_for_status().json()
    return send(ana, "payments", kind, key, charge, id_)


def send(ana: Api, where: str, kind: str, key: str, data: dict[str, Any], id_: str = "evt_1") -> Any:
    now = timezone.now()
    headers, body = callbacks.signed(kind=kind, key=key, data=data, id_=id_, at=now, sent_at=now)
    return ana.client.post(f"/api/v1/webhooks/{where}", body, "application/json", headers=headers)


def _signal_id() -> int:
    return models.Signal.objects.get().pk
