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

PRODUCT = {
    "sku": "MUG-BLUE",
    "name": "Blue mug",
    "price": {"amount": 9145, "currency": "BRL"},
    "available": 120,
}

SEEN = "take-payment:backward:undo_failed:1"
MOVE = {"seen": SEEN, "reason": "The bank says that it was refunded by hand"}
RESOLUTION = {**MOVE, "happened": True}

FAILURE = {
    "step": "issue-invoice",
    "kind": "refused",
    "error": "Refused",
    "message": "PUT invoices: 422 rejected",
    "attempt": 1,
    "clock": None,
    "at": AT,
}


def _rung(name: str, state: str, **more: Any) -> dict[str, Any]:
    begun = state != "pending"
    return {
        "name": name,
        "state": state,
        "key": f"{SAGA}.{name}",
        "attempts": int(begun),
        "undo_attempts": int(state.startswith("und")),
        "error": None,
        "started_at": AT if begun else None,
        "finished_at": AT if begun else None,
        "undo_started_at": AT if state.startswith("und") else None,
        "undone_at": AT if state == "undone" else None,
        "lease_until": None,
        "wait_until": None,
        "worker": "payments@10.0.0.7" if begun else None,
        "task_id": "3f6d1c9a-2b44-4c1e-9d1e-7a10cc398c4d" if begun else None,
    } | more


REFUND_REFUSED = FAILURE | {"step": "take-payment", "message": "POST refunds: 409 refund_refused"}

OPERATED: dict[str, Any] = {
    "id": SAGA,
    "name": "order-fulfilment",
    "version": 1,
    "key": ID,
    "order": {"id": ID, "number": "ORD-7K3QX9ZD"},
    "state": "needs_attention",
    "direction": "backward",
    "step": "take-payment",
    "seen": SEEN,
    "failure": FAILURE,
    "attention": {
        "step": "take-payment",
        "why": "take-payment cannot be undone: POST refunds: 409 refund_refused",
        "advice": "Settle it with the provider, then retry; or say with evidence that it is undone.",
        "since": AT,
    },
    "cancel": None,
    "held_at": None,
    "closed_at": None,
    "wake_at": None,
    "deadline_at": AT,
    "created_at": AT,
    "updated_at": AT,
    "finished_at": None,
    "steps": [
        _rung("take-payment", "undo_failed", error=REFUND_REFUSED),
        _rung("reserve-stock", "undone"),
        _rung("issue-invoice", "undone", error=FAILURE),
        _rung("deliver-order", "pending"),
    ],
}

EVENT = {
    "id": 811,
    "at": AT,
    "kind": "operator.retry",
    "step": "take-payment",
    "from": None,
    "to": None,
    "attempt": None,
    "actor": "olga",
    "reason": "The bank is back",
    "data": {},
}

ENDPOINT = {
    "id": "0199c2e0-7a13-7b51-9c02-6b1a9f0f4c11",
    **NEW_ENDPOINT,
    "enabled": True,
    "disabled_at": None,
    "disabled_reason": "",
    "failing_since": None,
    "created_at": AT,
}
SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}

DELIVERY = {
    "id": 42,
    "message_id": "0199c2e0-7a14-7e3f-8d55-0d7c5b8e2a90",
    "type": "order.fulfilled",
    "order_id": ID,
    "state": "pending",
    "attempts": 1,
    "next_at": AT,
    "delivered_at": None,
    "created_at": AT,
    "log": [
        {
            "at": AT,
            "duration_ms": 212,
            "status": 503,
            "error": "answered 503",
            "response": "Back in a minute",
        }
    ],
}

MESSAGE: dict[str, Any] = {
    "type": "order.cancelled",
    "timestamp": AT,
    "sequence": 830,
    "data": {
        "order": {
            "id": ID,
            "number": "ORD-7K3QX9ZD",
            "reference": "cart-7",
            "total": MONEY,
            "status": "cancelled",
            "failure": {
                "step": "take-payment",
                "kind": "refused",
                "message": "The payment was declined, or not made in time.",
            },
        }
    },
}

CAPTURED = {
    "id": "evt_7f3a",
    "type": "charge.captured",
    "key": f"{SAGA}.take-payment",
    "occurred_at": AT,
    "data": {
        "id": "ch_81",
        "method": "card",
        "status": "captured",
        "amount": 18290,
        "currency": "BRL",
        "captured": 18290,
        "refunded": 0,
    },
}
DELIVERED = {
    "id": "evt_9b1c",
    "type": "shipment.delivered",
    "key": f"{SAGA}.deliver-order",
    "occurred_at": AT,
    "data": {"tracking": "SB000000001BR"},
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
    "Product": PRODUCT,
    "Saga": OPERATED,
    "MovedSaga": OPERATED | {"waits_for_approval": False},
    "SagaEvent": EVENT,
    "Endpoint": ENDPOINT,
    "Endpoints": {"results": [ENDPOINT]},
    "NewEndpointWithSecret": ENDPOINT | SECRET,
    "Delivery": DELIVERY,
    "Secret": SECRET,
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
    "moved-on": {
        "detail": "This has moved on since it was looked at; look again, and decide on what stands now.",
        "saga": {"id": SAGA, "state": "compensating"},
    },
    "operators-move": {
        "detail": "The order belongs to somebody else: have it undone with"
        f" POST /api/v1/sagas/{SAGA}/compensate.",
        "saga": {"id": SAGA},
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
