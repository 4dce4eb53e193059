"""The same request twice is one action and one answer (D8).

The key's row is written in the transaction that does the work. Of two simultaneous requests the second
waits at the unique index until the first has committed, and then replays its answer; if the first is
rolled back, or its process dies, the second does the work. One that is refused leaves its key unused.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import psycopg.errors
from django import http
from django.conf import settings
from django.db import OperationalError, connection, transaction
from rest_framework.request import Request

from api import auth, models, problems
from sagas import strictjson

PATIENCE_S = 2
"""How long a second request waits for the first before it is told to come back."""


KEY = re.compile(r'"(?P<quoted>(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"|(?P<bare>[\x21\x23-\x7e]+)')
"""A structured-field string, as the draft says, or the same without quotes, as everybody sends it."""

PATTERN = "^(?:" + re.sub(r"\?P<\w+>", "?:", KEY.pattern) + ")$"
"""The same, for the description."""

LONGEST = 200

SAMPLE = "3f6d1c9a-2b44-4c1e-9d1e-7a10cc398c4d"
"""What the description shows; the page of it puts a new one in its place each time that it asks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer to a request, to the byte."""

    status: int
    headers: dict[str, str]
    body: bytes


def read(request: Request) -> str:
    """The request's key."""
    header = request.headers.get("Idempotency-Key")
    if header is None:
        raise problems.Problem(problems.KEY_MISSING, "The header Idempotency-Key is missing.")
    match = KEY.fullmatch(header.strip())
    if match is None or len(match[0]) > LONGEST:
        raise problems.Problem(
            problems.KEY_INVALID,
            f"The header Idempotency-Key must have 1 to {LONGEST} visible ASCII characters.",
        )
    return match["bare"] or re.sub(r'\\(["\\])', r"\1", match["quoted"])


def once(request: Request, *, key: str, endpoint: str, work: Callable[[], Answer]) -> http.HttpResponse:
    """Do the work of a request and keep its answer, or give the answer that was kept.

    1. Claim the key; whoever else is at it now goes first.
    2. If it was claimed before: replay the answer, unless the question is another one.
    3. Otherwise do the work and keep its answer, all in one transaction. A refusal raises, and leaves
       neither work nor key behind.
    """
    with transaction.atomic():
        asked = fingerprint(method=request.method or "", path=request.path, body=request.data)
        row = models.IdempotencyKey(owner=auth.caller(request), endpoint=endpoint, key=key, fingerprint=asked)
        if _claim(row):
            answer = work()
            row.status, row.headers, row.body = answer.status, answer.headers, answer.body
            row.save(update_fields=["status", "headers", "body"])
            return http.HttpResponse(answer.body, status=answer.status, headers=answer.headers)
        row = models.IdempotencyKey.objects.get(owner=row.owner, endpoint=endpoint, key=key)
    if row.fingerprint != asked:
        raise problems.Problem(
            problems.KEY_REUSED,
            "This Idempotency-Key was used for another request. Use a new key for a new request.",
        )
    assert row.status is not None, "a key was committed without its answer"
    assert row.body is not None
    headers = row.headers | {"Idempotency-Replayed": "true"}
    return http.HttpResponse(bytes(row.body), status=row.status, headers=headers)


def fingerprint(*, method: str, path: str, body: Any) -> str:
    """A hash of what was asked, which spaces and the order of names do not change."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{method} {path}\n{canonical}".encode()).hexdigest()


def purge(*, limit: int = 1_000) -> int:
    """Forget keys that have expired, so many at a time; how many it were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM api_idempotencykey WHERE id = ANY (ARRAY("
            " SELECT id FROM api_idempotencykey WHERE expires_at <= now()"
            " ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED))",
            [limit],
        )
        return int(cursor.rowcount)


def strike(*, owner: int, about: str, rewrite: Callable[[Any], Any]) -> None:
    """Rewrite what was kept of the answers about something: who asks again gets it so, and nothing is redone.

    Arguments:
        owner: whose requests they were.
        about: what stands in such an answer, such as an order's id.
        rewrite: given an answer's JSON; what is to be kept of it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM api_idempotencykey"
            " WHERE owner_id = %s AND position(convert_to(%s, 'UTF8') in body) > 0",
            [owner, about],
        )
        found = [row[0] for row in cursor.fetchall()]
    for row in models.IdempotencyKey.objects.select_for_update().filter(pk__in=found):
        answer = strictjson.loads(bytes(row.body or b"null"))
        if (kept := rewrite(answer)) != answer:
            row.body = strictjson.dumps(kept)
            row.save(update_fields=["body"])


def _claim(row: models.IdempotencyKey) -> bool:
    """Whether the row is ours to fill, and has its id: a new one, or one whose time was over."""
    lifetime = settings.IDEMPOTENCY_KEYS_LIVE.total_seconds()
    with connection.cursor() as cursor:
        try:
            # The patience is set first, for the rest of the transaction: a row is made before it is inserted.
            cursor.execute(
                "INSERT INTO api_idempotencykey AS kept"
                " (owner_id, endpoint, key, fingerprint, headers, expires_at)"
                " SELECT %s, %s, %s, %s, '{}', now() + make_interval(secs => %s)"
                " FROM set_config('lock_timeout', %s, true)"
                " ON CONFLICT (owner_id, endpoint, key) DO UPDATE"
                " SET fingerprint = excluded.fingerprint, expires_at = excluded.expires_at,"
                " created_at = now(), status = NULL, body = NULL"
                " WHERE kept.expires_at <= now()"
                " RETURNING id",
                [row.owner_id, row.endpoint, row.key, row.fingerprint, lifetime, f"{PATIENCE_S}s"],
            )
        except OperationalError as error:
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise problems.Problem(
                    problems.IN_PROGRESS,
                    "The first request with this Idempotency-Key is still being worked on. Send it again"
                    " shortly.",
                    headers={"Retry-After": "1"},
                ) from error
            raise
        claimed: tuple[int] | None = cursor.fetchone()
    if claimed:
        row.pk = claimed[0]
    return claimed is not None
