"""Examples for the schema: an endpoint, and what it is told."""

from typing import Any

from orders.api import samples

NEW_ENDPOINT = {"url": "https://shop.example/hooks", "types": ["order.*"], "description": "Our shop"}

ENDPOINT = {
    "id": "0199c2e0-7a13-7b51-9c02-6b1a9f0f4c11",
    **NEW_ENDPOINT,
    "enabled": True,
    "disabled_at": None,
    "disabled_reason": "",
    "failing_since": None,
    "created_at": samples.AT,
}
SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}

DELIVERY = {
    "id": 42,
    "message_id": "0199c2e0-7a14-7e3f-8d55-0d7c5b8e2a90",
    "type": "order.fulfilled",
    "order_id": samples.ID,
    "state": "pending",
    "attempts": 1,
    "next_at": samples.AT,
    "delivered_at": None,
    "created_at": samples.AT,
    "log": [
        {
            "at": samples.AT,
            "duration_ms": 212,
            "status": 503,
            "error": "answered 503",
            "response": "Back in a minute",
        }
    ],
}

MESSAGE: dict[str, Any] = {
    "type": "order.cancelled",
    "timestamp": samples.AT,
    "sequence": 830,
    "data": {
        "order": {
            "id": samples.ID,
            "number": "ORD-7K3QX9ZD",
            "reference": "cart-7",
            "total": samples.MONEY,
            "status": "cancelled",
            "failure": {
                "step": "take-payment",
                "kind": "refused",
                "message": "The payment was declined, or not made in time.",
            },
        }
    },
}
