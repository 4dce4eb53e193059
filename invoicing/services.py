"""Invoices: the functions that other packages may call.

Every function takes its caller's `key` and may be called any number of times with it, in any order: the first
call acts, the others find it done (E1). An undo may come before its action, which is then refused (E4, E5).
None of them may be called inside a transaction: what they intend is committed before the fiscal
authority hears of it, and what it answered is committed after.
"""

import datetime
import secrets
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet, functions
from django.utils import timezone

from invoicing import access_key as access_keys
from invoicing import gateway, models
from invoicing.errors import AccessDenied, Mismatch, Refused, Unavailable, Unknown
from invoicing.models import Kind, Status
from providers import agreement, intents

__all__ = [
    "AccessDenied",
    "Mismatch",
    "Refused",
    "Unavailable",
    "Unknown",
    "ask",
    "cancel",
    "goods_left",
    "issue",
    "kept_until",
    "look_up",
    "strike",
    "strike_expired",
    "today",
]

SERIES = 1
"""The one series in which invoices are numbered here."""

ISSUER_ZONE = zoneinfo.ZoneInfo("America/Sao_Paulo")
"""Invoices are dated where they are issued."""

KEPT_YEARS = 5
"""How long the recipient of an invoice is kept, from the first day of the year after its own: within that
time tax may be assessed (CTN, art. 173, I), and until it is barred books and receipts have to be shown (CTN,
art. 195, sole paragraph). The trigger of the table knows the same number."""


def issue(
    *,
    key: str,
    customer: Mapping[str, str],
    lines: Iterable[Mapping[str, Any]],
    total: Mapping[str, Any],
) -> dict[str, Any]:
    """Have an invoice for the lines authorised.

    1. Take a number and write the document down, in one transaction: a number that nobody accounts for
       cannot be (M4). Leave, if the key has its answer already.
    2. Have the authority authorise it.
    3. Hold what it said against what was asked, and write it down. If the undo came meanwhile, undo at
       once (E3).

    Raises:
        Refused: the authority rejected it, or the key was undone.
        Unavailable: nothing happened.
        Unknown: it may be authorised.
        Mismatch: something was authorised, and not what was asked.
    """
    row = _begin(key=key, customer=customer, lines=lines, total=total)
    if row.status == Status.REQUESTED:
        try:
            authorization = gateway.chosen().issue(key=key, document=_document(row))
        except Refused as refusal:
            _refuse(key=key, code=refusal.code)
            raise
        if not _settled(row, authorization):
            row = _record(key=key, authorization=authorization)
        if row.undo_requested_at:
            cancel(key=key)
    return _stands(row)


def cancel(*, key: str) -> dict[str, Any]:
    """Undo the invoice in the simplest way that the law still allows.

    1. Leave the tombstone first, so that an invoice under way finds it (E3); no invoice, no more to do.
    2. Never authorised: declare its number void, so that the gap is explained (M4).
    3. Within the window, and the goods still here: cancel it.
    4. Otherwise: a return note, a document of its own, takes it back.

    Raises:
        Refused: the authority allows none of it; a person must.
        Unavailable: not undone yet.
        Unknown: it may be undone.
        Mismatch: the authority speaks of another document, or of one that a note of ours would not take back.
    """
    row = _forbid(key=key)
    if not row.undone_at:
        _undo(row)
        row.refresh_from_db()
    if not row.undone_at:
        raise Unavailable("The authority has begun to undo it and is not done yet.")
    return {"status": row.status}


def ask(*, key: str) -> dict[str, Any] | None:
    """What the authority knows of the invoice: its facts, or None if there never was one.

    Raises:
        Refused: there was one, and it is undone.
        Unavailable: the authority could not be asked.
        Unknown: it did not answer.
        Mismatch: there is one, and it is not what was asked.
    """
    found = gateway.chosen().ask(key=key)
    return None if found is None else _stands(_record(key=key, authorization=found))


def goods_left(*, access_key: str) -> bool:
    """The goods are on the road: from now on the undo is a return note. False if no invoice has the key."""
    invoices = models.Invoice.objects.filter(access_key=access_key)
    return bool(invoices.update(goods_left_at=functions.Coalesce("goods_left_at", functions.Now())))


