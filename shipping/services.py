"""Shipments: the functions that other packages may call.

Every function takes its caller's `key` and may be called any number of times with it, in any order: the first
call acts, the others find it done (E1). An undo may come before its action, which is then refused (E4, E5).
None of them may be called inside a transaction: what they intend is committed before the carrier
hears of it, and what it answered is committed after.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import functions

from providers import agreement, callbacks, intents
from shipping import gateway, models
from shipping.errors import AccessDenied, BadCallback, Mismatch, Refused, Unavailable, Unknown
from shipping.models import Status

__all__ = [
    "AccessDenied",
    "BadCallback",
    "Callback",
    "Mismatch",
    "Refused",
    "Unavailable",
    "Unknown",
    "ask",
    "dispatch",
    "look_up",
    "read_callback",
    "recall",
    "record_callback",
    "strike",
]

ACTION = "dispatch"


def dispatch(
    *, key: str, address: Mapping[str, str], lines: Iterable[Mapping[str, Any]], access_key: str
) -> dict[str, Any]:
    """Have the goods brought to the address: the lines that ship, which is all that do not say otherwise.

    1. Write the intent down; leave, if the key has its answer already.
    2. Book with the carrier. Of the address it needs the postal code; nothing of it is kept here (A3).
    3. Hold what it said against what was asked, and write it down. If the undo came meanwhile, undo at
       once (E3).

    Raises:
        Refused: the carrier does not take it or could not deliver it, or the key was undone.
        Unavailable: nothing happened.
        Unknown: it may be booked.
        Mismatch: something was booked, and not what was asked.
    """
    # Each line is packed by itself.
    parcels = sum(line.get("ships", True) for line in lines)
    row, asked_before = _begin(key=key, access_key=access_key, parcels=parcels)
    if row.status == Status.REQUESTED or not asked_before:
        try:
            parcel = gateway.chosen().book(
                key=key, postal_code=address["postal_code"], reference=access_key, parcels=row.parcels
            )
        except Refused as refusal:
            _refuse(key=key, code=refusal.code)
            raise
        if not _settled(row, parcel):
            row, _ = _record(key=key, parcel=parcel, source=ACTION)
        if row.undo_requested_at:
            recall(key=key)
    return _stands(row)


def recall(*, key: str) -> dict[str, Any]:
    """Withdraw the booking, have the parcel brought back, or forbid what never came: whichever is right.

    1. Leave the tombstone first, so that a booking under way finds it (E3).
    2. Recall it from the carrier, which knows where it is and forbids what it has never heard of.
    3. Write down what was undone.

    Raises:
        Refused: it is delivered; a person must get it back.
        Unavailable: not undone yet.
        Unknown: it may be undone.
        Mismatch: the carrier speaks of another shipment.
    """
    row = _forbid(key=key)
    if not row.undone_at:
        parcel = gateway.chosen().recall(key=key)
        if differs := _not_ours(row, parcel):
            _record(key=key, parcel=parcel, source="recall")
            raise _mismatch(differs)
        row, _ = _record(key=key, parcel=parcel, source="recall")
    if not row.undone_at:
        raise Unavailable("The carrier has begun to bring it back and is not done yet.")
    return {"status": row.status, "tracking": row.tracking}


def ask(*, key: str) -> dict[str, Any] | None:
    """What the carrier knows of the shipment: its facts, or None if there never was one.

    Raises:
        Refused: there was one, and it will not arrive.
        Unavailable: the carrier could not be asked.
        Unknown: it did not answer.
        Mismatch: there is one, and it is not what was asked.
    """
    found = gateway.chosen().ask(key=key)
    if found is None:
        return None
    row, differs = _record(key=key, parcel=found, source="ask")
    if differs:
        raise _mismatch(differs)
    return _stands(row)


Callback = callbacks.Callback[gateway.Parcel]


def read_callback(*, headers: Mapping[str, str], body: bytes, now: datetime.datetime) -> Callback:
    """The carrier's callback, if it is the carrier's.

    Raises:
        BadCallback: it is not, or is too old, or makes no sense.
    """
    return callbacks.receive(
        headers=headers,
        body=body,
        now=now,
        secrets=settings.SHIPPING_WEBHOOK_SECRETS,
        understand=_callback,
        wanted="The type must be shipment and a status, the data a shipment",
    )


def record_callback(*, callback: Callback) -> Callback:
    """Write down what the carrier reports, in the caller's transaction; twice is once, late is in order.

    A parcel of which we know nothing is written down too: somebody will look for it.

    Returns:
        The callback as far as it may be believed. That goods will not arrive is believed of our own parcel
        even where it differs from what was asked.
    """
    row, differs = _record(
        key=callback.key,
        parcel=callback.report,
        source=callback.source,
        occurred_at=callback.occurred_at,
    )
    asked = bool(row.access_key or row.undo_requested_at)
    if asked and callback.refused is not None and not _not_ours(row, callback.report):
        return callback
    return callback.believed(asked=asked, differs=differs or row.mismatch, otherwise={"delivered": False})


def look_up(*, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The facts as they are known here, by key, without asking the carrier."""
    return {row.key: _facts(row) for row in models.Shipment.objects.filter(key__in=list(keys))}


