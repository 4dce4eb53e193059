"""What a provider tells us is believed only from it, and only where it agrees with what was asked."""

from typing import Any

import httpx
import pytest
from django.conf import settings as configured
from django.utils import timezone

from sagas import models
from sagas.testing import post
from tests import webhooks
from tests.orders.conftest import Api, order
from tests.sandbox import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)

PIX = {"method": "pix"}


def tell(
    ana: Api, where: str, kind: str, key: str, data: dict[str, Any], id_: str = "evt_1", secret: str = ""
) -> Any:
    """A callback, signed by whoever reports such things or with another secret."""
    now = timezone.now()
    headers, body = webhooks.signed(
        kind=kind, key=key, data=data, id_=id_, at=now, sent_at=now, secret=secret
    )
    return ana.client.post(f"/api/v1/webhooks/{where}", body, "application/json", headers=headers)


def charge(sandbox: Sandbox, key: str) -> dict[str, Any]:
    """The charge in the bank's own words."""
    return dict(httpx.get(f"{sandbox.url}/bank/charges/{key}").raise_for_status().json())


def waiting(ana: Api, office: post.Post) -> dict[str, Any]:
    """An order that waits for its PIX to be paid."""
    placed = ana.order(order(payment=PIX)).json()
    office.deliver_all()
    return dict(placed)


def test_the_carrier_cannot_say_that_an_order_is_paid(ana: Api, sandbox: Sandbox, office: post.Post) -> None:
    placed = waiting(ana, office)
    key = placed["payment"]["key"]
    paid = charge(sandbox, key) | {"status": "captured", "captured": placed["total"]["amount"]}

    carriers = tell(ana, "payments", "pix.paid", key, paid, secret=configured.SHIPPING_WEBHOOK_SECRETS[0])
    office.deliver_all()

    assert carriers.status_code == 400
    assert ana.get(f"/orders/{placed['id']}").json()["payment"]["status"] == "awaiting_payment"
    assert not models.Signal.objects.exists()


@pytest.mark.parametrize("place", [0, 1])
def test_a_callback_is_not_lost_while_its_sender_s_secret_is_changed(
    ana: Api, sandbox: Sandbox, office: post.Post, settings: Any, place: int
) -> None:
    settings.PAYMENTS_WEBHOOK_SECRETS = [
        "whsec_YSBuZXcgc2VjcmV0IG9mIHRoZSBiYW5r",
        *settings.PAYMENTS_WEBHOOK_SECRETS,
    ]
    placed = waiting(ana, office)
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
    office.deliver_all()

    assert ana.get(f"/orders/{placed['id']}").json()["payment"]["status"] == "paid"
