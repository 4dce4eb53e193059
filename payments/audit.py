"""What the payments' books say, for an audit. Plain data; nothing is changed and no provider is asked."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from django.db.models import F, Q, Sum, functions

from payments import models
from payments.models import Kind

Finding = tuple[str, str]
"""A key, and a sentence about what is wrong with it."""


def positions(*, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What each payment comes to, by key. `in_effect`: whether money of it is, or may be, ours or claimed."""
    rows = models.Payment.objects.filter(key__in=list(keys))
    return {
        row.key: {
            "in_effect": row.status not in models.AT_REST or row.captured != row.refunded,
            "status": row.status,
            "amount": row.amount,
            "captured": row.captured,
            "refunded": row.refunded,
            "currency": row.held_in,
        }
        for row in rows
    }


def within() -> Iterator[Finding]:
    """Where the books contradict themselves; at no time, not even while all are at work, may they."""
    payments = models.Payment.objects.annotate(
        booked_capture=_booked(Kind.CAPTURE), booked_refund=_booked(Kind.REFUND)
    )
    for row in payments.exclude(booked_capture=F("captured"), booked_refund=F("refunded")).order_by("id"):
        yield row.key, "Its ledger does not add up to what was captured and refunded."
    for row in payments.exclude(mismatch="").exclude(captured=F("refunded")).order_by("id"):
        yield row.key, f"The bank holds money, and its word differs from what was asked: {row.mismatch}."
    kept = payments.exclude(captured=F("refunded"))
    for row in kept.filter(amount__gt=0, captured__gt=F("amount")).order_by("id"):
        yield row.key, f"{row.captured} were captured where {row.amount} were to be paid."


def against(charges: Iterable[Mapping[str, Any]], *, keys: Collection[str]) -> Iterator[Finding]:
    """Where these keys differ from the bank's books, read before ours: nobody charges what we did not ask."""
    theirs = {charge["key"]: charge for charge in charges}
    ours = positions(keys={*keys, *theirs})
    for key in sorted(theirs.keys() - ours.keys()):
        yield key, "The bank has a charge that nobody here asked for."
    for key in sorted(set(keys) & ours.keys()):
        known = (ours[key]["captured"], ours[key]["refunded"])
        said = (theirs[key]["captured"], theirs[key]["refunded"]) if key in theirs else (0, 0)
        if known != said:
            yield key, "captured {} and refunded {} here, {} and {} at the bank.".format(*known, *said)


def _booked(kind: Kind) -> functions.Coalesce:
    return functions.Coalesce(Sum("operations__amount", filter=Q(operations__kind=kind)), 0)
