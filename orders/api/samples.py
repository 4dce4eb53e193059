"""Examples for the description: one order, from its placing on."""

from typing import Any

# As JSON is read: what belongs together stands on one line.
# fmt: off

ID = "0199c2e0-7a10-7cc3-98c4-dc0c0c07398f"
SAGA = "0199c2e0-7a11-7d2b-8a3e-5f2f3c1d9e70"
AT = "2026-11-23T12:00:00.000000Z"

MONEY = {"amount": 7580, "currency": "BRL"}
PRICE = {"amount": 3790, "currency": "BRL"}

# One of the catalogue that the local stack comes with, so that the example can be ordered there.
PRODUCT = {"sku": "MUG-STONEWARE", "name": "Stoneware mug", "price": PRICE, "available": 120, "ships": True}

NEW_ORDER: dict[str, Any] = {
    "customer": {"name": "Ana Souza", "email": "ana@example.com", "tax_id": "529.982.247-25"},
    "lines": [{"sku": PRODUCT["sku"], "quantity": 2}],
    "payment": {"method": "pix"},
    "shipping_address": {
        "recipient": "Ana Souza", "street": "Rua das Flores", "number": "12-A", "city": "São Paulo",
        "state": "SP", "postal_code": "01310-100", "country": "BR",
    },
    "reference": "cart-7",
}


def _step(name: str, status: str) -> dict[str, Any]:
    begun = status not in ("pending", "skipped")
    return {
        "name": name, "status": status, "attempts": int(begun), "undo_attempts": 0,
        "started_at": AT if begun else None, "finished_at": None, "error": None,
    }


ORDER: dict[str, Any] = {
    "id": ID, "number": "ORD-7K3QX9ZD", "status": "pending", "total": MONEY,
    "lines": [{
        "sku": PRODUCT["sku"], "name": PRODUCT["name"], "quantity": 2, "unit_price": PRICE, "ships": True,
    }],
    "payment": {
        "method": "pix", "status": "awaiting_payment", "key": f"{SAGA}.take-payment", "provider_ref": "ch_81",
        "pix": {"copy_paste": "00020126...6304ABCD", "expires_at": AT},
    },
    "invoice": {"number": None, "series": None, "access_key": None, "status": "pending"},
    "shipment": {"tracking": None, "status": "pending"},
    "saga": {"id": SAGA, "status": "running", "steps": [
        _step("review-order", "skipped"),
        _step("take-payment", "waiting"),
        _step("reserve-stock", "pending"),
        _step("issue-invoice", "pending"),
        _step("deliver-order", "pending"),
    ]},
    "failure": None,
    "reference": "cart-7",
    "next": {"message": "You pay the PIX; without payment by then the order is cancelled.", "at": AT},
    "created_at": AT, "updated_at": AT,
}

CANCELLED_ORDER = ORDER | {
    "status": "cancelling",
    "failure": {
        "step": "take-payment", "kind": "cancelled", "message": "The order was cancelled on request.",
    },
    "next": {"message": "We return the payment.", "at": None},
    "undoing": ["take-payment"],
}

STREAM = {"id": "811", "event": "step", "data": (
    '{"at":"2026-11-23T12:00:00.000000Z","step":"take-payment","from":"running","to":"done","attempt":1}'
)}

CAPTURED = {
    "id": "evt_7f3a", "type": "charge.captured", "key": f"{SAGA}.take-payment", "occurred_at": AT,
    "data": {
        "id": "ch_81", "method": "card", "status": "captured",
        "amount": 7580, "currency": "BRL", "captured": 7580, "refunded": 0,
    },
}
DELIVERED = {
    "id": "evt_9b1c", "type": "shipment.delivered", "key": f"{SAGA}.deliver-order", "occurred_at": AT,
    "data": {"tracking": "SB000000001BR"},
}
