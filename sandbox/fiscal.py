"""The fiscal authority: it authorizes invoices, and cancels them while the law allows."""

import itertools
import sqlite3
import time

from sandbox import answers, books, carrier, core, fields

REJECTED_TAX_ID = "00000000191"
ONE_CENTAVO_TAX_ID = "00000000272"
"""Authorized over one centavo, whatever was asked."""
SERIES_MAX = 999
NUMBER_MAX = 999_999_999
FIELDS = ("series", "number", "access_key", "tax_id", "total", "currency", "kind", "references")


def authorize(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Authorize a note of sale or of return: once per key, and each number once per series.

    What is rejected leaves no trace, and its number may be used again or voided.
    """
    _check(request.body)
    with sandbox.books.transaction() as page:
        if found := _find(page, request.key):
            same = found["fingerprint"] == fields.fingerprint(request.body)
            return answers.ok(_shown(found)) if same else answers.key_reused()
        if books.buried(page, "fiscal", request.key):
            return answers.voided()
        if refused := _duplicate(page, request.body) or _rejected(page, request.body):
            return refused
        _write(page, request)
        return answers.created(_shown(_existing(page, request.key)))


def look_up(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """What became of an invoice."""
    with sandbox.books.transaction() as page:
        if found := _find(page, request.key):
            return answers.ok(_shown(found))
        if books.buried(page, "fiscal", request.key):
            return answers.ok(_tombstone(request.key))
        return answers.not_found()


def cancel(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Cancel an invoice: only in time, and only while its goods have not left."""
    fields.known(request.body)
    with sandbox.books.transaction() as page:
        found = _find(page, request.key)
        if found is None:
            books.bury(page, "fiscal", request.key)
            return answers.ok(_tombstone(request.key))
        if found["status"] == "authorized":
            if carrier.circulating(page, found["access_key"]) or _returned(page, found["access_key"]):
                return answers.no(409, "goods_in_circulation", "The goods have left; issue a return note.")
            if time.time() > found["authorized_at"] + sandbox.settings.fiscal_cancel_window_s:
                return answers.no(409, "window_closed", "The time to cancel is over; issue a return note.")
            page.execute("UPDATE invoices SET status = 'cancelled' WHERE key = ?", (request.key,))
        return answers.ok(_shown(_existing(page, request.key)))


def void_number(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Declare that a number will never be used (inutilização); saying it again changes nothing."""
    fields.known(request.body, "series", "number", "reason")
    series = fields.integer(request.body, "series", 0, SERIES_MAX)
    number = fields.integer(request.body, "number", 1, NUMBER_MAX)
    reason = fields.text(request.body, "reason", fields.SENTENCE)
    with sandbox.books.transaction() as page:
        used = page.execute("SELECT 1 FROM invoices WHERE series = ? AND number = ?", (series, number))
        if used.fetchone():
            return answers.no(409, "duplicate_number", "An invoice was authorized with this number.")
        page.execute(
            "INSERT OR IGNORE INTO voided_numbers VALUES (?, ?, ?, ?)", (series, number, reason, time.time())
        )
        return answers.ok({"series": series, "number": number, "status": "voided"})


def written(page: sqlite3.Connection) -> list[answers.Json]:
    """Every invoice ever authorized."""
    rows = page.execute("SELECT * FROM invoices ORDER BY authorized_at, key")
    return [_shown(row) for row in rows]


def voided_numbers(page: sqlite3.Connection) -> list[answers.Json]:
    """Every number that will never be used."""
    rows = page.execute("SELECT series, number, reason FROM voided_numbers ORDER BY series, number")
    return [dict(row) for row in rows]


def _check(body: answers.Json) -> None:
    fields.known(body, *FIELDS)
    fields.integer(body, "series", 0, SERIES_MAX)
    fields.integer(body, "number", 1, NUMBER_MAX)
    fields.text(body, "access_key", fields.ACCESS_KEY)
    fields.text(body, "tax_id", fields.TAX_ID)
    fields.amount(body, "total")
    fields.text(body, "currency", fields.CURRENCY)
    if fields.choice(body, "kind", "sale", "return") == "return":
        fields.text(body, "references", fields.ACCESS_KEY)
    elif body.get("references") is not None:
        raise answers.Invalid("references is for a return note: the access key of the sale it returns.")


def _duplicate(page: sqlite3.Connection, body: answers.Json) -> answers.Answer | None:
    place = (body["series"], body["number"])
    if page.execute("SELECT 1 FROM voided_numbers WHERE series = ? AND number = ?", place).fetchone():
        return answers.no(409, "number_voided", "This number was declared never to be used.")
    if page.execute("SELECT 1 FROM invoices WHERE series = ? AND number = ?", place).fetchone():
        return answers.no(409, "duplicate_number", "Another invoice of this series has this number.")
    if page.execute("SELECT 1 FROM invoices WHERE access_key = ?", (body["access_key"],)).fetchone():
        return answers.no(409, "duplicate_access_key", "Another invoice has this access key.")
    return None


def _rejected(page: sqlite3.Connection, body: answers.Json) -> answers.Answer | None:
    if body["tax_id"] == REJECTED_TAX_ID:
        return answers.no(422, "rejected", "The recipient's registration is irregular.")
    if not _says(body["access_key"], body["series"], body["number"]):
        return answers.no(422, "rejected", "The access key does not belong to this series and number.")
    if body["kind"] == "sale":
        return None
    sale = page.execute(
        "SELECT * FROM invoices WHERE access_key = ? AND kind = 'sale' AND status = 'authorized'",
        (body["references"],),
    ).fetchone()
    if sale is None:
        return answers.no(422, "rejected", "A return note must refer to an authorized sale.")
    returned = _returned(page, body["references"])
    if body["currency"] != sale["currency"] or returned + body["total"] > sale["total"]:
        return answers.no(422, "rejected", "No more can be returned than was sold.")
    return None


def _says(access_key: str, series: int, number: int) -> bool:
    """Whether the access key is one of an NF-e (55) of this series and number, with a right check digit.

    cUF AAMM CNPJ mod serie nNF tpEmis cNF cDV, of 2, 4, 14, 2, 3, 9, 1, 8 and 1 digits.
    """
    weights = itertools.cycle(range(2, 10))
    rest = sum(int(digit) * weight for digit, weight in zip(access_key[-2::-1], weights, strict=False)) % 11
    check_digit = 0 if rest < 2 else 11 - rest
    return access_key[20:34] == f"55{series:03}{number:09}" and int(access_key[-1]) == check_digit


def _returned(page: sqlite3.Connection, access_key: str) -> int:
    row = page.execute(
        "SELECT coalesce(sum(total), 0) AS total FROM invoices WHERE refers_to = ? AND status = 'authorized'",
        (access_key,),
    ).fetchone()
    return int(row["total"])


def _write(page: sqlite3.Connection, request: core.Request) -> None:
    body, now = request.body, time.time()
    protocol = f"135{time.strftime('%y', time.gmtime(now))}{books.last(page, 'invoices') + 1:010}"
    page.execute(
        "INSERT INTO invoices (key, fingerprint, series, number, access_key, kind, refers_to, total,"
        " currency, status, protocol, authorized_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'authorized', ?, ?)",
        (
            request.key,
            fields.fingerprint(body),
            body["series"],
            body["number"],
            body["access_key"],
            body["kind"],
            body.get("references"),
            1 if body["tax_id"] == ONE_CENTAVO_TAX_ID and body["kind"] == "sale" else body["total"],
            body["currency"],
            protocol,
            now,
        ),
    )


def _find(page: sqlite3.Connection, key: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = page.execute("SELECT * FROM invoices WHERE key = ?", (key,)).fetchone()
    return row


def _existing(page: sqlite3.Connection, key: str) -> sqlite3.Row:
    row = _find(page, key)
    if row is None:
        raise LookupError(f"invoice {key} is not in the books")
    return row


def _shown(row: sqlite3.Row) -> answers.Json:
    names = ("key", "number", "status", "protocol", "series", "access_key", "kind", "total", "currency")
    return {**{name: row[name] for name in names}, "references": row["refers_to"]}


def _tombstone(key: str) -> answers.Json:
    names = ("number", "protocol", "series", "access_key", "kind", "total", "currency", "references")
    nothing = dict.fromkeys(names)
    return {"key": key, "status": "cancelled", **nothing}
