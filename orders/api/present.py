"""What a client reads: an order and its saga as JSON."""

import datetime
from typing import Any

from invoicing import services as invoicing
from orders import customer_messages, models, steps
from orders.wire import instant
from payments import services as payments
from sagas import models as saga_models
from sagas.console import redaction
from sagas.declaration import states
from sagas.engine.seen import Seen
from shipping import services as shipping

Step = saga_models.StepInstance
StepState = states.StepState

PAYMENT_STATUS = {
    StepState.PENDING: "pending",
    StepState.RUNNING: "pending",
    StepState.WAITING: "awaiting_payment",
    StepState.DONE: "paid",
    StepState.FAILED: "failed",
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
    StepState.FAILED: "failed",
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
    rows: list[Step] = list(row.saga.steps.all())  # type: ignore[arg-type]
    does = steps.by_action(rows)
    return {
        "id": str(row.pk),
        "number": row.number,
        "status": row.status,
        "total": money(row.total_amount, row.currency),
        "lines": [line(item) for item in row.lines.all()],
        "payment": payment(row, does.get(payments.charge)),
        "invoice": invoice(row, does.get(invoicing.issue)),
        "shipment": shipment(does.get(shipping.dispatch)),
        "saga": saga(row.saga, rows),
        "failure": customer_messages.failure(row.saga.failure),
        "reference": row.reference,
        "next": upcoming(row, rows),
        "created_at": instant(row.created_at),
        # The saga's row is written first, in the same transaction.
        "updated_at": instant(max(row.saga.updated_at, row.created_at)),
    }


def undoing(row: models.Order) -> list[str]:
    """The steps that are or will be undone, in the order of undoing."""
    begun = [step for step in row.saga.steps.all() if step.begun]  # type: ignore[arg-type]
    return [step.name for step in reversed(begun) if step.state != StepState.UNDONE]


def line(row: models.OrderLine) -> dict[str, Any]:
    """One line, at the price that it was ordered at."""
    return {
        "sku": row.sku,
        "name": row.name,
        "quantity": row.quantity,
        "unit_price": money(row.unit_amount, row.currency),
    }


def payment(row: models.Order, step: Step | None) -> dict[str, Any] | None:
    """How it is paid and whether it was; for a PIX, the code to pay with. None if no step does that."""
    if step is None:
        return None
    facts = step.facts or {}
    return {
        "method": row.payment_method,
        "status": _payment_status(row, step),
        "key": step.key,
        "provider_ref": facts.get("provider_ref"),
        "pix": facts.get("pix"),
    }


def invoice(row: models.Order, step: Step | None) -> dict[str, Any] | None:
    """The invoice; its numbers are null until there is one. None if its saga has no such step."""
    if step is None:
        return None
    facts = step.facts or {}
    return {
        "number": facts.get("number"),
        "series": facts.get("series"),
        "access_key": facts.get("access_key"),
        "status": "rejected" if _refusal(row, step) else INVOICE_STATUS[StepState(step.state)],
    }


def _payment_status(row: models.Order, step: Step) -> str:
    offered = (step.facts or {}).get("pix")  # A PIX that could be paid, and was not.
    if _refusal(row, step) or (row.payment_method == models.PaymentMethod.PIX and _ran_out(row, step)):
        return "expired" if offered else "declined"
    if step.state == StepState.UNDONE and not (step.facts or {}).get("paid"):
        return "cancelled"  # There was nothing to return.
    return PAYMENT_STATUS[StepState(step.state)]


def _refusal(row: models.Order, step: Step) -> bool:
    """Whether the order failed because this step was refused; the first failure is kept (A2)."""
    failure = row.saga.failure or {}
    return failure.get("step") == step.name and failure["kind"] == "refused"


def _ran_out(row: models.Order, step: Step) -> bool:
    """Whether the order failed because nobody ended this step's wait in time."""
    failure = row.saga.failure or {}
    return failure.get("step") == step.name and failure.get("clock") == "wait"


def shipment(step: Step | None) -> dict[str, Any] | None:
    """Where the parcel is. None if its saga has no such step."""
    if step is None:
        return None
    return {
        "tracking": (step.facts or {}).get("tracking"),
        "status": SHIPMENT_STATUS[StepState(step.state)],
    }


def saga(row: saga_models.SagaInstance, rows: list[Step]) -> dict[str, Any]:
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
            for step in rows
        ],
    }


def error(step: Step) -> dict[str, str] | None:
    """What went wrong with a step last, in plain language."""
    return customer_messages.error(step.error, step.name, step.state) if step.error else None


def money(amount: int, currency: str) -> dict[str, Any]:
    """An amount in minor units."""
    return {"amount": amount, "currency": currency}


def product(row: Any) -> dict[str, Any]:
    """What may be ordered, at what price, and how many of it there are."""
    return {"sku": row.sku, "name": row.name, "price": row.price, "available": row.available}


def upcoming(row: models.Order, rows: list[Step]) -> dict[str, Any]:
    """What happens next, for those who wait: in words, and when, where that is known."""
    words, at = _upcoming(row, rows)
    return {"message": words, "at": instant(at)}


