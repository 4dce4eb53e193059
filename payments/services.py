"""Payments: the functions that other packages may call.

Every function takes its caller's `key` and may be called any number of times with it, in any order: the first
call acts, the others find it done (E1). An undo may come before its action, which is then refused (E4, E5).
None of them may be called inside a transaction: what they intend is committed before the bank hears
of it, and what it answered is committed after.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, Value, functions

from payments import gateway, models
from payments.errors import AccessDenied, BadCallback, Mismatch, Refused, Unavailable, Unknown
from payments.models import Kind, Method, Status
from providers import agreement, callbacks, intents

__all__ = [
    "AccessDenied",
    "BadCallback",
    "Callback",
    "Mismatch",
    "Refused",
    "Unavailable",
    "Unknown",
    "abandoned",
    "ask",
    "charge",
    "inquire",
    "look_up",
    "read_callback",
    "record_callback",
    "refund",
    "strike",
]

ACTION = "charge"

_DURATION, _MOMENT = DurationField(), DateTimeField()


def charge(
    *, key: str, customer: Mapping[str, str], payment: Mapping[str, str], total: Mapping[str, Any]
) -> dict[str, Any]:
    """Take the total from a card, or create the PIX charge that the customer will pay.

    1. Write the intent down; leave, if the key has its answer already.
    2. Ask the bank. A card's token goes through here and is kept nowhere (A3); the bank wants no more of
       the customer than that.
    3. Hold what it said against what was asked, and write it down. If the undo came meanwhile, undo at
       once (E3).

    Raises:
        Refused: the bank declined, or the key was undone.
        Unavailable: nothing happened.
        Unknown: it may have happened.
        Mismatch: something happened, and not what was asked.
    """
    row, asked_before = _begin(key=key, method=Method(payment["method"]), total=total)
    if row.status == Status.REQUESTED or not asked_before:
        try:
            answer = _collect(row, payment)
        except Refused as refusal:
            _refuse(key=key, code=refusal.code)
            raise
        if not _settled(row, answer):
            row, _ = _record(key=key, charge=answer, source=ACTION)
        if row.undo_requested_at:
            refund(key=key)
    return _stands(row)


def refund(*, key: str) -> dict[str, Any]:
    """Give back what was taken, withdraw what nobody paid, forbid what never came: whichever is right.

    1. Leave the tombstone first, so that a charge under way finds it (E3).
    2. Ask the bank what is there, for only it knows; then have it undone. A refund is named by how much
       had been captured: repeated it is the same one, but money that landed since is a new one (M3).
    3. Write down what was undone.

    4. What was captured goes back in full, whether it is what was asked or not (M1).

    Raises:
        Refused: the bank will not give it back; a person must.
        Unavailable: not undone yet.
        Unknown: it may be undone.
        Mismatch: the bank speaks of another charge, or gave back more than it took (M2).
    """
    row = _forbid(key=key)
    if not row.undone_at:
        bank = gateway.chosen()
        found = bank.ask(key=key)
        if found is not None and (differs := _not_ours(row, found)):
            # Whose money would be given back is not ours to guess.
            _record(key=key, charge=found, source="refund")
            raise _mismatch(differs)
        if found is None or not found.is_at_rest:
            captured = found.captured if found else 0
            found = bank.refund(key=key, operation=f"{key}.refund-{captured}")
        if differs := _not_ours(row, found):
            _record(key=key, charge=found, source="refund")
            raise _mismatch(differs)
        row, _ = _record(key=key, charge=found, source="refund")
        if not row.undone_at and found.is_at_rest:
            # It has forgotten what it told us, or we were told something newer while it was asked.
            raise Unavailable(
                f"The bank says that it took {found.captured} and gave back {found.refunded}; we know of"
                f" {row.captured} and {row.refunded}."
            )
    if not row.undone_at:
        raise Unavailable("The bank has begun to give it back and is not done yet.")
    return {"status": row.status, "refunded": _money(row.refunded, row)}


def ask(*, key: str) -> dict[str, Any] | None:
    """What the bank knows of the charge: its facts, or None if there never was one.

    Raises:
        Refused: there was one, and it does not stand: declined, expired, undone.
        Unavailable: the bank could not be asked.
        Unknown: it did not answer.
        Mismatch: there is one, and it is not what was asked.
    """
    found = gateway.chosen().ask(key=key)
    if found is None:
        return None
    row, differs = _record(key=key, charge=found, source="ask")
    if differs:
        raise _mismatch(differs)
    return _stands(row)


Callback = callbacks.Callback[gateway.Charge]


def read_callback(*, headers: Mapping[str, str], body: bytes, now: datetime.datetime) -> Callback:
    """The bank's callback, if it is the bank's.

    Raises:
        BadCallback: it is not, or is too old, or makes no sense.
    """
    return callbacks.receive(
        headers=headers,
        body=body,
        now=now,
        secrets=settings.PAYMENTS_WEBHOOK_SECRETS,
        understand=lambda event: _callback(
            event_id=event.id,
            kind=event.kind,
            key=event.key,
            charge=gateway.read(event.data),
            occurred_at=event.occurred_at,
        ),
        wanted="The data must be a charge",
    )


def record_callback(*, callback: Callback) -> Callback:
    """Write down what the bank reports, in the caller's transaction; twice is once, late is in order.

    A charge of which we know nothing is written down too: it is money.

    Returns:
        The callback as far as it may be believed.
    """
    row, differs = _record(key=callback.key, charge=callback.report, source=callback.source)
    return callback.believed(
        asked=bool(row.method or row.undo_requested_at),
        differs=differs or row.mismatch,
        otherwise={"paid": False},
    )


def abandoned() -> str | None:
    """The key of a PIX charge that was given up unpaid and is due to be asked about; None if none is.

    Somebody may pay it all the same, and the bank's callback be lost (M3). Its turn comes after PIX_POLL,
    then whenever as much time has passed as before, for PIX_LOOK_BACK. Who gets a key has taken that turn.
    """
    last = functions.Coalesce("asked_at", "undone_at")
    pause = functions.Greatest(Value(settings.PIX_POLL), ExpressionWrapper(last - F("undone_at"), _DURATION))
    due = models.Payment.objects.filter(
        method=Method.PIX,
        captured=0,
        undone_at__gt=functions.Now() - settings.PIX_LOOK_BACK,
        status__in=_WITHDRAWN,
    ).annotate(due_at=ExpressionWrapper(last + pause, _MOMENT))
    with transaction.atomic():
        row = (
            due.filter(due_at__lte=functions.Now())
            .order_by("due_at")
            .select_for_update(skip_locked=True)
            .only("key")
            .first()
        )
        if row:
            models.Payment.objects.filter(pk=row.pk).update(asked_at=functions.Now())
    return row.key if row else None


def inquire(*, key: str) -> Callback | None:
    """What the bank's callback would say of the charge, had it come; None if the bank has no such charge.

    Raises:
        Unavailable: the bank could not be asked.
        Unknown: it did not answer.
    """
    found = gateway.chosen().ask(key=key)
    if found is None:
        return None
    row = models.Payment.objects.only("pk").get(key=key)
    # The same news has the same id, however often it is asked for.
    id_ = f"asked.{row.pk}.{found.captured}.{found.refunded}"
    return _callback(event_id=id_, kind="charge.found", key=key, charge=found)


def look_up(*, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The facts as they are known here, by key, without asking the bank."""
    return {row.key: _facts(row) for row in models.Payment.objects.filter(key__in=list(keys))}


