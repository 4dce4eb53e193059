"""The carrier: it collects what is booked, delivers it or fails, and brings back what is recalled."""

import sqlite3
import time

from sandbox import answers, books, core, fields, webhooks

REFUSED = "99999001"
UNDELIVERABLE = "99999002"
SILENT = "99999003"
ONE_TOO_MANY = "99999004"
"""Booked with one parcel more than was asked."""
PARCELS_MAX = 10_000


def book(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Book a shipment: once per key. From then on it moves by itself."""
    fields.known(request.body, "postal_code", "reference", "parcels")
    postal_code = fields.text(request.body, "postal_code", fields.POSTAL_CODE).replace("-", "")
    reference = fields.text(request.body, "reference", fields.ACCESS_KEY)
    fields.integer(request.body, "parcels", 1, PARCELS_MAX)
    with sandbox.books.transaction() as page:
        if found := _find(page, request.key):
            same = found["fingerprint"] == fields.fingerprint(request.body)
            return answers.ok(_shown(found)) if same else answers.key_reused()
        if books.buried(page, "carrier", request.key):
            return answers.voided()
        if postal_code == REFUSED:
            return answers.no(422, "booking_refused", "The carrier does not serve this postal code.")
        page.execute(
            "INSERT INTO shipments (key, fingerprint, postal_code, reference, tracking, parcels, status,"
            " booked_at) VALUES (?, ?, ?, ?, ?, ?, 'booked', ?)",
            (
                request.key,
                fields.fingerprint(request.body),
                postal_code,
                reference,
                f"SB{books.last(page, 'shipments') + 1:09}BR",
                request.body["parcels"] + (postal_code == ONE_TOO_MANY),
                time.time(),
            ),
        )
        if postal_code != SILENT:
            _plan_next(page, sandbox, request.key)
        return answers.created(_shown(_existing(page, request.key)))


def look_up(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Where a shipment is."""
    with sandbox.books.transaction() as page:
        if found := _find(page, request.key):
            return answers.ok(_shown(found))
        if books.buried(page, "carrier", request.key):
            return answers.ok(_tombstone(request.key))
        return answers.not_found()


def recall(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Stop a shipment: what has not left stays, what has left comes back, what arrived is gone."""
    fields.known(request.body)
    with sandbox.books.transaction() as page:
        found = _find(page, request.key)
        if found is None:
            books.bury(page, "carrier", request.key)
            return answers.ok(_tombstone(request.key))
        if found["status"] == "delivered":
            return answers.no(409, "delivered", "It was delivered and cannot be recalled.")
        if found["status"] == "booked":
            _set_status(page, request.key, "recalled")
        elif found["status"] in ("handed_over", "failed"):
            _set_status(page, request.key, "returned")
            _report(page, request.key)
        return answers.ok(_shown(_existing(page, request.key)))


def move(page: sqlite3.Connection, sandbox: core.Sandbox, key: str) -> None:
    """The next thing that happens to a shipment, unless it was recalled meanwhile."""
    found = _existing(page, key)
    if found["status"] == "booked":
        page.execute("UPDATE shipments SET handed_over_at = ? WHERE key = ?", (time.time(), key))
        _set_status(page, key, "handed_over")
        _report(page, key)
        _plan_next(page, sandbox, key)
    elif found["status"] == "handed_over":
        _set_status(page, key, "failed" if found["postal_code"] == UNDELIVERABLE else "delivered")
        _report(page, key)


def circulating(page: sqlite3.Connection, access_key: str) -> bool:
    """Whether goods have ever left under this invoice, even if they came back."""
    found = page.execute(
        "SELECT 1 FROM shipments WHERE reference = ? AND handed_over_at IS NOT NULL", (access_key,)
    )
    return found.fetchone() is not None


def written(page: sqlite3.Connection) -> list[answers.Json]:
    """Every shipment ever booked."""
    rows = page.execute("SELECT * FROM shipments ORDER BY booked_at, key")
    return [_shown(row) for row in rows]


def _plan_next(page: sqlite3.Connection, sandbox: core.Sandbox, key: str) -> None:
    books.plan(page, time.time() + sandbox.settings.carrier_pace_s, "shipment.move", key)


def _set_status(page: sqlite3.Connection, key: str, status: str) -> None:
    page.execute("UPDATE shipments SET status = ? WHERE key = ?", (status, key))


def _report(page: sqlite3.Connection, key: str) -> None:
    shown = _shown(_existing(page, key))
    webhooks.announce(page, f"shipment.{shown['status']}", key, shown)


def _find(page: sqlite3.Connection, key: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = page.execute("SELECT * FROM shipments WHERE key = ?", (key,)).fetchone()
    return row


def _existing(page: sqlite3.Connection, key: str) -> sqlite3.Row:
    row = _find(page, key)
    if row is None:
        raise LookupError(f"shipment {key} is not in the books")
    return row


def _shown(row: sqlite3.Row) -> answers.Json:
    return {name: row[name] for name in ("key", "tracking", "status", "reference", "parcels")}


def _tombstone(key: str) -> answers.Json:
    return {"key": key, "tracking": None, "status": "recalled", "reference": None, "parcels": None}
