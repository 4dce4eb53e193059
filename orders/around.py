"""An order with all that became of it, for the pages of its rows.

Its story, its money, its parcels, and what else its customer ordered.
"""

import dataclasses
import uuid
from collections.abc import Sequence

from django.utils.safestring import SafeString

from backoffice import money
from orders import models
from sagas.console import marks, panels

APPS = frozenset({"orders", "payments", "inventory", "invoicing", "shipping"})
"""Whose rows belong to an order."""

OTHERS_SHOWN = 6
"""So many of a customer's other orders are named; the list of orders finds the rest by the tax id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other:
    """Another order of the same customer."""

    order: models.Order
    badge: SafeString
    total: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Around:
    """What the page of an order, a payment, an invoice or a shipment shows above the row itself."""

    order: models.Order
    total: str
    story: panels.Story
    others: Sequence[Other]
    more: bool
    """Whether the customer has ordered more than is named."""

    shows_customer: bool
    """Whether the viewer may see whose it is."""


def of(saga_id: uuid.UUID, *, customer: bool) -> Around | None:
    """The order of this saga, in a fixed number of statements; None where no order has it.

    Arguments:
        saga_id: the order's saga, wherever that is.
        customer: whether the viewer may see whose it is, and what else they ordered.
    """
    order = models.Order.objects.filter(saga_id=saga_id).first()
    story = panels.story(saga_id) if order is not None else None
    if order is None or story is None:
        return None
    others = _others(order) if customer and order.erased_at is None else []
    return Around(
        order=order,
        total=money.written(order.total_amount, order.currency),
        story=story,
        others=others[:OTHERS_SHOWN],
        more=len(others) > OTHERS_SHOWN,
        shows_customer=customer,
    )


def _others(order: models.Order) -> list[Other]:
    same = models.Order.objects.filter(customer_tax_id=order.customer_tax_id, erased_at=None)
    # By the moment and not by the key: with the key's index PostgreSQL might go through everybody's orders.
    rows = same.exclude(pk=order.pk).order_by("-created_at").prefetch_related("saga")
    return [
        Other(
            order=row,
            badge=marks.badge("closed" if row.saga.closed_at else row.saga.state),
            total=money.written(row.total_amount, row.currency),
        )
        for row in rows[: OTHERS_SHOWN + 1]
    ]