def look_up(*, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The facts as they are known here, by key, without asking the authority."""
    return {row.key: _facts(row) for row in models.Invoice.objects.filter(key__in=list(keys))}


def kept_until(*, keys: Iterable[str]) -> dict[str, datetime.date]:
    """By key, the day from which the recipient may be struck out of a document; return notes have their own.

    Left out are documents that name nobody, or nobody any more, and those that never came to be: of these
    nothing has to be kept.
    """
    rows = _documents(keys).exclude(tax_id="")
    return {row.key: until for row in rows if (until := _kept_until(row)) is not None}


def strike(*, keys: Iterable[str], names: Callable[[str], bool], mark: str) -> None:
    """Strike the recipient out of documents, where the law lets us, in the caller's transaction.

    Arguments:
        keys: of invoices at which nothing is under way any more; others than ours are passed over.
        names: whether a text names the person.
        mark: what is put in the place of such a text.
    """
    with transaction.atomic():
        rows = list(_documents(keys).select_for_update().order_by("pk"))
        _strike_recipients(rows)
        for row in rows:
            row.mismatch = mark if names(row.mismatch) else row.mismatch
            row.refusal = mark if names(row.refusal) else row.refusal
            row.save(update_fields=["mismatch", "refusal"])


def strike_expired(*, keys: Iterable[str]) -> None:
    """Strike the recipient out of those documents that the law no longer has kept; waits for nobody.

    Arguments:
        keys: of invoices at which nothing is under way any more; a document that somebody holds is left.
    """
    with transaction.atomic():
        _strike_recipients(_documents(keys).exclude(tax_id="").select_for_update(skip_locked=True))


def today() -> datetime.date:
    """The day where the issuer is, by the database's clock (D9): by it is decided what is still kept."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        now: datetime.datetime = cursor.fetchone()[0]
    return now.astimezone(ISSUER_ZONE).date()


def _strike_recipients(rows: Iterable[models.Invoice]) -> None:
    """Of those that are kept no longer; each is locked."""
    now = today()
    kept = ((row.pk, _kept_until(row)) for row in rows)
    expired = [pk for pk, until in kept if until is None or until <= now]
    _say_striking("on")
    models.Invoice.objects.filter(pk__in=expired).exclude(tax_id="").update(tax_id="")
    _say_striking("off")


def _documents(keys: Iterable[str]) -> QuerySet[models.Invoice]:
    """The invoices with these keys, and the notes that take them back."""
    wanted = list(keys)
    return models.Invoice.objects.filter(key__in=[*wanted, *(f"{key}.return" for key in wanted)])


def _kept_until(row: models.Invoice) -> datetime.date | None:
    """None for a document that never came to be and never will."""
    if row.authorized_at is None and row.undone_at is not None:
        return None
    issued = (row.authorized_at or row.created_at).astimezone(ISSUER_ZONE)
    return datetime.date(issued.year + 1 + KEPT_YEARS, 1, 1)


def _say_striking(whether: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('invoicing.striking', %s, true)", [whether])


def _begin(
    *, key: str, customer: Mapping[str, str], lines: Iterable[Mapping[str, Any]], total: Mapping[str, Any]
) -> models.Invoice:
    """The intent to issue, with its number, durable before the authority hears of it."""
    lines = list(lines)
    if any(line["unit_price"]["currency"] != total["currency"] for line in lines):
        raise ValueError(f"{key}: a line is priced in another currency than the total.")
    with transaction.atomic(durable=True):
        new = models.Invoice(
            key=key,
            tax_id=customer["tax_id"],
            lines=lines,
            amount=total["amount"],
            currency=total["currency"],
        )
        if _numbered(new):
            return new
        # Another was first: a number that was taken for this one goes back with the transaction.
        transaction.set_rollback(True)
    with transaction.atomic(durable=True):
        row = models.Invoice.objects.select_for_update().get(key=key)
        _stands(row)
        if (row.amount, row.currency) != (total["amount"], total["currency"]):
            raise ValueError(f"{key} was used for another invoice.")
    return row


def _numbered(row: models.Invoice) -> bool:
    """Write a new document with the next number of its series; False if there is one with its key.

    Then the transaction must not be committed: the number may have been taken. Its series is locked from
    here until then, so that none is skipped (M4); whoever calls has little left to do.
    """
    number = _take_number(unless=row.key)
    if number is None:
        return False
    row.series_id, row.number = SERIES, number
    row.access_key = access_keys.compose(
        state=settings.INVOICING_STATE,
        issued_on=timezone.localdate(timezone=ISSUER_ZONE),
        cnpj=settings.INVOICING_CNPJ,
        series=SERIES,
        number=number,
        # Any code but the number itself, which the authority rejects as too easy to guess.
        code=(number + 1 + secrets.randbelow(10**8 - 1)) % 10**8,
    )
    return intents.write(row)


def _take_number(*, unless: str) -> int | None:
    """The next number of the series, which is locked until the transaction ends; None if the key has one.

    The first number of all makes the series.
    """
    with connection.cursor() as cursor:
        # One statement: to lock, read and write are three, and all others wait from the first one on. The
        # ORM's upsert does not say what it wrote.
        cursor.execute(
            """
            INSERT INTO invoicing_series AS series (number, next_number)
            SELECT %(series)s, 2 WHERE NOT EXISTS (SELECT FROM invoicing_invoice WHERE key = %(key)s)
            ON CONFLICT (number) DO UPDATE SET next_number = series.next_number + 1
            RETURNING next_number - 1
            """,
            {"series": SERIES, "key": unless},
        )
        taken: tuple[int] | None = cursor.fetchone()
    return taken and taken[0]


def _document(row: models.Invoice) -> gateway.Document:
    series, number = _number(row)
    return gateway.Document(
        series=series,
        number=number,
        access_key=row.access_key,
        tax_id=row.tax_id,
        amount=row.amount,
        currency=row.currency,
        kind=row.kind,
        references=row.references.access_key if row.references else None,
    )


def _number(row: models.Invoice) -> tuple[int, int]:
    """Series and number, which only a tombstone has not."""
    if row.series_id is None or row.number is None:
        raise LookupError(f"{row.key} has no number.")
    return row.series_id, row.number


def _refuse(*, key: str, code: str) -> None:
    models.Invoice.objects.filter(key=key, status=Status.REQUESTED).update(
        status=Status.REJECTED, refusal=code, updated_at=functions.Now()
    )


def _settled(row: models.Invoice, authorization: gateway.Authorization) -> bool:
    """Write down that just what was asked is authorised, if nothing was written since; whether it is so.

    Nearly every document ends here: in one statement, which changes the row only if it is still as it was
    before the authority was asked. Whatever is not so plain is for `_record`, which locks the row and reads
    it: an answer that differs, or an undo that came meanwhile.
    """
    if (
        authorization.status == "cancelled"
        or _not_ours(row, authorization)
        or _disagreement(row, authorization)
    ):
        return False
    as_asked = models.Invoice.objects.filter(
        pk=row.pk, status=Status.REQUESTED, undo_requested_at=None, mismatch=""
    )
    told = {"status": Status.AUTHORIZED.value, "protocol": authorization.protocol}
    if not as_asked.update(**told, authorized_at=functions.Now(), updated_at=functions.Now()):
        return False
    row.status, row.protocol = told["status"], told["protocol"]
    return True


def _record(*, key: str, authorization: gateway.Authorization) -> models.Invoice:
    """Write down what the authority said, unless we know better: nothing that is undone comes back.

    Raises:
        Mismatch: it speaks of another document, which is written down as that and in no other way.
    """
    with transaction.atomic(durable=True):
        row = _with_its_sale(key)
        foreign = _not_ours(row, authorization)
        differs = foreign or _disagreement(row, authorization)
        if differs != row.mismatch:
            row.mismatch = differs
            row.save(update_fields=["mismatch"])
        if foreign:
            pass
        elif authorization.status == "cancelled":
            _mark_undone(row, Status.CANCELLED)
        elif row.status not in (Status.AUTHORIZED, Status.CANCELLED, Status.RETURNED):
            row.status = Status.AUTHORIZED.value
            row.protocol = authorization.protocol
            row.authorized_at = row.updated_at = functions.Now()
            row.undone_at = None
            row.save()
    if foreign:
        raise _mismatch(foreign)
    return row


def _with_its_sale(key: str) -> models.Invoice:
    rows = models.Invoice.objects.select_for_update(of=("self",)).select_related("references")
    return rows.get(key=key)


def _not_ours(row: models.Invoice, authorization: gateway.Authorization) -> str:
    """Why this cannot be about the document: it has another's key, number or access key (M4)."""
    told = {
        "key": authorization.key or row.key,
        "series": row.series_id if authorization.series is None else authorization.series,
        "number": row.number if authorization.number is None else authorization.number,
        "access_key": authorization.access_key or row.access_key,
    }
    asked = {"key": row.key, "series": row.series_id, "number": row.number, "access_key": row.access_key}
    return agreement.differences(told, asked)


def _disagreement(row: models.Invoice, authorization: gateway.Authorization) -> str:
    """Where the document differs from what was asked; one that is cancelled says nothing any more."""
    if authorization.status == "cancelled":
        return ""
    sale = row.references.access_key if row.references else ""
    told = {
        "total": row.amount if authorization.amount is None else authorization.amount,
        "currency": authorization.currency or row.currency,
        "kind": authorization.kind or row.kind,
        "references": authorization.references or sale,
    }
    asked = {"total": row.amount, "currency": row.currency, "kind": row.kind, "references": sale}
    return agreement.differences(told, asked)


def _mismatch(differs: str) -> Mismatch:
    return Mismatch(f"The fiscal authority tells something else than was asked: {differs}.")


def _mark_undone(row: models.Invoice, status: Status) -> None:
    row.status = status.value
    row.undone_at = functions.Now() if row.undo_requested_at else None
    row.updated_at = functions.Now()
    row.save(update_fields=["status", "undone_at", "updated_at"])


def _forbid(*, key: str) -> models.Invoice:
    """The row with its tombstone; one that says "never issued" where there was none."""
    return intents.forbid(
        models.Invoice(
            key=key,
            status=Status.NEVER_ISSUED,
            undo_requested_at=functions.Now(),
            undone_at=functions.Now(),
        )
    )


def _undo(row: models.Invoice) -> None:
    """Try the ways in which an invoice is undone, the simplest first, until one is allowed."""
    authority = gateway.chosen()
    found = authority.ask(key=row.key)
    if found is None and row.status == Status.AUTHORIZED:
        # Its number must not be declared unused: the customer has the invoice.
        raise Unknown("The authority does not know an invoice that it authorised.")
    if found is None:
        try:
            _void_number(row)
            return
        except Refused as refusal:
            found = authority.ask(key=row.key)
            if found is None or refusal.code != gateway.NUMBER_IN_USE:
                raise
            # A request that was still under way when we asked has been authorised since (E3).
    row = _record(key=row.key, authorization=found)
    if row.status == Status.AUTHORIZED and _may_be_cancelled(row):
        try:
            row = _record(key=row.key, authorization=authority.cancel(key=row.key))
        except Refused as refusal:
            if refusal.code not in gateway.TOO_LATE:
                raise
    if row.status == Status.AUTHORIZED:
        if row.mismatch:
            # A note over our total would take back something else than was sold.
            raise _mismatch(row.mismatch)
        _take_back(row)


def _void_number(row: models.Invoice) -> None:
    series, number = _number(row)
    gateway.chosen().void_number(series=series, number=number, reason="The order was cancelled.")
    with transaction.atomic(durable=True):
        row = models.Invoice.objects.select_for_update().get(pk=row.pk)
        if row.status in (Status.REQUESTED, Status.REJECTED):
            _mark_undone(row, Status.NUMBER_VOIDED)


def _may_be_cancelled(row: models.Invoice) -> bool:
    """Whether, by the database's clock (D9), the law's window is open and the goods are still here."""
    own = models.CancellationWindow.objects.filter(pk=settings.INVOICING_STATE).first()
    length = own.length if own else models.NATIONAL_WINDOW
    return models.Invoice.objects.filter(
        pk=row.pk, goods_left_at=None, authorized_at__gt=functions.Now() - length
    ).exists()


def _take_back(sale: models.Invoice) -> None:
    """Issue the return note, once, and with it undo the sale."""
    with transaction.atomic(durable=True):
        sale = models.Invoice.objects.select_for_update().get(pk=sale.pk)
        note = models.Invoice.objects.filter(references=sale).first()
        if note is None:
            note = models.Invoice(
                key=f"{sale.key}.return",
                kind=Kind.RETURN,
                references=sale,
                tax_id=sale.tax_id,
                lines=sale.lines,
                amount=sale.amount,
                currency=sale.currency,
            )
            if not _numbered(note):
                raise LookupError(f"{note.key} is no return note.")
    if note.status != Status.AUTHORIZED:
        try:
            authorization = gateway.chosen().issue(key=note.key, document=_document(note))
        except Refused as refusal:
            _refuse(key=note.key, code=refusal.code)
            raise
        note = _record(key=note.key, authorization=authorization)
    if note.mismatch:
        raise _mismatch(note.mismatch)
    with transaction.atomic(durable=True):
        sale = models.Invoice.objects.select_for_update().get(pk=sale.pk)
        if sale.status == Status.AUTHORIZED:
            _mark_undone(sale, Status.RETURNED)


def _stands(row: models.Invoice) -> dict[str, Any]:
    """The facts of an invoice that stands.

    Raises:
        Refused: it does not: it was undone or rejected.
        Mismatch: it is not what was asked.
    """
    if row.undo_requested_at:
        raise Refused("This invoice was undone; one that comes after its undo is not issued.", code="undone")
    if row.mismatch and row.status == Status.AUTHORIZED:
        raise _mismatch(row.mismatch)
    if row.status not in (Status.REQUESTED, Status.AUTHORIZED):
        raise Refused(f"The invoice was {row.status}: {row.refusal or 'by the authority'}.", code=row.refusal)
    return _facts(row)


def _facts(row: models.Invoice) -> dict[str, Any]:
    return {
        "number": row.number,
        "series": row.series_id,
        "access_key": row.access_key,
        "protocol": row.protocol,
    }
