"""What the stock's books say, for an audit. Plain data; nothing is changed."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import Count, F, Q, Sum, functions

from inventory import models
from inventory.models import Kind, Status

Finding = tuple[str, str]
"""A key or a SKU, and a sentence about what is wrong with it."""


def positions(*, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What each reservation comes to, by key. `in_effect`: whether goods of it are held or gone."""
    rows = models.Reservation.objects.filter(key__in=list(keys))
    units = Sum("movements__quantity", filter=Q(movements__kind=Kind.RESERVED), default=0)
    return {
        row.key: {"in_effect": row.status != Status.RELEASED, "status": row.status, "units": row.units}
        for row in rows.annotate(units=units)
    }


def within() -> Iterator[Finding]:
    """Where the books contradict themselves; at no time, not even while all are at work, may they (I2)."""
    booked = {
        f"booked_{kind}": functions.Coalesce(Sum("movements__quantity", filter=Q(movements__kind=kind)), 0)
        for kind in Kind
    }
    right = {
        "available": F("booked_received") - F("booked_reserved") + F("booked_released"),
        "reserved": F("booked_reserved") - F("booked_released") - F("booked_shipped"),
        "shipped": F("booked_shipped"),
    }
    for product in models.Product.objects.annotate(**booked).exclude(**right).order_by("sku"):
        yield product.sku, "Its movements do not add up to what is available, reserved and shipped."

    moved = {
        f"moved_{kind}": Count("movements", filter=Q(movements__kind=kind))
        for kind in (Kind.RESERVED, Kind.RELEASED, Kind.SHIPPED)
    }
    fits = (
        Q(status=Status.HELD, moved_released=0, moved_shipped=0)
        | Q(status=Status.RELEASED, moved_released=F("moved_reserved"), moved_shipped=0)
        | Q(status=Status.SHIPPED, moved_released=0, moved_shipped=F("moved_reserved"))
    )
    for reservation in models.Reservation.objects.annotate(**moved).exclude(fits).order_by("key"):
        yield reservation.key, f"It is {reservation.status}, and its movements say otherwise."