def strike(*, keys: Iterable[str], names: Callable[[str], bool], mark: str) -> None:
    """Strike out what tells of the payer, in the caller's transaction: the PIX code, words that name them.

    What was paid and returned, and what the bank calls it, are the books and stay.

    Arguments:
        keys: of payments at which nothing is under way any more; others than ours are passed over.
        names: whether a text names the person.
        mark: what is put in the place of such a text.
    """
    for row in models.Payment.objects.select_for_update().filter(key__in=list(keys)).order_by("pk"):
        row.pix_copy_paste = ""
        row.mismatch = mark if names(row.mismatch) else row.mismatch
        row.refusal = mark if names(row.refusal) else row.refusal
        row.save(update_fields=["pix_copy_paste", "mismatch", "refusal"])


def _callback(
    *,
    event_id: str,
    kind: str,
    key: str,
    charge: gateway.Charge,
    occurred_at: datetime.datetime | None = None,
) -> Callback:
    at_rest = charge.status in models.AT_REST
    return Callback(
        event_id=event_id,
        kind=kind,
        key=key,
        facts={"paid": charge.status == Status.CAPTURED, "method": charge.method, "provider_ref": charge.ref},
        refused=f"The payment is {charge.status}." if at_rest else None,
        report=charge,
        occurred_at=occurred_at,
    )


