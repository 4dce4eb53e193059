"""Shipments, calls of the service, and what the carrier reports of them."""

import functools
from typing import Any

from django.db import transaction
from django.utils import timezone

from shipping import services
from tests import callbacks
from tests.sandbox.running import Sandbox

ACCESS_KEY = "35260311222333000181550010000000421123456781"
LINES = [{"sku": "MUG", "quantity": 2, "name": "Mug", "unit_price": {"amount": 4590, "currency": "BRL"}}]


def address(postal_code: str = "01310-100") -> dict[str, str]:
    return {
        "recipient": "Ana Souza",
        "street": "Rua das Flores",
        "number": "12-A",
        "city": "São Paulo",
        "state": "SP",
        "postal_code": postal_code,
        "country": "BR",
    }


def dispatch(key: str, postal_code: str = "01310-100") -> dict[str, Any]:
    return services.dispatch(key=key, address=address(postal_code), lines=LINES, access_key=ACCESS_KEY)


def functions(key: str, postal_code: str = "01310-100") -> dict[str, Any]:
    return {
        "do": functools.partial(dispatch, key, postal_code),
        "undo": functools.partial(services.recall, key=key),
        "errors": services,
    }


def callback(
    sandbox: Sandbox, of: str, status: str, *, key: str | None = None, id_: str = "evt_1"
) -> services.Callback:
    """The callback that the carrier sends when the parcel comes to that status."""
    answer = sandbox.http.get(f"/carrier/shipments/{of}")
    answer.raise_for_status()
    now = timezone.now()
    headers, body = callbacks.signed(
        kind=f"shipment.{status}",
        key=key or of,
        data=answer.json() | {"status": status},
        id_=id_,
        at=now,
        sent_at=now,
    )
    return services.read_callback(headers=headers, body=body, now=now)


def report(sandbox: Sandbox, of: str, status: str, **given: str) -> services.Callback:
    """The carrier's callback, read and written down as the webhook's view does it."""
    told = callback(sandbox, of, status, **given)
    with transaction.atomic():
        services.record_callback(callback=told)
    return told
