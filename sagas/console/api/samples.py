"""Examples for the description: one saga, which a person must look at."""

from typing import Any

# As JSON is read: what belongs together stands on one line.
# fmt: off

# The order and its saga are those of the examples in the API of orders.
SAGA = "0199c2e0-7a11-7d2b-8a3e-5f2f3c1d9e70"
ORDER = "0199c2e0-7a10-7cc3-98c4-dc0c0c07398f"
AT = "2026-11-23T12:00:00.000000Z"

SEEN = "take-payment:backward:undo_failed:1"
MOVE: dict[str, Any] = {"seen": SEEN, "reason": "The bank says that it was refunded by hand"}
REFUSAL: dict[str, Any] = {"step": "review-order", "reason": "The customer's last three orders came back"}
APPROVAL = {"step": "review-order", "reason": "Known customer, seen by phone", "facts": {"limit": 500}}
RESOLUTION = {**MOVE, "happened": True}

FAILURE = {
    "step": "issue-invoice", "kind": "refused", "error": "Refused", "message": "PUT invoices: 422 rejected",
    "attempt": 1, "clock": None, "at": AT,
}
REFUND_REFUSED = FAILURE | {"step": "take-payment", "message": "POST refunds: 409 refund_refused"}


def _rung(name: str, state: str, **more: Any) -> dict[str, Any]:
    begun, turned = AT if state != "pending" else None, state.startswith("und")
    return {
        "name": name, "stage": None, "state": state, "skipped": None, "children": None, "seen": None,
        "key": f"{SAGA}.{name}", "attempts": int(bool(begun)),
        "undo_attempts": int(turned), "error": None, "started_at": begun, "finished_at": begun,
        "undo_started_at": AT if turned else None, "undone_at": AT if state == "undone" else None,
        "lease_until": None, "wait_until": None, "wake_at": None,
        "worker": "payments@10.0.0.7" if begun else None,
        "task_id": "3f6d1c9a-2b44-4c1e-9d1e-7a10cc398c4d" if begun else None,
    } | more


OPERATED: dict[str, Any] = {
    "id": SAGA, "name": "order-fulfilment", "version": 1, "key": ORDER,
    "order": {"id": ORDER, "number": "ORD-7K3QX9ZD"}, "parent": None,
    "state": "needs_attention", "direction": "backward", "step": "take-payment", "seen": SEEN,
    "failure": FAILURE,
    "attention": {
        "step": "take-payment",
        "why": "take-payment cannot be undone: POST refunds: 409 refund_refused",
        "advice": "Settle it with the provider, then retry; or say with evidence that it is undone.",
        "since": AT, "child": None,
    },
    "cancel": None, "held_at": None, "closed_at": None, "wake_at": None, "starts_at": None, "deadline_at": AT,
    "created_at": AT, "updated_at": AT, "finished_at": None, "archived_at": None,
    "steps": [
        _rung("take-payment", "undo_failed", error=REFUND_REFUSED, seen=SEEN),
        _rung("reserve-stock", "undone"),
        _rung("issue-invoice", "undone", error=FAILURE),
        _rung("deliver-order", "pending"),
    ],
}

EVENT = {
    "id": 811, "at": AT, "kind": "operator.retry", "step": "take-payment", "from": None, "to": None,
    "attempt": None, "actor": "olga", "reason": "The bank is back", "data": {},
}