def _begin(*, key: str, method: Method, total: Mapping[str, Any]) -> tuple[models.Payment, bool]:
    """The intent to charge, durable before the bank hears of it; and whether it was there before.

    Where it was not, and the bank has told of the charge all the same, what it told was held against
    nothing: it is asked.
    """
    intents.must_be_durable()
    row = models.Payment(key=key, method=method.value, amount=total["amount"], currency=total["currency"])
    if intents.write(row):
        return row, False
    with transaction.atomic(durable=True):
        row = _locked(key=key)
        asked_before = bool(row.method)
        if not row.undo_requested_at and not asked_before:
            # A callback came before us, and could not know what we were about to ask.
            row.method, row.amount, row.currency = method, total["amount"], total["currency"]
            row.status = Status.REQUESTED.value
            if row.captured:
                row.mismatch = agreement.differences(
                    {"captured": row.captured, "currency": row.held_in},
                    {"captured": row.amount, "currency": row.currency},
                )
            row.save(update_fields=["method", "amount", "currency", "status", "mismatch"])
        _refuse_if_over(row)
        if (row.method, row.amount, row.currency) != (method, total["amount"], total["currency"]):
            raise ValueError(f"{key} was used for another charge.")
    return row, asked_before


def _collect(row: models.Payment, payment: Mapping[str, str]) -> gateway.Charge:
    bank = gateway.chosen()
    if row.method == Method.PIX:
        return bank.charge_pix(
            key=row.key, amount=row.amount, currency=row.currency, lifetime=settings.PIX_LIMIT
        )
    return bank.charge_card(key=row.key, token=payment["token"], amount=row.amount, currency=row.currency)


def _refuse(*, key: str, code: str) -> None:
    models.Payment.objects.filter(key=key, status=Status.REQUESTED).update(
        status=Status.DECLINED, refusal=code, updated_at=functions.Now()
    )


def _forbid(*, key: str) -> models.Payment:
    return intents.forbid(models.Payment(key=key, undo_requested_at=functions.Now()))


