"""What an event of an order is called, and what is said of it, to those who are told outside.

Taken from what does not change any more, so that it says what was so then.
"""

from typing import Any

from orders import customer_messages, models
from sagas import models as saga_models
from sagas.declaration import states

ORDER_TYPES = {
    states.SagaState.RUNNING: "order.resumed",
    states.SagaState.COMPLETED: "order.fulfilled",
    states.SagaState.COMPENSATING: "order.cancelling",
    states.SagaState.COMPENSATED: "order.cancelled",
    states.SagaState.NEEDS_ATTENTION: "order.needs_attention",
}
PLACED = "order.placed"
CLOSED = "order.closed"
"""Its saga goes nowhere any more, so no state of it says so: an operator put it aside."""

COMPENSATE = {states.SagaState.COMPENSATING, states.SagaState.COMPENSATED}
STEP_TYPES = {state: f"saga.step.{state.value}" for state in states.StepState}
TYPES = [PLACED, *ORDER_TYPES.values(), CLOSED, *STEP_TYPES.values()]


def type_of(event: saga_models.Event) -> str:
    """One of `TYPES`, for an event that names a state."""
    if event.subject:
        return STEP_TYPES[states.StepState(event.to_state)]
    if event.kind == models.BEGINNING:
        return PLACED
    if event.kind == models.CLOSING:
        return CLOSED
    return ORDER_TYPES[states.SagaState(event.to_state)]


def data_of(event: saga_models.Event, order: models.Order) -> dict[str, Any]:
    """The order, and the step if the event is about one; what that waits for, or what went wrong with it."""
    data: dict[str, Any] = {
        "order": {
            "id": str(order.pk),
            "number": order.number,
            "reference": order.reference,
            "total": {"amount": order.total_amount, "currency": order.currency},
        }
    }
    if event.subject:
        names = {"name": event.subject, "from": event.from_state or None, "status": event.to_state}
        data["step"] = names | {"attempt": event.attempt}
        if message := customer_messages.waiting(event):
            data["step"]["message"] = message
        if error := customer_messages.of_event(event):
            data["step"]["error"] = error
    else:
        data["order"]["status"] = models.status_after(event)
        if event.to_state in COMPENSATE or event.kind == models.CLOSING:
            # The first failure stays what it is, so it is what it was then (A2).
            data["order"]["failure"] = customer_messages.failure(event.saga.failure)
    return data