def strike(*, keys: Iterable[str], names: Callable[[str], bool], mark: str) -> None:
    """Strike out the carrier's words that name the recipient, in the caller's transaction.

    There is no name and no address here. The tracking code stays, as the proof of delivery.

    Arguments:
        keys: of shipments at which nothing is under way any more; others than ours are passed over.
        names: whether a text names the person.
        mark: what is put in the place of such a text.
    """
    for row in models.Shipment.objects.select_for_update().filter(key__in=list(keys)).order_by("pk"):
        row.mismatch = mark if names(row.mismatch) else row.mismatch
        row.refusal = mark if names(row.refusal) else row.refusal
        row.save(update_fields=["mismatch", "refusal"])


def _callback(event: callbacks.Event) -> Callback:
    # The kind, not the data's status: it says what happened then, not where the parcel is now.
    parcel = gateway.read(event.data, status=event.kind.removeprefix("shipment."))
    return Callback(
        event_id=event.id,
        kind=event.kind,
        key=event.key,
        facts={"delivered": parcel.status == Status.DELIVERED, "tracking": parcel.tracking},
        refused=_WILL_NOT_ARRIVE.get(parcel.status),
        report=parcel,
        occurred_at=event.occurred_at,
    )


_UNDER_WAY = (Status.BOOKED, Status.HANDED_OVER)

_WILL_NOT_ARRIVE = {
    Status.FAILED: "The carrier could not deliver the parcel.",
    Status.RECALLED: "The parcel was recalled.",
    Status.RETURNED: "The parcel came back.",
}


def _begin(*, key: str, access_key: str, parcels: int) -> tuple[models.Shipment, bool]:
    """The intent to ship, durable before the carrier hears of it; and whether it was there before.

    Where it was not, and the carrier has told of the shipment all the same, what it told was held against
    nothing: it is asked.
    """
    intents.must_be_durable()
    row = models.Shipment(key=key, access_key=access_key, parcels=parcels)
    if intents.write(row):
        return row, False
    with transaction.atomic(durable=True):
        row = _locked(key=key)
        asked_before = bool(row.access_key)
        if not asked_before and not row.undo_requested_at and row.status not in _UNDER_WAY:
            # An end that was told of before anything was asked is not believed; the carrier is asked.
            row.status = Status.REQUESTED.value
        _refuse_if_over(row)
        if not asked_before:
            # A callback came before us, and could not know what we were about to ask.
            row.access_key, row.parcels, row.tracking = access_key, parcels, ""
            row.save(update_fields=["access_key", "parcels", "tracking", "status"])
        if row.access_key != access_key:
            raise ValueError(f"{key} was used for another shipment.")
    return row, asked_before


def _refuse(*, key: str, code: str) -> None:
    models.Shipment.objects.filter(key=key, status=Status.REQUESTED).update(
        status=Status.REFUSED, refusal=code, updated_at=functions.Now()
    )


def _forbid(*, key: str) -> models.Shipment:
    return intents.forbid(models.Shipment(key=key, undo_requested_at=functions.Now()))


def _settled(row: models.Shipment, parcel: gateway.Parcel) -> bool:
    """Write down that the carrier booked just what was asked, if nothing was written since; whether it is so.

    Nearly every booking ends here: in one statement, which changes the row only if it is still as it was
    before the carrier was asked, and the tracking with it. Whatever is not so plain is for `_record`, which
    locks the row and reads it: an answer that differs, an undo or a callback that came meanwhile.
    """
    if parcel.status not in _UNDER_WAY or _not_ours(row, parcel) or _disagreement(row, parcel):
        return False
    told = {"status": parcel.status.value, "tracking": parcel.tracking}
    with connection.cursor() as cursor:
        # The ORM has no words for two tables in one statement.
        cursor.execute(
            """
            WITH shipment AS (
                UPDATE shipping_shipment
                SET status = %(status)s, tracking = %(tracking)s, updated_at = statement_timestamp()
                WHERE id = %(id)s AND status = 'requested' AND undo_requested_at IS NULL AND mismatch = ''
                    AND tracking = ''
                RETURNING id
            )
            INSERT INTO shipping_trackingevent (shipment_id, status, source)
            SELECT id, %(status)s, %(source)s FROM shipment
            ON CONFLICT DO NOTHING
            """,
            told | {"id": row.pk, "source": ACTION},
        )
        if not cursor.rowcount:
            return False
    row.status, row.tracking = told["status"], told["tracking"]
    return True