def _settled(row: models.Payment, charge: gateway.Charge) -> bool:
    """Write down that the bank did just what was asked, if nothing was written since; whether it is so.

    Nearly every charge ends here: in one statement, which changes the row only if it is still as it was
    before the bank was asked, and the ledger with it. Whatever is not so plain is for `_record`, which locks
    the row and reads it: an answer that differs, an undo or a callback that came meanwhile.
    """
    lines = list(_differences(row, charge, ACTION))
    plain = charge.status in (Status.PENDING, Status.CAPTURED) and not charge.refunded and charge.ref
    if not plain or not lines or charge.key not in ("", row.key) or _disagreement(row, charge):
        return False
    told: dict[str, Any] = {
        "status": charge.status.value,
        "captured": charge.captured,
        "captured_currency": charge.currency if charge.captured else "",
        "provider_ref": charge.ref,
        "pix_copy_paste": charge.pix_copy_paste,
        "pix_expires_at": charge.pix_expires_at,
    }
    with connection.cursor() as cursor:
        # The ORM has no words for two tables in one statement.
        cursor.execute(
            """
            WITH payment AS (
                UPDATE payments_payment
                SET status = %(status)s, captured = %(captured)s, captured_currency = %(captured_currency)s,
                    provider_ref = %(provider_ref)s, pix_copy_paste = %(pix_copy_paste)s,
                    pix_expires_at = %(pix_expires_at)s, updated_at = statement_timestamp()
                WHERE id = %(id)s AND status = 'requested' AND undo_requested_at IS NULL AND mismatch = ''
                    AND captured = 0 AND refunded = 0 AND provider_ref = '' AND pix_copy_paste = ''
                    -- A charge that is another payment's is a mismatch.
                    AND NOT EXISTS (
                        SELECT FROM payments_payment
                        WHERE provider_ref = %(provider_ref)s AND provider_ref <> ''
                    )
                RETURNING id
            )
            INSERT INTO payments_operation (payment_id, kind, amount, source)
            SELECT payment.id, line.kind, line.amount, %(source)s
            FROM payment, unnest(%(kinds)s::text[], %(amounts)s::bigint[])
                WITH ORDINALITY AS line (kind, amount, position)
            ORDER BY line.position
            """,
            told
            | {"id": row.pk, "source": ACTION}
            | {"kinds": [line.kind for line in lines], "amounts": [line.amount for line in lines]},
        )
        if not cursor.rowcount:
            return False
    for name, value in told.items():
        setattr(row, name, value)
    return True


def _record(*, key: str, charge: gateway.Charge, source: str) -> tuple[models.Payment, str]:
    """Write down what the bank said, unless we have heard something newer; the ledger gets the difference.

    1. What is not about this charge, or cannot be, is kept as a mismatch and in no other way.
    2. What the bank says that it took and gave back is kept, right or wrong: it is what must go back.
    3. Whether that is what was asked is another matter, and decides whether the payment counts as made.

    Returns:
        The row, and where the bank's statement differs from what was asked.
    """
    with transaction.atomic():
        row = _locked(key=key)
        if differs := _not_ours(row, charge):
            row.mismatch, row.updated_at = differs, functions.Now()
            row.save(update_fields=["mismatch", "updated_at"])
            return row, differs
        differs = _disagreement(row, charge)
        if _is_news(row, charge):
            models.Operation.objects.bulk_create(_differences(row, charge, source))
            row.status = charge.status.value
            row.captured, row.refunded = charge.captured, charge.refunded
            row.captured_currency = charge.currency if charge.captured else row.captured_currency
            row.undone_at = None
        if _is_known(row, charge):
            row.mismatch = differs
        if row.undo_requested_at:
            if charge.is_at_rest and row.captured == row.refunded:
                row.undone_at = row.undone_at or functions.Now()
            elif source == ACTION:
                # It may have come after its undo had found nothing: that undo does not count (E3).
                row.undone_at = None
        if not row.method:
            # Nobody has asked for it, and somebody may yet: then it is held against that.
            row.amount, row.currency = charge.amount, charge.currency
        row.provider_ref = row.provider_ref or charge.ref
        row.pix_copy_paste = row.pix_copy_paste or charge.pix_copy_paste
        row.pix_expires_at = row.pix_expires_at or charge.pix_expires_at
        row.updated_at = functions.Now()
        row.save()
    return row, differs


def _not_ours(row: models.Payment, charge: gateway.Charge) -> str:
    """Why this cannot be about the payment: it names another, or its own figures contradict each other."""
    told: dict[str, object] = {"key": charge.key or row.key}
    asked: dict[str, object] = {"key": row.key}
    if charge.ref:
        others = models.Payment.objects.filter(provider_ref=charge.ref).exclude(pk=row.pk)
        told["reference"] = charge.ref
        asked["reference"] = row.provider_ref or ("another" if others.exists() else charge.ref)
    if charge.refunded > charge.captured:
        told["refunded"], asked["refunded"] = charge.refunded, f"at_most_{charge.captured}"
    return agreement.differences(told, asked)


