"""Callbacks: written to the books with what they report, signed, and sent until answered with 2xx."""

import base64
import hashlib
import hmac
import http.client
import json
import queue
import sqlite3
import threading
import time
import urllib.parse
import uuid

from sandbox import answers, books, core

DUPLICATE_AFTER_S = 0.2
SEND_TIMEOUT_S = 10.0
SENDERS = 8
IDLE_S = 1.0
PATHS = {
    "pix": "/api/v1/webhooks/payments",
    "charge": "/api/v1/webhooks/payments",
    "shipment": "/api/v1/webhooks/carrier",
}


def announce(page: sqlite3.Connection, kind: str, key: str, data: answers.Json) -> None:
    """Queue a callback in the transaction of what it reports."""
    now = time.time()
    webhook_id = f"evt_{uuid.uuid4().hex}"
    body = {"id": webhook_id, "type": kind, "key": key, "occurred_at": books.iso(now), "data": data}
    page.execute(
        "INSERT INTO webhooks (id, type, key, path, body, state, next_at, occurred_at)"
        " VALUES (?, ?, ?, ?, ?, 'queued', ?, ?)",
        (webhook_id, kind, key, PATHS[kind.partition(".")[0]], json.dumps(body), now, now),
    )


def sign(secret: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """A signature as Standard Webhooks has it."""
    signed = b".".join([webhook_id.encode(), str(timestamp).encode(), body])
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def _secret(settings: core.Settings, kind: str) -> bytes:
    """The carrier's for what the carrier reports, else the bank's."""
    if kind.startswith("shipment."):
        return settings.shipping_webhook_secrets
    return settings.payments_webhook_secrets


def log(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Every callback: what became of it, in how many tries."""
    with sandbox.books.transaction() as page:
        rows = page.execute("SELECT * FROM webhooks ORDER BY occurred_at, id").fetchall()
    names = ("id", "type", "key", "state", "attempts", "last")
    return answers.ok({"webhooks": [{name: row[name] for name in names} for row in rows]})


class Deliverer(threading.Thread):
    """Sends what is queued, several at a time, until it is taken or nobody takes it.

    What is under way is known to this process only, so after a restart it is sent again: at least once, and
    in no promised order.
    """

    def __init__(self, sandbox: core.Sandbox, target: str) -> None:
        super().__init__(name="webhooks", daemon=True)
        self._sandbox = sandbox
        self._target = urllib.parse.urlsplit(target)
        self._outgoing: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._under_way: set[str] = set()
        self._stirred = threading.Event()
        sandbox.books.listeners.append(self._stirred)

    def run(self) -> None:
        """Hand what is due to a free sender; sleep until something changes or falls due."""
        for number in range(SENDERS):
            threading.Thread(target=self._deliver, name=f"webhooks-{number}", daemon=True).start()
        while True:
            self._stirred.clear()
            for webhook_id in self._due():
                self._under_way.add(webhook_id)
                self._outgoing.put(webhook_id)
            self._stirred.wait(self._pause())

    def _due(self) -> list[str]:
        free = SENDERS - len(self._under_way)
        if free <= 0:
            return []
        with self._sandbox.books.transaction() as page:
            rows = page.execute(
                "SELECT id FROM webhooks WHERE state = 'queued' AND next_at <= ? ORDER BY next_at LIMIT ?",
                (time.time(), SENDERS * 2),
            ).fetchall()
        return [row["id"] for row in rows if row["id"] not in self._under_way][:free]

    def _pause(self) -> float:
        if len(self._under_way) >= SENDERS:
            return IDLE_S
        with self._sandbox.books.transaction() as page:
            rows = page.execute(
                "SELECT id, next_at FROM webhooks WHERE state = 'queued' ORDER BY next_at LIMIT ?",
                (SENDERS * 2,),
            ).fetchall()
        waiting: list[float] = [row["next_at"] for row in rows if row["id"] not in self._under_way]
        return min([IDLE_S, *(max(0.0, at - time.time()) for at in waiting)])

    def _deliver(self) -> None:
        while True:
            webhook_id = self._outgoing.get()
            row = self._prepare(webhook_id)
            if row is not None:
                self._record(row, self._send(row))
            self._under_way.discard(webhook_id)
            self._stirred.set()

    def _prepare(self, webhook_id: str) -> sqlite3.Row | None:
        """What to send; the first try may be dropped, or doubled, by a random fault."""
        with self._sandbox.books.transaction() as page:
            row: sqlite3.Row | None = page.execute(
                "SELECT * FROM webhooks WHERE id = ? AND state = 'queued'", (webhook_id,)
            ).fetchone()
            rates = self._sandbox.faults.rates
            if row is None or row["attempts"] or rates.are_zero:
                return row
            chance = self._sandbox.faults.chance(f"webhook {row['type']} {row['key']}")
            dropped, twice = (
                chance.random() < rates.drop_webhook_rate,
                chance.random() < rates.duplicate_webhook_rate,
            )
            struck = {"drop_webhook_rate": dropped, "duplicate_webhook_rate": twice and not dropped}
            self._sandbox.faults.strike(*(name for name, is_so in struck.items() if is_so))
            if dropped:
                page.execute("UPDATE webhooks SET state = 'dropped' WHERE id = ?", (webhook_id,))
                return None
            page.execute("UPDATE webhooks SET copies = ? WHERE id = ?", (1 + twice, webhook_id))
            return row

    def _send(self, row: sqlite3.Row) -> str:
        """Send it; the status of the answer, or the name of the error."""
        body = row["body"].encode()
        timestamp = int(time.time())
        secret = _secret(self._sandbox.settings, row["type"])
        headers = {
            "content-type": "application/json",
            "webhook-id": row["id"],
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(secret, row["id"], timestamp, body),
        }
        secure = self._target.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._target.hostname or "", self._target.port, timeout=SEND_TIMEOUT_S)
        try:
            connection.request("POST", self._target.path.rstrip("/") + row["path"], body, headers)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()
        return str(response.status)

    def _record(self, row: sqlite3.Row, outcome: str) -> None:
        now, retry_after_s = time.time(), self._sandbox.settings.webhook_retry_after_s
        with self._sandbox.books.transaction() as page:
            page.execute(
                "UPDATE webhooks SET attempts = attempts + 1, last = ? WHERE id = ?", (outcome, row["id"])
            )
            if outcome.startswith("2"):
                page.execute(
                    "UPDATE webhooks SET copies = copies - 1, delivered_at = ?, next_at = ?,"
                    " state = CASE WHEN copies > 1 THEN 'queued' ELSE 'delivered' END WHERE id = ?",
                    (now, now + DUPLICATE_AFTER_S, row["id"]),
                )
            elif row["attempts"] < len(retry_after_s):
                again_at = now + retry_after_s[row["attempts"]]
                page.execute("UPDATE webhooks SET next_at = ? WHERE id = ?", (again_at, row["id"]))
            else:
                page.execute("UPDATE webhooks SET state = 'given_up' WHERE id = ?", (row["id"],))
