"""Examples for the schema: one order, from its placing on."""

from typing import Any

from orders.api import problems

ID = "0199c2e0-7a10-7cc3-98c4-dc0c0c07398f"
SAGA = "0199c2e0-7a11-7d2b-8a3e-5f2f3c1d9e70"
AT = "2026-11-23T12:00:00.000000Z"

MONEY = {"amount": 18290, "currency": "BRL"}

NEW_ORDER: dict[str, Any] = {
    "customer": {"name": "Ana Souza", "email": "ana@example.com", "tax_id": "529.982.247-25"},
    "lines": [{"sku": "MUG-BLUE", "quantity": 2}],
    "payment": {"method": "pix"},
    "shipping_address": {
        "recipient": "Ana Souza",
        "street": "Rua das Flores",
        "number": "12-A",
        "city": "São Paulo",
        "state": "SP",
        "postal_code": "01310-100",
        "country": "BR",
    },
    "reference": "cart-7",
}

NEW_ENDPOINT = {"url": "https://shop.example/hooks", "types": ["order.*"], "description": "Our shop"}


def _step(name: str, status: str) -> dict[str, Any]:
    begun = status != "pending"
    return {
        "name": name,
        "status": status,
        "attempts": int(begun),
        "undo_attempts": 0,
        "started_at": AT if begun else None,
        "finished_at": None,
        "error": None,
    }


ORDER: dict[str, Any] = {
    "id": ID,
    "number": "ORD-7K3QX9ZD",
    "status": "pending",
    "total": MONEY,
    "lines": [
        {
            "sku": "MUG-BLUE",
            "name": "Blue mug",
            "quantity": 2,
            "unit_price": {"amount": 9145, "currency": "BRL"},
        }
    ],
    "payment": {
        "method": "pix",
        "status": "awaiting_payment",
        "key": f"{SAGA}.take-payment",
        "provider_ref": "ch_81",
        "pix": {"copy_paste": "00020126...6304ABCD", "expires_at": AT},
    },
    "invoice": {"number": None, "series": None, "access_key": None, "status": "pending"},
    "shipment": {"tracking": None, "status": "pending"},
    "saga": {
        "id": SAGA,
        "status": "running",
        "steps": [
            _step("take-payment", "waiting"),
            _step("reserve-stock", "pending"),
            _step("issue-invoice", "pending"),
            _step("deliver-order", "pending"),
        ],
    },
    "failure": None,
    "reference": "cart-7",
    "next": {"message": "You pay the PIX; without payment by then the order is cancelled.", "at": AT},
    "created_at": AT,
    "updated_at": AT,
}

STREAM = {
    "id": "811",
    "event": "step",
    "data": (
        '{"at":"2026-11-23T12:00:00.000000Z","step":"take-payment","from":"running","to":"done","attempt":1}'
    ),
}

ANSWERS: dict[str, Any] = {
    "Order": ORDER,
    "CancelledOrder": ORDER
    | {
        "status": "cancelling",
        "failure": {
            "step": "take-payment",
            "kind": "cancelled",
            "message": "The order was cancelled on request.",
        },
        "next": {"message": "We return the payment.", "at": None},
        "undoing": ["take-payment"],
    },
    "Secret": {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
}

DETAILS: dict[str, dict[str, Any]] = {
    "invalid-body": {
        "detail": "The body has faults.",
        "errors": [
            {
                "pointer": "/lines/0/quantity",
                "detail": "This must be a whole number from 1 to 999.",
                "code": "max_value",
            }
        ],
    },
    "invalid-query": {
        "detail": "The query has faults.",
        "errors": [
            {
                "parameter": "limit",
                "detail": "This must be a whole number from 1 to 100.",
                "code": "invalid",
            }
        ],
    },
    "too-late": {
        "detail": "The order is fulfilled; it cannot be cancelled any more.",
        "order": {"id": ID, "status": "fulfilled"},
    },
    "move-not-allowed": {
        "detail": "The saga is completed and has nothing to retry now.",
        "saga": {"id": SAGA, "state": "completed"},
    },
}


def problem(kind: problems.Kind) -> dict[str, Any]:
    """How a problem of that kind looks."""
    more: dict[str, Any] = DETAILS.get(kind.slug) or {"detail": kind.advice.replace("`", "")}
    return {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "instance": f"/api/v1/orders/{ID}",
        "request_id": "0199c2e0-7a12-7000-8000-3f6d1c9a2b44",
        **more,
    }
