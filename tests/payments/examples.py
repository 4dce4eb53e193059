"""Payments, calls of the service, and what the bank reports of them."""

import functools
from typing import Any

from django.db import transaction
from django.utils import timezone

from payments import services
from tests import callbacks
from tests.sandbox.running import Sandbox

CUSTOMER = {"name": "Ana Souza", "email": "ana@example.com", "tax_id": "52998224725"}
TOTAL = {"amount": 18290, "currency": "BRL"}
PIX = {"method": "pix"}


def card(token: str = "tok_ok") -> dict[str, str]:
    return {"method": "card", "token": token}


def charge(key: str, payment: dict[str, str] | None = None, total: dict[str, Any] = TOTAL) -> dict[str, Any]:
    return services.charge(key=key, customer=CUSTOMER, payment=payment or card(), total=total)


def functions(key: str, payment: dict[str, str]) -> dict[str, Any]:
    return {
        "do": functools.partial(charge, key, payment),
        "undo": functools.partial(services.refund, key=key),
        "errors": services,
    }


def request(
    sandbox: Sandbox, of: str, kind: str, *, about: str | None = None, id_: str = "evt_1", **changes: Any
) -> callbacks.Request:
    """What the bank sends of the charge as it is now, but for the changes; `about` is its key."""
    answer = sandbox.http.get(f"/bank/charges/{of}")
    answer.raise_for_status()
    now = timezone.now()
    return callbacks.signed(
        kind=kind, key=about or of, data=answer.json() | changes, id_=id_, at=now, sent_at=now
    )


def callback(sandbox: Sandbox, of: str, kind: str, **changes: Any) -> services.Callback:
    headers, body = request(sandbox, of, kind, **changes)
    return services.read_callback(headers=headers, body=body, now=timezone.now())


def report(sandbox: Sandbox, of: str, kind: str) -> services.Callback:
    """The bank's callback, read and written down as the webhook's view does it."""
    told = callback(sandbox, of, kind)
    with transaction.atomic():
        services.record_callback(callback=told)
    return told
