"""What the invoices' books say, for an audit. Plain data; nothing is changed and no provider is asked."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from django.db import connection
from django.db.models import Q

from invoicing import access_key, models
from invoicing.models import Status

Finding = tuple[str, str]
"""A key or a number, and a sentence about what is wrong with it."""

VALID_AT_THE_AUTHORITY = frozenset({Status.AUTHORIZED, Status.RETURNED})


def positions(*, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What each invoice comes to, by key. `in_effect`: whether it is, or may be, valid and not taken back."""
    rows = models.Invoice.objects.filter(key__in=list(keys))
    return {
        row.key: {
            "in_effect": row.status not in models.UNDONE and row.status != Status.REJECTED,
            "status": row.status,
            "series": row.series_id,
            "number": row.number,
            "amount": row.amount,
            "currency": row.currency,
        }
        for row in rows
    }


def within() -> Iterator[Finding]:
    """Where the books contradict themselves; at no time, not even while all are at work, may they."""
    for series, number in _gaps():
        yield f"{series}/{number}", "No document accounts for this number (M4)."
    for row in models.Invoice.objects.exclude(access_key="").only("key", "access_key").iterator():
        if not access_key.is_valid(row.access_key):
            yield row.key, "Its access key has a wrong check digit."
    for row in models.Invoice.objects.filter(status=Status.AUTHORIZED).exclude(mismatch="").order_by("id"):
        yield row.key, f"It is valid, and the authority's word differs from what was asked: {row.mismatch}."
    unreturned = models.Invoice.objects.filter(status=Status.RETURNED).exclude(
        return_note__status=Status.AUTHORIZED
    )
    for row in unreturned.order_by("id"):
        yield row.key, "It counts as returned, and no authorised return note takes it back."


def against(invoices: Iterable[Mapping[str, Any]], *, keys: Collection[str]) -> Iterator[Finding]:
    """Where these keys, or their return notes, differ from the authority's books, read before ours."""
    theirs = {invoice["key"]: invoice for invoice in invoices}
    rows = models.Invoice.objects.filter(
        Q(key__in={*keys, *theirs}) | Q(references__key__in=list(keys))
    ).select_related("references")
    ours = {row.key: row for row in rows}
    for key in sorted(theirs.keys() - ours.keys()):
        yield key, "The authority has an invoice that nobody here asked for."
    for key, row in sorted(ours.items()):
        if key not in keys and (row.references is None or row.references.key not in keys):
            continue
        said = theirs[key]["status"] if key in theirs else "not there"
        if said != _expected(row):
            yield key, f"It is {row.status} here, and {said} at the authority."
        elif key in theirs and theirs[key]["number"] != row.number:
            yield key, f"It is number {row.number} here, and {theirs[key]['number']} at the authority."


def _expected(row: models.Invoice) -> str:
    if row.status in VALID_AT_THE_AUTHORITY:
        return "authorized"
    return "cancelled" if row.status == Status.CANCELLED else "not there"


def _gaps() -> list[tuple[int, int]]:
    """Numbers that were given out and that no document has. One statement, hence one moment."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT series.number, given.number
            FROM invoicing_series AS series
            CROSS JOIN LATERAL generate_series(1, series.next_number - 1) AS given (number)
            LEFT JOIN invoicing_invoice AS invoice
                ON invoice.series_id = series.number AND invoice.number = given.number
            WHERE invoice.id IS NULL
            ORDER BY 1, 2
            """
        )
        return list(cursor.fetchall())
