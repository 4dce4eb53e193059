"""Reading orders, a fixed number of statements each."""

import datetime
import uuid
from collections.abc import Mapping, Set
from typing import Any

from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet, functions, prefetch_related_objects

from orders import models
from sagas import models as saga_models
from sagas import reading

CLOCKS_DIFFER = datetime.timedelta(days=1)


def orders() -> QuerySet[models.Order]:
    """Orders with all that is shown of them: four statements, however many there are.

    One more reads the sagas that have gone to the archive, where there are such.
    """
    return models.Order.objects.prefetch_related(*_parts())


def load(order: models.Order) -> models.Order:
    """The order with all that is shown of it; itself and its saga were read or written just now."""
    prefetch_related_objects([order], *_parts())
    return order


def _parts() -> "list[str | Prefetch[Any]]":
    steps = saga_models.StepInstance.objects.order_by("position")
    return [
        Prefetch("lines", models.OrderLine.objects.order_by("position")),
        "saga",
        Prefetch("saga__steps", steps),
    ]


def chosen(rows: QuerySet[models.Order], wanted: Mapping[str, Any]) -> QuerySet[models.Order]:
    """Those of the orders that a query asks for."""
    if "status" in wanted:
        rows = rows.filter(_has_status({models.Status(status) for status in wanted["status"]}))
    if "reference" in wanted:
        rows = rows.filter(reference=wanted["reference"])
    if "number" in wanted:
        rows = rows.filter(number=wanted["number"].upper())
    # Keys sort by the time at which they were made, give or take the clocks' difference: with these
    # bounds a page of an old day is found without reading all that came after it.
    if "created_from" in wanted:
        at = wanted["created_from"]
        rows = rows.filter(created_at__gte=at, pk__gte=_earliest_key(at - CLOCKS_DIFFER))
    if "created_to" in wanted:
        at = wanted["created_to"]
        rows = rows.filter(created_at__lt=at, pk__lt=_earliest_key(at + CLOCKS_DIFFER))
    if "updated_from" in wanted:
        rows = _updated_from(rows, wanted["updated_from"])
    return rows


def named(rows: QuerySet[models.Order], name: uuid.UUID | str) -> QuerySet[models.Order]:
    """The one of the orders that has this id, or this number."""
    return rows.filter(number=name) if isinstance(name, str) else rows.filter(pk=name)


ENDED_AT = {
    models.Status.FULFILLED: "fulfilled_at",
    models.Status.CANCELLED: "cancelled_at",
    models.Status.CLOSED: "closed_at",
}
"""An order knows its own end, which its saga's last transaction wrote; the saga may be in the archive."""

assert set(ENDED_AT) == models.FINAL, "a final status without its moment"


def _has_status(statuses: Set[models.Status]) -> Q:
    """Whether an order has one of these."""
    states = [models.SAGA_STATE_OF[status] for status in statuses - models.FINAL]
    # Not by a join, which those whose saga is in the archive would not survive.
    live = saga_models.SagaInstance.objects.filter(state__in=states, closed_at=None)
    wanted = Q(saga__in=live.values("pk")) if states else Q()
    for status in statuses & models.FINAL:
        wanted |= Q(**{f"{ENDED_AT[status]}__isnull": False})
    return wanted


COMMITTED_WITHIN = datetime.timedelta(minutes=1)
"""An order's end has the time at which its transaction began, and its saga's last change a later one."""


def _updated_from(rows: QuerySet[models.Order], at: datetime.datetime) -> QuerySet[models.Order]:
    """Those of the orders that changed at this time or later.

    When one changed last is known to its saga's row, and to no index: it changes with every step. So they
    are looked for among those that go on, and those that have ended since, which one index holds.
    """
    ended = functions.Coalesce(*ENDED_AT.values())
    saga = saga_models.SagaInstance.objects.filter(pk=OuterRef("saga_id"))
    return (
        rows.alias(ended_at=ended)
        .filter(Q(ended_at=None) | Q(ended_at__gte=at - COMMITTED_WITHIN))
        .filter(Q(Exists(saga.filter(updated_at__gte=at))) | Q(ended_at__gte=at) | Q(created_at__gte=at))
    )


def access_key(step_key: str) -> str | None:
    """The access key of the invoice in the saga that a step's key belongs to; None where there is none."""
    try:
        saga_id = uuid.UUID(step_key.partition(".")[0])
    except ValueError:
        return None
    saga = reading.in_bulk([saga_id]).get(saga_id)
    return saga.facts.get("access_key") if saga is not None else None


def _earliest_key(at: datetime.datetime) -> uuid.UUID:
    """Lower than every key of version 7 that was made at that time or later."""
    return uuid.UUID(int=max(0, int(at.timestamp() * 1000)) << 80)
