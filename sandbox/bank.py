"""The bank: card and PIX charges, refunds, and what the test tokens do."""

import enum
import sqlite3
import time
import uuid

from sandbox import answers, books, core, fields, webhooks


class Card(enum.StrEnum):
    """The test tokens; each says what becomes of a charge."""

    OK = "tok_ok"
    DECLINED = "tok_declined"
    FLAKY = "tok_flaky"
    """503 twice, then it works."""
    LOST_REPLY = "tok_lost_reply"
    """The charge happens, and the reply to the request that made it never comes."""
    DOWN = "tok_down"
    """503 to every charge; a refund finds nothing to give back, and is content."""
    SLOW = "tok_slow"
    """Two seconds pass before the charge happens."""
    ONE_CENTAVO = "tok_one_centavo"
    """One centavo is charged, whatever was asked."""
    OTHER_CURRENCY = "tok_other_currency"
    """The amount is charged, in another currency than was asked: in USD; in EUR, if that was asked."""
    REFUND_FLAKY = "tok_refund_flaky"
    """503 to the first three refunds, then it works."""
    REFUND_REFUSED = "tok_refund_refused"
    """What was captured is never given back."""


SLOW_S = 2.0
FLAKY_CHARGES = 2
FLAKY_REFUNDS = 3
PIX_EXPIRES_MAX_S = 30 * 24 * 60 * 60