def _upcoming(row: models.Order, rows: list[Step]) -> tuple[str, datetime.datetime | None]:
    instance = row.saga
    step = rows[min(instance.position, len(rows) - 1)]
    words = customer_messages.of_step(step.name)
    match row.status:
        case models.Status.FULFILLED:
            return "Nothing: the order is paid, invoiced and delivered.", None
        case models.Status.CANCELLED:
            return "Nothing: whatever had been done is undone.", None
        case models.Status.CLOSED:
            return (
                "Nothing: our staff ended the order by hand. Ask the shop about it,"
                f" by its number {row.number}.",
                None,
            )
        case models.Status.ATTENTION:
            return "The shop sees to it; nothing is lost.", None
        case models.Status.CANCELLING:
            return (
                f"We {words.undoing}.",
                None if step.state == StepState.UNDOING else instance.wake_at,
            )
    if instance.cancel_requested_at:
        return "The order is cancelled as soon as the step at hand has ended.", None
    if step.state == StepState.WAITING:
        return words.waiting, step.wait_until
    if step.error and step.state == StepState.PENDING:
        return f"We try again to {words.doing}.", instance.wake_at
    return f"We {words.doing}.", None


def operated(row: saga_models.SagaInstance) -> dict[str, Any]:
    """A saga as its operators see it, without the facts, which are personal."""
    ladder = list(row.steps.all())  # type: ignore[arg-type]
    step = ladder[min(row.position, len(ladder) - 1)]
    order_row: models.Order | None = getattr(row, "order", None)
    return {
        "id": str(row.pk),
        "name": row.name,
        "version": row.version,
        "key": row.key,
        "order": {"id": str(order_row.pk), "number": order_row.number} if order_row else None,
        "state": row.state,
        "direction": states.Direction(row.direction).name.lower(),
        "step": step.name,
        "seen": str(Seen.of(row, step)),
        "failure": failure(row.failure),
        "attention": row.attention,
        "cancel": {
            "at": instant(row.cancel_requested_at),
            "actor": row.cancel_actor,
            "reason": row.cancel_reason,
        }
        if row.cancel_requested_at
        else None,
        "held_at": instant(row.held_at),
        "closed_at": instant(row.closed_at),
        "wake_at": instant(row.wake_at),
        "deadline_at": instant(row.deadline_at),
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
        "finished_at": instant(row.finished_at),
        "steps": [rung(step) for step in ladder],
    }


def failure(kept: dict[str, Any] | None) -> dict[str, Any] | None:
    """What went wrong, as operators see it; where in our code is for the console."""
    return {name: word for name, word in kept.items() if name != "frames"} if kept else None


def rung(step: Step) -> dict[str, Any]:
    """One step as operators see it."""
    return {
        "name": step.name,
        "state": step.state,
        "key": step.key,
        "attempts": step.attempts,
        "undo_attempts": step.undo_attempts,
        "error": failure(step.error),
        "started_at": instant(step.started_at),
        "finished_at": instant(step.finished_at),
        "undo_started_at": instant(step.undo_started_at),
        "undone_at": instant(step.undone_at),
        "lease_until": instant(step.lease_until),
        "wait_until": instant(step.wait_until),
        "worker": step.worker or None,
        "task_id": step.task_id or None,
    }


def event(row: saga_models.Event) -> dict[str, Any]:
    """One line of a saga's history."""
    return {
        "id": row.pk,
        "at": instant(row.at),
        "kind": row.kind,
        "step": row.subject or None,
        "from": row.from_state or None,
        "to": row.to_state or None,
        "attempt": row.attempt,
        "actor": row.actor,
        "reason": row.reason,
        "data": redaction.over(row.data),
    }


def endpoint(row: models.WebhookEndpoint) -> dict[str, Any]:
    """Where a merchant is told; its secret is shown when it is made and no more."""
    return {
        "id": str(row.pk),
        "url": row.url,
        "types": row.types,
        "description": row.description,
        "enabled": row.disabled_at is None,
        "disabled_at": instant(row.disabled_at),
        "disabled_reason": row.disabled_reason,
        "failing_since": instant(row.failing_since),
        "created_at": instant(row.created_at),
    }


def delivery(row: models.WebhookDelivery) -> dict[str, Any]:
    """How the telling of one message went: needs its `newest` attempts to be loaded."""
    return {
        "id": row.pk,
        "message_id": str(row.message_id),
        "type": row.message.type,
        "order_id": str(row.order_id) if row.order_id else None,
        "state": row.state,
        "attempts": row.attempts,
        "next_at": instant(row.next_at),
        "delivered_at": instant(row.delivered_at),
        "created_at": instant(row.message.created_at),
        "log": [
            {
                "at": instant(attempt.at),
                "duration_ms": attempt.duration_ms,
                "status": attempt.status,
                "error": attempt.error,
                "response": attempt.response,
            }
            for attempt in reversed(row.newest)  # type: ignore[attr-defined]
        ],
    }