def _disagreement(row: models.Payment, charge: gateway.Charge) -> str:
    """Where the charge differs from what was asked; empty where it agrees, or nothing was asked.

    With nothing taken and nothing to be paid there is nothing to disagree about.
    """
    if not row.method or (charge.status in models.AT_REST and charge.captured == charge.refunded == 0):
        return ""
    told: dict[str, object] = {
        "method": charge.method, "amount": charge.amount, "currency": charge.currency,
    }  # fmt: skip
    asked: dict[str, object] = {"method": row.method, "amount": row.amount, "currency": row.currency}
    if charge.captured or charge.status == Status.CAPTURED:
        told["captured"], asked["captured"] = charge.captured, row.amount
    if charge.captured > charge.refunded and charge.status != Status.CAPTURED:
        told["status"], asked["status"] = charge.status.value, Status.CAPTURED.value
    if not row.undo_requested_at and (row.status == Status.CAPTURED or row.mismatch):
        # It counted as paid, or a person is to see to it: nobody here has asked for anything back.
        told["refunded"], asked["refunded"] = charge.refunded, 0
    return agreement.differences(told, asked)


def _is_news(row: models.Payment, charge: gateway.Charge) -> bool:
    """Whether the bank said this after what we know: what was captured and refunded only ever grows."""
    known = (row.captured, row.refunded, models.NEWNESS[Status(row.status)])
    said = (charge.captured, charge.refunded, models.NEWNESS[charge.status])
    return said > known


def _is_known(row: models.Payment, charge: gateway.Charge) -> bool:
    """Whether the bank said nothing older than what we know, so that its statement is the present one."""
    known = (row.captured, row.refunded, models.NEWNESS[Status(row.status)])
    return (charge.captured, charge.refunded, models.NEWNESS[charge.status]) >= known


def _mismatch(differs: str) -> Mismatch:
    return Mismatch(f"The bank tells something else than was asked: {differs}.")


_WITHDRAWN = (Status.CANCELLED, Status.EXPIRED)


def _differences(row: models.Payment, charge: gateway.Charge, source: str) -> Iterable[models.Operation]:
    accepted = row.status == Status.REQUESTED and charge.status not in (Status.DECLINED, Status.VOIDED)
    # What was told of before it was asked for is in the ledger already.
    accepted = accepted and not row.captured
    withdrawn = charge.status in _WITHDRAWN and row.status not in _WITHDRAWN
    amounts = {
        Kind.CHARGE: charge.amount if accepted else 0,
        Kind.CAPTURE: charge.captured - row.captured,
        Kind.REFUND: charge.refunded - row.refunded,
        Kind.CANCEL: charge.amount if withdrawn else 0,
    }
    return [
        models.Operation(payment=row, kind=kind, amount=amount, source=source)
        for kind, amount in amounts.items()
        if amount
    ]


def _stands(row: models.Payment) -> dict[str, Any]:
    """The facts of a charge that stands.

    Raises:
        Refused: it does not: it was undone, declined, or nobody paid in time.
        Mismatch: it is not what was asked.
    """
    if row.mismatch and not row.undo_requested_at:
        raise _mismatch(row.mismatch)
    _refuse_if_over(row)
    return _facts(row)


def _refuse_if_over(row: models.Payment) -> None:
    if row.undo_requested_at:
        raise Refused(
            "This payment was undone; a charge that comes after its undo is not made.", code="undone"
        )
    if row.status in models.AT_REST:
        raise Refused(f"The payment was {row.status}: {row.refusal or 'by the bank'}.", code=row.refusal)


def _facts(row: models.Payment) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "paid": row.status == Status.CAPTURED and not row.mismatch,
        "method": row.method,
        "provider_ref": row.provider_ref,
    }
    if row.method == Method.PIX and row.pix_expires_at:
        facts["pix"] = {"copy_paste": row.pix_copy_paste, "expires_at": row.pix_expires_at.isoformat()}
    return facts


def _money(amount: int, row: models.Payment) -> dict[str, Any]:
    return {"amount": amount, "currency": row.held_in}


def _locked(*, key: str) -> models.Payment:
    """The row of that key, locked; written if there is none. Lock, then read (D7)."""
    row, _ = models.Payment.objects.select_for_update().get_or_create(key=key)
    return row