def charge(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Take money now (card), or ask for it (PIX): once per key, however often it is asked."""
    method = fields.choice(request.body, "method", "card", "pix")
    if method == "card":
        fields.known(request.body, "method", "token", "amount", "currency")
        token = fields.text(request.body, "token", (r"[\x21-\x7e]{1,100}", "a card's token"))
    else:
        fields.known(request.body, "method", "amount", "currency", "expires_in_s")
        fields.number(request.body, "expires_in_s", 0.001, PIX_EXPIRES_MAX_S)
        token = None
    fields.amount(request.body, "amount")
    fields.text(request.body, "currency", fields.CURRENCY)

    if token == Card.SLOW:
        with sandbox.books.transaction() as page:
            first = _find(page, request.key) is None
        if first:
            time.sleep(SLOW_S)
    with sandbox.books.transaction() as page:
        if found := _find(page, request.key):
            return _replay(found, request)
        if books.buried(page, "bank", request.key):
            return answers.voided()
        if method == "pix":
            return _ask_for_pix(page, sandbox, request)
        return _charge_card(page, request, str(token))


def look_up(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """What became of a charge."""
    with sandbox.books.transaction() as page:
        if found := _find(page, request.key):
            return answers.ok(_shown(found))
        if books.buried(page, "bank", request.key):
            return answers.ok(_tombstone(request.key))
        return answers.not_found()


def refund(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Undo a charge by its real state, or give back the part that `amount` names.

    1. A charge never made: a tombstone, so that it never will be.
    2. A PIX not yet paid: cancelled. What is paid all the same afterwards can be refunded then.
    3. Money captured: given back, as far as it was not before.
    4. Anything else: there is nothing to do, and that is well.
    """
    fields.known(request.body, "amount")
    if request.body.get("amount") is not None:
        return _refund_part(sandbox, request)
    with sandbox.books.transaction() as page:
        found = _find(page, request.key)
        if found is None:
            books.bury(page, "bank", request.key)
            return answers.ok(_tombstone(request.key))
        if found["status"] == "pending":
            page.execute("UPDATE charges SET status = 'cancelled' WHERE key = ?", (request.key,))
        elif found["captured"] > found["refunded"]:
            if refused := _refund_fate(page, found):
                return refused
            _give_back(page, request.key, found["captured"] - found["refunded"])
        return answers.ok(_shown(_existing(page, request.key)))


def pay(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """The customer pays a PIX charge, in time or not: the bank takes the money either way.

    With an `amount` the bank takes that instead of what was asked, as if it had misunderstood.
    """
    fields.known(request.body, "amount")
    other = None if request.body.get("amount") is None else fields.amount(request.body, "amount")
    with sandbox.books.transaction() as page:
        found = _find(page, request.key)
        if found is None:
            return answers.not_found()
        if found["method"] != "pix":
            return answers.no(409, "not_pix", "Only a PIX charge is paid this way.")
        if not found["captured"]:
            if other is not None:
                page.execute("UPDATE charges SET amount = ? WHERE key = ?", (other, request.key))
            _capture_pix(page, request.key)
        return answers.ok(_shown(_existing(page, request.key)))


def pay_by_itself(page: sqlite3.Connection, sandbox: core.Sandbox, key: str) -> None:
    """The customer pays within the time that the settings say, if there still is something to pay."""
    if _existing(page, key)["status"] == "pending":
        _capture_pix(page, key)


def expire(page: sqlite3.Connection, sandbox: core.Sandbox, key: str) -> None:
    """The time to pay a PIX charge is over."""
    changed = page.execute(
        "UPDATE charges SET status = 'expired' WHERE key = ? AND status = 'pending'", (key,)
    )
    if changed.rowcount:
        webhooks.announce(page, "pix.expired", key, _shown(_existing(page, key)))


def written(page: sqlite3.Connection) -> list[answers.Json]:
    """Every charge ever made."""
    rows = page.execute("SELECT * FROM charges ORDER BY created_at, key")
    names = ("key", "amount", "currency", "captured", "refunded", "method", "status")
    return [{name: row[name] for name in names} for row in rows]


def _find(page: sqlite3.Connection, key: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = page.execute("SELECT * FROM charges WHERE key = ?", (key,)).fetchone()
    return row


def _existing(page: sqlite3.Connection, key: str) -> sqlite3.Row:
    row = _find(page, key)
    if row is None:
        raise LookupError(f"charge {key} is not in the books")
    return row


def _replay(found: sqlite3.Row, request: core.Request) -> answers.Answer:
    if found["fingerprint"] != fields.fingerprint(request.body):
        return answers.key_reused()
    if found["status"] == "declined":
        return _declined(found["token"])
    return answers.ok(_shown(found))


def _declined(token: str | None) -> answers.Answer:
    if token == Card.DECLINED:
        return answers.no(402, "card_declined", "The card's bank declined the charge.")
    return answers.no(402, "unknown_token", f"No card has this token. Test tokens: {', '.join(Card)}.")


def _charge_card(page: sqlite3.Connection, request: core.Request, token: str) -> answers.Answer:
    if token == Card.DOWN:
        return answers.unavailable()
    if token == Card.FLAKY and books.fail_first(page, FLAKY_CHARGES, "charge", request.key):
        return answers.unavailable()
    known = token in list(Card)
    declined = token == Card.DECLINED or not known
    _write(page, request, token=token if known else None, status="declined" if declined else "captured")
    if declined:
        return _declined(token if known else None)
    shown = _shown(_existing(page, request.key))
    webhooks.announce(page, "charge.captured", request.key, shown)
    return answers.created(shown, lost=token == Card.LOST_REPLY)


def _ask_for_pix(page: sqlite3.Connection, sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    now = time.time()
    expires_at = now + float(request.body["expires_in_s"])
    _write(page, request, status="pending", expires_at=expires_at)
    books.plan(page, expires_at, "pix.expire", request.key)
    autopay_s = sandbox.settings.pix_autopay_after_s
    if autopay_s is not None:
        books.plan(page, now + autopay_s, "pix.pay", request.key)
    return answers.created(_shown(_existing(page, request.key)))


def _write(
    page: sqlite3.Connection,
    request: core.Request,
    *,
    status: str,
    token: str | None = None,
    expires_at: float | None = None,
) -> None:
    method, amount = request.body["method"], request.body["amount"]
    currency = request.body["currency"]
    if token == Card.ONE_CENTAVO:
        amount = 1
    if token == Card.OTHER_CURRENCY:
        currency = "EUR" if currency == "USD" else "USD"
    charge_id = f"ch_{uuid.uuid4().hex}"
    page.execute(
        "INSERT INTO charges (key, id, fingerprint, method, token, status, amount, currency, captured,"
        " copy_paste, expires_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            request.key,
            charge_id,
            fields.fingerprint(request.body),
            method,
            token,
            status,
            amount,
            currency,
            amount if status == "captured" else 0,
            _copy_paste(charge_id, amount) if method == "pix" else None,
            expires_at,
            time.time(),
        ),
    )


def _capture_pix(page: sqlite3.Connection, key: str) -> None:
    page.execute("UPDATE charges SET status = 'captured', captured = amount WHERE key = ?", (key,))
    webhooks.announce(page, "pix.paid", key, _shown(_existing(page, key)))


def _refund_fate(page: sqlite3.Connection, found: sqlite3.Row) -> answers.Answer | None:
    if found["token"] == Card.REFUND_REFUSED:
        return answers.no(409, "refund_refused", "The card's bank refuses this refund for good.")
    if found["token"] == Card.REFUND_FLAKY and books.fail_first(page, FLAKY_REFUNDS, "refund", found["key"]):
        return answers.unavailable()
    return None


def _refund_part(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    amount = fields.amount(request.body, "amount")
    if request.idempotency_key is None:
        raise answers.Invalid("A refund of a part needs the header Idempotency-Key.")
    with sandbox.books.transaction() as page:
        found = _find(page, request.key)
        if found is None:
            return answers.not_found()
        before = page.execute(
            "SELECT * FROM refunds WHERE idempotency_key = ?", (request.idempotency_key,)
        ).fetchone()
        if before:
            same = (before["charge"], before["amount"]) == (request.key, amount)
            return answers.ok(_shown(found)) if same else answers.key_reused()
        if amount > found["captured"] - found["refunded"]:
            return answers.no(409, "refund_exceeds_capture", "No more than was captured can be given back.")
        if refused := _refund_fate(page, found):
            return refused
        page.execute(
            "INSERT INTO refunds VALUES (?, ?, ?, ?)",
            (request.idempotency_key, request.key, amount, time.time()),
        )
        _give_back(page, request.key, amount)
        return answers.ok(_shown(_existing(page, request.key)))


def _give_back(page: sqlite3.Connection, key: str, amount: int) -> None:
    page.execute("UPDATE charges SET refunded = refunded + ? WHERE key = ?", (amount, key))
    page.execute("UPDATE charges SET status = 'refunded' WHERE key = ? AND refunded = captured", (key,))


def _shown(row: sqlite3.Row) -> answers.Json:
    names = ("key", "id", "method", "status", "amount", "currency", "captured", "refunded")
    shown = {name: row[name] for name in names}
    if row["method"] == "pix":
        shown["pix"] = {"copy_paste": row["copy_paste"], "expires_at": books.iso(row["expires_at"])}
    return shown


def _tombstone(key: str) -> answers.Json:
    nothing = {"amount": 0, "currency": None, "captured": 0, "refunded": 0}
    return {"key": key, "id": None, "method": None, "status": "voided", **nothing}


def _copy_paste(charge_id: str, amount: int) -> str:
    """A line to pay with, in the manner of BR Code; good for this bank only."""
    reference = charge_id.removeprefix("ch_")[:25]
    value = f"{amount // 100}.{amount % 100:02}"
    account = _field("00", "br.gov.bcb.pix") + _field("25", f"sandbox.invalid/{reference}")
    code = (
        _field("00", "01")
        + _field("26", account)
        + _field("52", "0000")
        + _field("53", "986")
        + _field("54", value)
        + _field("58", "BR")
        + _field("59", "SANDBOX")
        + _field("60", "SAO PAULO")
        + _field("62", _field("05", reference))
        + "6304"
    )
    return f"{code}{_crc16(code):04X}"


def _field(name: str, value: str) -> str:
    return f"{name}{len(value):02}{value}"


def _crc16(text: str) -> int:
    crc = 0xFFFF
    for byte in text.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc
