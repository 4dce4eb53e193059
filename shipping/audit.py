"""What the shipments' books say, for an audit. Plain data; nothing is changed and no provider is asked."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from django.db.models import Case, F, Max, When

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
    reported = Max(_newness("tracking_events__status"))
    # One statement, hence one moment: a callback may come at any time.
    shipments = models.Shipment.objects.annotate(told=_newness("status"), reported=reported)
    for row in shipments.exclude(reported=None).exclude(told=F("reported")).order_by("id"):
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


def _newness(field: str) -> Case:
    return Case(*(When(**{field: status}, then=newness) for status, newness in models.NEWNESS.items()))
