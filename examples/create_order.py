"""An order takes part of its customer's credit; where that leaves little, a person looks at it first.

After the saga "Create Order" of Eventuate's "Eventuate Tram Sagas Customers and Orders".
"""

from typing import Any

from django.db import models, transaction

from sagas import DAY, HOUR, Approval, Retry, Saga, Step, engine
from sagas.models import SagaInstance


class CreditRefused(Exception):
    """The customer has no credit for it. Asking again will not change that."""


def create_order(*, customer: str, total: dict[str, Any]) -> "Order":
    """Write a pending order, and begin its saga in the same transaction.

    Arguments:
        customer: the customer's name.
        total: `amount` in minor units, and `currency`.
    """
    with transaction.atomic():
        order = Order.objects.create(
            customer=customer, total_amount=total["amount"], currency=total["currency"]
        )
        engine.begin(CREATE_ORDER, key=str(order.pk), inputs={"customer": customer, "total": total})
    return order


def reserve_credit(*, key: str, customer: str, total: dict[str, Any]) -> dict[str, bool]:
    """Take the total from the customer's credit.

    Raises:
        CreditRefused: there is no such customer, or too little is left.
    """
    owner = Customer.objects.select_for_update().filter(name=customer, currency=total["currency"]).first()
    if owner is None:
        raise CreditRefused(f"There is no credit in {total['currency']}.")
    taken = owner.credits.filter(released=False).aggregate(sum=models.Sum("amount"))["sum"] or 0
    left = owner.limit_amount - taken - total["amount"]
    if left < 0:
        raise CreditRefused("The credit limit is exceeded.")
    Credit.objects.create(key=key, customer=owner, amount=total["amount"])
    return {"strained": left * 10 < owner.limit_amount}


def release_credit(*, key: str) -> None:
    """Give the credit back."""
    Credit.objects.filter(key=key).update(released=True)


def approve(*, key: str) -> None:
    """The order stands: its credit is taken, and whoever had to agree has."""
    Order.objects.filter(pk=key).update(status="approved")


def reject(*, key: str) -> None:
    """The order does not stand. Its customer may read why."""
    saga = SagaInstance.objects.filter(name=CREATE_ORDER.name, key=key).latest("created_at")
    why = saga.failure["message"] if saga.failure else ""
    Order.objects.filter(pk=key).update(status="rejected", reason=why)


CREATE_ORDER = Saga(
    name="create-order",
    inputs=["customer", "total"],
    personal=["customer"],
    steps=[
        Step("reserve-credit", reserve_credit, undo=release_credit,
             inputs=["customer", "total"], outputs=["strained"]),
        Approval("review-order", when="strained", permission="examples.review_order",
                 limit=2 * DAY, remind=[4 * HOUR], lapse="refuse"),
    ],
    retry=Retry(on=[]),
    refused=[CreditRefused],
    deadline=3 * DAY,
    on_completed=approve,
    on_compensated=reject,
)  # fmt: skip


class Customer(models.Model):
    """Somebody who may owe us so much. In life this, and its functions, belong to another service."""

    name = models.CharField(primary_key=True, max_length=100)
    limit_amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)


class Credit(models.Model):
    """What an order has taken of it."""

    key = models.CharField(primary_key=True, max_length=100)
    customer = models.ForeignKey(Customer, models.CASCADE, related_name="credits")
    amount = models.BigIntegerField()
    released = models.BooleanField(default=False)


class Order(models.Model):
    """An order: pending until its saga has ended."""

    customer = models.CharField(max_length=100)
    total_amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    status = models.CharField(max_length=10, default="pending")
    reason = models.TextField(blank=True, default="")

    class Meta:
        permissions = [("review_order", "Can approve an order that strains a credit, or refuse it")]