def _record(
    *, key: str, parcel: gateway.Parcel, source: str, occurred_at: datetime.datetime | None = None
) -> tuple[models.Shipment, str]:
    """Write down what the carrier said; the row follows only what is newer, the tracking keeps it all.

    What is about another shipment is kept as a mismatch and in no other way.

    Returns:
        The row, and where the carrier's statement differs from what was asked.
    """
    with transaction.atomic():
        row = _locked(key=key)
        if differs := _not_ours(row, parcel):
            row.mismatch, row.updated_at = differs, functions.Now()
            row.save(update_fields=["mismatch", "updated_at"])
            return row, differs
        differs = _disagreement(row, parcel)
        if parcel.parcels is not None or occurred_at is None:
            # An answer to a question of ours, or as good as one.
            row.mismatch = differs
        event = models.TrackingEvent(shipment=row, status=parcel.status, source=source)
        if occurred_at:
            event.occurred_at = occurred_at
        models.TrackingEvent.objects.bulk_create([event], ignore_conflicts=True)
        if models.NEWNESS[parcel.status] > models.NEWNESS[Status(row.status)]:
            row.status = parcel.status.value
        row.tracking = row.tracking or parcel.tracking
        if row.undo_requested_at:
            if parcel.status in models.UNDONE:
                row.undone_at = row.undone_at or functions.Now()
            elif source == ACTION:
                # It may have come after its undo had found nothing: that undo does not count (E3).
                row.undone_at = None
        row.updated_at = functions.Now()
        row.save()
    return row, differs


def _not_ours(row: models.Shipment, parcel: gateway.Parcel) -> str:
    """Why this cannot be about the shipment: it names another's key, invoice or tracking code."""
    pairs = {
        "key": (parcel.key, row.key),
        "reference": (parcel.reference, row.access_key),
        "tracking": (parcel.tracking, row.tracking),
    }
    known = {name: pair for name, pair in pairs.items() if all(pair)}
    return agreement.differences(
        {name: told for name, (told, _) in known.items()}, {name: ours for name, (_, ours) in known.items()}
    )


def _disagreement(row: models.Shipment, parcel: gateway.Parcel) -> str:
    """Where the shipment differs from what was asked; empty where it agrees, or nothing was asked."""
    if not row.access_key or parcel.parcels is None or parcel.status in models.UNDONE:
        return ""
    return agreement.differences({"parcels": parcel.parcels}, {"parcels": row.parcels})


def _mismatch(differs: str) -> Mismatch:
    return Mismatch(f"The carrier tells something else than was asked: {differs}.")


def _stands(row: models.Shipment) -> dict[str, Any]:
    """The facts of a shipment that stands.

    Raises:
        Refused: it does not: it was undone, refused, or could not be delivered.
        Mismatch: it is not what was asked.
    """
    _refuse_if_over(row)
    if row.mismatch:
        raise _mismatch(row.mismatch)
    return _facts(row)


def _refuse_if_over(row: models.Shipment) -> None:
    if row.undo_requested_at:
        raise Refused("This shipment was undone; one that comes after its undo is not booked.", code="undone")
    if row.status in _WILL_NOT_ARRIVE:
        raise Refused(_WILL_NOT_ARRIVE[Status(row.status)], code=row.status)
    if row.status == Status.REFUSED:
        raise Refused(f"The carrier does not take it: {row.refusal}.", code=row.refusal)


def _facts(row: models.Shipment) -> dict[str, Any]:
    delivered = row.status == Status.DELIVERED and not row.mismatch
    return {"delivered": delivered, "tracking": row.tracking}


def _locked(*, key: str) -> models.Shipment:
    """The row of that key, locked; written if there is none. Lock, then read (D7)."""
    row, _ = models.Shipment.objects.select_for_update().get_or_create(key=key)
    return row
