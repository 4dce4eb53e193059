"""What a client reads: an order and its saga as JSON."""

from typing import Any

from orders import models
from orders.wire import instant
from sagas import models as saga_models
from sagas import states

Step = saga_models.StepInstance
StepState = states.StepState

PAYMENT_STATUS = {
    StepState.PENDING: "pending",
    StepState.RUNNING: "pending",
    StepState.WAITING: "awaiting_payment",
    StepState.DONE: "paid",
    StepState.FAILED: "declined",
    StepState.UNKNOWN: "unconfirmed",
    StepState.UNDOING: "refunding",
    StepState.UNDONE: "refunded",
    StepState.UNDO_FAILED: "refund_failed",
    StepState.SKIPPED: "skipped",
}
INVOICE_STATUS = {
    StepState.PENDING: "pending",
    StepState.RUNNING: "pending",
    StepState.WAITING: "pending",
    StepState.DONE: "issued",
    StepState.FAILED: "rejected",
    StepState.UNKNOWN: "unconfirmed",
    StepState.UNDOING: "cancelling",
    StepState.UNDONE: "cancelled",
    StepState.UNDO_FAILED: "cancel_failed",
    StepState.SKIPPED: "skipped",
}
SHIPMENT_STATUS = {
    StepState.PENDING: "pending",
    StepState.RUNNING: "pending",
    StepState.WAITING: "in_transit",
    StepState.DONE: "delivered",
    StepState.FAILED: "failed",
    StepState.UNKNOWN: "unconfirmed",
    StepState.UNDOING: "recalling",
    StepState.UNDONE: "recalled",
    StepState.UNDO_FAILED: "recall_failed",
    StepState.SKIPPED: "skipped",
}


def order(row: models.Order) -> dict[str, Any]:
    """An order whole: needs `saga`, `saga.steps` and `lines` to be loaded."""
    # django-stubs takes the annotated manager for a descriptor of its own.
    steps = {step.name: step for step in row.saga.steps.all()}  # type: ignore[arg-type]
    return {
        "id": str(row.pk),
        "number": row.number,
        "status": row.status,
        "total": money(row.total_amount, row.currency),
        "lines": [line(item) for item in row.lines.all()],
        "payment": payment(row, steps["take-payment"]),
        "invoice": invoice(steps["issue-invoice"]),
        "shipment": shipment(steps["deliver-order"]),
        "saga": saga(row.saga, list(steps.values())),
        "reference": row.reference,
        "created_at": instant(row.created_at),
        "updated_at": instant(row.saga.updated_at),
    }


def line(row: models.OrderLine) -> dict[str, Any]:
    """One line, at the price that it was ordered at."""
    return {
        "sku": row.sku,
        "name": row.name,
        "quantity": row.quantity,
        "unit_price": money(row.unit_amount, row.currency),
    }


def payment(row: models.Order, step: Step) -> dict[str, Any]:
    """How it is paid and whether it was; for a PIX, the code to pay with."""
    facts = step.facts or {}
    return {
        "method": row.payment_method,
        "status": PAYMENT_STATUS[StepState(step.state)],
        "key": step.key,
        "provider_ref": facts.get("provider_ref"),
        "pix": facts.get("pix"),
    }


def invoice(step: Step) -> dict[str, Any]:
    """The invoice; its numbers are null until there is one."""
    facts = step.facts or {}
    return {
        "number": facts.get("number"),
        "series": facts.get("series"),
        "access_key": facts.get("access_key"),
        "status": INVOICE_STATUS[StepState(step.state)],
    }


def shipment(step: Step) -> dict[str, Any]:
    """Where the parcel is."""
    return {
        "tracking": (step.facts or {}).get("tracking"),
        "status": SHIPMENT_STATUS[StepState(step.state)],
    }


def saga(row: saga_models.SagaInstance, steps: list[Step]) -> dict[str, Any]:
    """The saga as far as a customer may see it."""
    return {
        "id": str(row.pk),
        "status": row.state,
        "steps": [
            {
                "name": step.name,
                "status": step.state,
                "attempts": step.attempts,
                "undo_attempts": step.undo_attempts,
                "started_at": instant(step.started_at),
                "finished_at": instant(step.finished_at),
                "error": error(step),
            }
            for step in steps
        ],
    }


def error(step: Step) -> dict[str, str] | None:
    """What went wrong with a step last, in plain language."""
    if not step.error:
        return None
    return {"kind": step.error["kind"], "message": step.error["message"]}


def money(amount: int, currency: str) -> dict[str, Any]:
    """An amount in minor units."""
    return {"amount": amount, "currency": currency}


def product(row: Any) -> dict[str, Any]:
    """What may be ordered, at what price, and how many of it there are."""
    return {"sku": row.sku, "name": row.name, "price": row.price, "available": row.available}
