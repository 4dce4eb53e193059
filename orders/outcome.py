"""The order's own part in its saga: how it ends. Each runs in the transaction that ends the saga."""

import datetime
import functools
import logging

from django.db import transaction
from django.db.models import functions

from inventory import services as inventory
from orders import customer_messages, models

logger = logging.getLogger(__name__)


def fulfil(*, key: str) -> None:
    """Paid, invoiced and, where anything ships, delivered: what was reserved has left the house."""
    order = models.Order.objects.select_related("saga").get(pk=key)
    for step in order.saga.definition.all_steps:
        if step.action is inventory.reserve:
            inventory.ship(key=f"{order.saga_id}.{step.name}")
    models.Order.objects.filter(pk=key, fulfilled_at=None).update(fulfilled_at=functions.Now())
    _log(order, "fulfilled")


def cancel(*, key: str) -> None:
    """Everything is undone."""
    models.Order.objects.filter(pk=key, cancelled_at=None).update(cancelled_at=functions.Now())
    for order in models.Order.objects.select_related("saga").filter(pk=key):
        _log(order, "cancelled")


def call_a_person(*, key: str) -> None:
    """The engine cannot go on by itself: the order waits for a person."""
    for order in models.Order.objects.select_related("saga").filter(pk=key):
        why = (order.saga.attention or {}).get("why", "")
        # The engine's own log says as much, of a saga's id.
        transaction.on_commit(functools.partial(logger.warning, "%s needs a person: %s", order.number, why))


def close(*, key: str) -> None:
    """An operator has put its saga aside: what was left of it was settled by hand."""
    models.Order.objects.filter(pk=key, closed_at=None).update(closed_at=functions.Now())
    for order in models.Order.objects.select_related("saga").filter(pk=key):
        _log(order, "put aside")


def _log(order: models.Order, ended: str) -> None:
    """A line for those who look on, once it is so: how the order ended, after how long, and why."""
    told = f"{order.number} {ended}"
    if order.saga.finished_at is not None:
        told += f" in {_length(order.saga.finished_at - order.created_at)}"
    # The sentence for customers: a provider's own words, or what somebody typed, may name people.
    if failure := customer_messages.failure(order.saga.failure):
        told += f": {failure['message']}"
    transaction.on_commit(functools.partial(logger.info, "%s", told))


def _length(took: datetime.timedelta) -> str:
    seconds = took.total_seconds()
    if seconds < 120:
        return f"{seconds:.1f} s"
    days, seconds = divmod(round(seconds), 86_400)
    parts = ((days, "d"), (seconds // 3600, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
