"""The order's own part in its saga: how it ends. Each runs in the transaction that ends the saga."""

from django.db.models import functions

from inventory import services as inventory
from orders import models


def fulfil(*, key: str) -> None:
    """Paid, invoiced and, where anything ships, delivered: what was reserved has left the house."""
    order = models.Order.objects.select_related("saga").get(pk=key)
    for step in order.saga.definition.all_steps:
        if step.action is inventory.reserve:
            inventory.ship(key=f"{order.saga_id}.{step.name}")
    models.Order.objects.filter(pk=key, fulfilled_at=None).update(fulfilled_at=functions.Now())


def cancel(*, key: str) -> None:
    """Everything is undone."""
    models.Order.objects.filter(pk=key, cancelled_at=None).update(cancelled_at=functions.Now())


def close(*, key: str) -> None:
    """An operator has put its saga aside: what was left of it was settled by hand."""
    models.Order.objects.filter(pk=key, closed_at=None).update(closed_at=functions.Now())
