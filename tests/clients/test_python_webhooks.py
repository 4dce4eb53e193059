"""`verify` of the Python client believes what the shop signs, and nothing else."""

import datetime
import json
from typing import Any

import pytest
import standardwebhooks
from django.http import HttpRequest

import saga_orders
from saga_orders import verify
from webhooks import signing
from webhooks.api import samples

SECRET = signing.new_secret()
NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
ORDER = {
    "id": "0199c2e0-7a10-7cc3-98c4-dc0c0c07398f", "number": "ORD-7K3QX9ZD", "reference": "cart-7",
    "total": {"amount": 18290, "currency": "BRL"},
}  # fmt: skip
FAILURE = {"step": "take-payment", "kind": "refused", "message": "The payment was declined."}


def message(type_: str, **data: Any) -> bytes:
    told = {"type": type_, "timestamp": "2026-11-23T12:00:00.000000Z", "sequence": 830, "data": data}
    return json.dumps(told).encode()


CANCELLED = message("order.cancelled", order=ORDER | {"status": "cancelled", "failure": FAILURE})


def signed(body: bytes, secret: str = SECRET, at: datetime.datetime = NOW) -> dict[str, str]:
    sent_at = int(at.timestamp())
    signature = signing.sign(id_="msg_1", sent_at=sent_at, body=body, secret=secret)
    return {"Webhook-Id": "msg_1", "WEBHOOK-TIMESTAMP": str(sent_at), "webhook-signature": signature}


def test_a_message_about_an_order_is_read() -> None:
    told = verify(CANCELLED, signed(CANCELLED), SECRET, now=NOW)

    assert (told.id, told.type, told.sequence) == ("msg_1", "order.cancelled", 830)
    assert told.timestamp == NOW
    assert told.order is not None
    assert told.order.number == "ORD-7K3QX9ZD"
    assert told.order.total == saga_orders.Money(amount=18290, currency="BRL")
    assert told.order.status == "cancelled"
    assert told.order.failure == saga_orders.Failure(**FAILURE)
    assert told.step is None


def test_a_message_about_a_step_is_read() -> None:
    step = {
        "name": "take-payment",
        "from": "running",
        "status": "waiting",
        "attempt": 1,
        "message": "You pay.",
    }
    body = message("saga.step.waiting", order=ORDER, step=step)

    told = verify(body, signed(body), SECRET, now=NOW)

    assert told.step is not None
    assert (told.step.from_, told.step.status, told.step.message) == ("running", "waiting", "You pay.")
    assert told.order is not None
    assert told.order.status is None


def test_a_message_about_an_endpoint_is_read() -> None:
    body = message("endpoint.test", endpoint={"id": "1"})

    told = verify(body, signed(body), SECRET, now=NOW)

    assert (told.order, told.step) == (None, None)
    assert told.data == {"endpoint": {"id": "1"}}


def test_what_the_reference_implementation_signs_is_believed_and_the_other_way_round() -> None:
    now = datetime.datetime.now(datetime.UTC)
    theirs = standardwebhooks.Webhook(SECRET)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = theirs.sign("msg_1", now, CANCELLED.decode())

    assert verify(CANCELLED, headers, SECRET).id == "msg_1"


def test_headers_of_a_request_of_django_are_taken() -> None:
    request = HttpRequest()
    request.META = {
        f"HTTP_{name.upper().replace('-', '_')}": value for name, value in signed(CANCELLED).items()
    }

    assert verify(CANCELLED, request.headers, SECRET, now=NOW).id == "msg_1"


def test_either_secret_is_believed_while_one_is_changed() -> None:
    old, new = signing.new_secret(), signing.new_secret()
    headers = signed(CANCELLED, new)
    headers["webhook-signature"] += " " + signed(CANCELLED, old)["webhook-signature"]

    for secret in (old, new):
        assert verify(CANCELLED, headers, secret, now=NOW).id == "msg_1"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"body": CANCELLED + b" "}, "no signature fits"),
        ({"secret": signing.new_secret()}, "no signature fits"),
        ({"webhook-signature": ""}, "no signature fits"),
        ({"webhook-signature": "v1,não"}, "no signature fits"),
        ({"Webhook-Id": "msg_2"}, "no signature fits"),
        ({"WEBHOOK-TIMESTAMP": "soon"}, "is no number"),
        ({"WEBHOOK-TIMESTAMP": "9" * 400}, "is no number"),
        ({"now": NOW + datetime.timedelta(minutes=6)}, "it was signed 360 s from now"),
        ({"now": NOW - datetime.timedelta(minutes=6)}, "it was signed 360 s from now"),
    ],
)
def test_anything_else_is_not(change: dict[str, Any], why: str) -> None:
    headers = signed(CANCELLED) | {name: said for name, said in change.items() if name in signed(CANCELLED)}

    with pytest.raises(saga_orders.BadSignature, match=why):
        verify(
            change.get("body", CANCELLED), headers, change.get("secret", SECRET), now=change.get("now", NOW)
        )


@pytest.mark.parametrize("name", ["Webhook-Id", "WEBHOOK-TIMESTAMP", "webhook-signature"])
def test_without_one_of_its_headers_it_is_not(name: str) -> None:
    headers = signed(CANCELLED)
    del headers[name]

    with pytest.raises(saga_orders.BadSignature, match=f"{name.lower()}.* is missing"):
        verify(CANCELLED, headers, SECRET, now=NOW)


def test_an_old_message_is_believed_by_who_says_so() -> None:
    later = NOW + datetime.timedelta(days=1)

    assert verify(CANCELLED, signed(CANCELLED), SECRET, tolerance=datetime.timedelta(days=2), now=later)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64"])
def test_a_secret_that_is_none_is_a_slip_and_no_forgery(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_ and base64"):
        verify(CANCELLED, signed(CANCELLED), secret, now=NOW)


def test_the_descriptions_example_is_read() -> None:
    body = json.dumps(samples.MESSAGE).encode()

    assert verify(body, signed(body), SECRET, now=NOW).type == "order.cancelled"
