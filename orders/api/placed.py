"""What an order comes to for who reads it: put together once, and described in `shapes`."""

import datetime
from typing import Any

from django.utils.translation import gettext, gettext_noop

from invoicing import services as invoicing
from orders import customer_messages, models, steps
from payments import services as payments
from sagas import Saga, engine, errors
from sagas import models as saga_models
from sagas.declaration.states import Direction, SagaState, StepState
from shipping import services as shipping

Step = saga_models.StepInstance

STATUSES = {
    StepState.PENDING: ("pending", "pending", "pending"),
    StepState.RUNNING: ("pending", "pending", "pending"),
    StepState.WAITING: ("awaiting_payment", "pending", "in_transit"),
    StepState.DONE: ("paid", "issued", "delivered"),
    StepState.FAILED: ("failed", "failed", "failed"),
    StepState.UNKNOWN: ("unconfirmed", "unconfirmed", "unconfirmed"),
    StepState.UNDOING: ("refunding", "cancelling", "recalling"),
    StepState.UNDONE: ("refunded", "cancelled", "recalled"),
    StepState.UNDO_FAILED: ("refund_failed", "cancel_failed", "recall_failed"),
    StepState.SKIPPED: ("skipped", "skipped", "skipped"),
}
"""What a step's state is called where the step takes the payment, issues the invoice, delivers the order."""

PAYMENT, INVOICE, SHIPMENT = (
    {StepState(state): names[part] for state, names in STATUSES.items()} for part in range(3)
)


class Placed:
    """An order: needs `saga`, `saga.steps` and `lines` to be loaded."""

    def __init__(self, row: models.Order) -> None:
        self.row = row
        # django-stubs takes the annotated manager for a descriptor of its own.
        self.steps: list[Step] = list(row.saga.steps.all())  # type: ignore[arg-type]
        does = steps.by_action(self.steps)
        # None where the order's saga has no such step, and where nothing of the order ships.
        self.payment = Payment.of(row, does.get(payments.charge))
        self.invoice = Invoice.of(row, does.get(invoicing.issue))
        self.ships = any(line.ships for line in row.lines.all())
        self.shipment = Part.of(row, does.get(shipping.dispatch) if self.ships else None)
        self.total = {"amount": row.total_amount, "currency": row.currency}
        self.failure = customer_messages.failure(row.saga.failure)
        # The saga's row is written first, in the same transaction.
        self.updated_at = max(row.saga.updated_at, row.created_at)
        delivery = does.get(shipping.dispatch)
        delivered = self.ships and (delivery is None or delivery.state != StepState.SKIPPED)
        self.next = dict(zip(("message", "at"), _next(row, self.steps, delivered=delivered), strict=True))

    @property
    def undoing(self) -> list[str]:
        """The steps that are or will be undone, in the order of undoing."""
        declared = _declaration(self.row.saga)
        begun = [step for step in self.steps if step.begun and step.state != StepState.UNDONE]
        # What has no undo, an approval for one, is not undone.
        return [
            step.name
            for step in reversed(begun)
            if declared is None or declared.all_steps[step.position].undoable
        ]


class Part:
    """What one step did for an order: its delivery, unless another class says otherwise."""

    statuses = SHIPMENT

    def __init__(self, row: models.Order, step: Step) -> None:
        self.row = row
        self.step = step
        self.facts: dict[str, Any] = step.facts or {}
        # A PIX code that was struck out: there is none to be paid with, but it was a PIX.
        self.shown = {name: fact for name, fact in self.facts.items() if fact != engine.STRUCK}
        failure = row.saga.failure or {}
        # The first failure is kept (A2).
        self.failed = failure if failure.get("step") == step.name else {}
        self.status = self.special() or self.statuses[StepState(step.state)]

    @classmethod
    def of(cls, row: models.Order, step: Step | None) -> "Part | None":
        """None where there is no step."""
        return cls(row, step) if step else None

    def special(self) -> str:
        """What it is called beyond the step's state; empty where that says it all."""
        return ""


class Payment(Part):
    """How it is paid; for a PIX, the code to pay with."""

    statuses = PAYMENT

    def special(self) -> str:
        """Declined or expired, where the order failed here; cancelled, where there was nothing to return."""
        ran_out = self.failed.get("clock") == "wait" and self.row.payment_method == models.PaymentMethod.PIX
        if ran_out or self.failed.get("kind") == "refused":
            return "expired" if self.facts.get("pix") else "declined"  # A PIX could be paid, and was not.
        return "cancelled" if self.step.state == StepState.UNDONE and not self.facts.get("paid") else ""


class Invoice(Part):
    """The invoice; its numbers are null until there is one."""

    statuses = INVOICE

    def special(self) -> str:
        """Rejected, where the order failed here."""
        return "rejected" if self.failed.get("kind") == "refused" else ""


def _next(row: models.Order, rows: list[Step], *, delivered: bool) -> tuple[str, datetime.datetime | None]:
    """What happens next, for those who wait: in words of their language, and when, where that is known."""
    instance = row.saga
    step = _telling(instance, rows)
    words = customer_messages.of_step(step.name)
    wake_at = step.wake_at if step.is_member else instance.wake_at
    match row.status:
        case models.Status.FULFILLED if delivered:
            return gettext("Nothing: the order is paid, invoiced and delivered."), None
        case models.Status.FULFILLED:
            return gettext("Nothing: the order is paid and invoiced, and has nothing to be delivered."), None
        case models.Status.CANCELLED:
            return gettext("Nothing: whatever had been done is undone."), None
        case models.Status.CLOSED:
            told = gettext(
                "Nothing: our staff ended the order by hand. Ask the shop about it, by its number %(number)s."
            )
            return told % {"number": row.number}, None
        case models.Status.ATTENTION:
            return gettext("The shop sees to it; nothing is lost."), None
        case models.Status.CANCELLING:
            return (
                gettext("We %(doing)s.") % {"doing": words.undoing},
                None if step.state == StepState.UNDOING else wake_at,
            )
    if instance.cancel_requested_at:
        return gettext("The order is cancelled as soon as the step at hand has ended."), None
    if instance.state == SagaState.RUNNING and instance.epoch == 0 and instance.in_line_for is None:
        return gettext("We start on the order then."), wake_at
    if step.state == StepState.WAITING:
        return (gettext(APPROVAL) if _asks_staff(instance, step) else words.waiting), step.wait_until
    if step.error and step.state == StepState.PENDING:
        return gettext("We try again to %(doing)s.") % {"doing": words.doing}, wake_at
    return gettext("We %(doing)s.") % {"doing": words.doing}, None


def _telling(instance: saga_models.SagaInstance, rows: list[Step]) -> Step:
    """The step at which the saga is; of several that are done at once, the one that is told of.

    What somebody has to do comes first, then what is tried again, and then the first that is not done with.
    """
    position = min(instance.position, len(rows) - 1)
    declared = _declaration(instance)
    stage = declared.stage_at(position) if declared is not None else None
    if stage is None or stage.parallel is None:
        return rows[position]
    members = rows[stage.first : stage.last + 1]
    if instance.direction == Direction.BACKWARD:
        left = [row for row in reversed(members) if row.begun and row.state != StepState.UNDONE]
        return max(left, key=lambda row: row.state == StepState.UNDOING, default=members[0])
    left = [row for row in members if row.state not in (StepState.DONE, StepState.SKIPPED)]
    return max(left, key=lambda row: (row.state == StepState.WAITING, bool(row.error)), default=members[0])


APPROVAL = gettext_noop("Somebody at the shop looks at the order before it goes on.")
"""What is waited for where that is a person's yes, and the step has no words of its own."""


def _asks_staff(instance: saga_models.SagaInstance, step: Step) -> bool:
    declared = _declaration(instance)
    of_people = declared is not None and not declared.all_steps[step.position].has_worker
    return of_people and step.name not in customer_messages.STEPS


def _declaration(instance: saga_models.SagaInstance) -> Saga | None:
    """What the saga began with; None where the code no longer has it."""
    try:
        return instance.definition
    except errors.UnknownSaga:
        return None
