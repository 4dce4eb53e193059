"""What the shipments' books say, for whoever audits them. Plain data; nothing is changed, nobody is asked."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from shipping import models
from shipping.models import Status

Finding = tuple[str, str]
"""A key, and a sentence about what is wrong with it."""

NOT_AT_THE_CARRIER = frozenset({Status.REQUESTED, Status.REFUSED, Status.RECALLED})
"""A parcel that was recalled before it was booked leaves no trace in the carrier's books."""


def positions(*, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What each shipment comes to, by key. `in_effect`: whether a parcel is, or may be, anywhere but here."""
    rows = models.Shipment.objects.filter(key__in=list(keys))
    return {
        row.key: {
            "in_effect": row.status not in models.UNDONE and row.status != Status.REFUSED,
            "status": row.status,
            "tracking": row.tracking,
        }
        for row in rows
    }


def within() -> Iterator[Finding]:
    """Where the books contradict themselves; at no time, not even while all are at work, may they."""
    for row in models.Shipment.objects.prefetch_related("tracking_events").order_by("id").iterator(1000):
        reported = [models.NEWNESS[Status(event.status)] for event in row.tracking_events.all()]
        if reported and models.NEWNESS[Status(row.status)] != max(reported):
            yield row.key, f"It is {row.status}, and its tracking says otherwise."


def against(shipments: Iterable[Mapping[str, Any]], *, keys: Collection[str]) -> Iterator[Finding]:
    """Where these keys differ from the carrier's books, read before ours."""
    theirs = {shipment["key"]: shipment["status"] for shipment in shipments}
    ours = positions(keys={*keys, *theirs})
    for key in sorted(theirs.keys() - ours.keys()):
        yield key, "The carrier has a parcel that nobody here booked."
    for key in sorted(set(keys) & ours.keys()):
        known, said = ours[key]["status"], theirs.get(key)
        if known != said and not (said is None and known in NOT_AT_THE_CARRIER):
            yield key, f"It is {known} here, and {said or 'not there'} at the carrier."
