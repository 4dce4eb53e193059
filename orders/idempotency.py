"""The same request twice is one action and one answer (D8).

The key's row is written in the transaction that does the work. Of two simultaneous requests the second
waits at the unique index until the first has committed, and then replays its answer; if the first is
rolled back, or its process dies, the second does the work.
"""

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Callable
from typing import Any

import psycopg.errors
from django.contrib.auth import models as auth
from django.db import OperationalError, connection, transaction

from orders import errors, models

PATIENCE_S = 2
"""How long a second request waits for the first before it is told to come back."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer to a request, to the byte."""

    status: int
    headers: dict[str, str]
    body: bytes
    replayed: bool = False


def fingerprint(*, method: str, path: str, body: Any) -> str:
    """A hash of what was asked, which spaces and the order of names do not change."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{method} {path}\n{canonical}".encode()).hexdigest()


def once(
    *,
    owner: auth.User,
    endpoint: str,
    key: str,
    fingerprint: str,
    lifetime: datetime.timedelta,
    work: Callable[[], Answer],
) -> Answer:
    """Do the work and keep its answer, or give the answer that was kept.

    1. Claim the key; whoever else is at it now goes first.
    2. If it was claimed before: replay the answer, unless the question is another one.
    3. Otherwise do the work and keep its answer, all in one transaction. A refusal raises, and leaves
       neither work nor key behind.
    """
    with transaction.atomic():
        claimed = _claim(owner, endpoint, key, fingerprint, lifetime)
        if claimed is None:
            row = models.IdempotencyKey.objects.get(owner=owner, endpoint=endpoint, key=key)
            if row.fingerprint != fingerprint:
                raise errors.KeyReused
            assert row.status is not None, "a key was committed without its answer"
            assert row.body is not None
            return Answer(status=row.status, headers=row.headers, body=bytes(row.body), replayed=True)
        answer = work()
        models.IdempotencyKey.objects.filter(pk=claimed).update(
            status=answer.status, headers=answer.headers, body=answer.body
        )
        return answer


def purge(*, limit: int = 1_000) -> int:
    """Forget keys that have expired, so many at a time; how many it were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM orders_idempotencykey WHERE id IN ("
            " SELECT id FROM orders_idempotencykey WHERE expires_at <= now()"
            " ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)",
            [limit],
        )
        return int(cursor.rowcount)


def _claim(
    owner: auth.User, endpoint: str, key: str, fingerprint: str, lifetime: datetime.timedelta
) -> int | None:
    """The row's id, if it is ours to fill: a new one, or one whose time was over."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{PATIENCE_S}s'")
        try:
            cursor.execute(
                "INSERT INTO orders_idempotencykey AS kept"
                " (owner_id, endpoint, key, fingerprint, headers, expires_at)"
                " VALUES (%s, %s, %s, %s, '{}', now() + make_interval(secs => %s))"
                " ON CONFLICT (owner_id, endpoint, key) DO UPDATE"
                " SET fingerprint = excluded.fingerprint, expires_at = excluded.expires_at,"
                " created_at = now(), status = NULL, body = NULL"
                " WHERE kept.expires_at <= now()"
                " RETURNING id",
                [owner.pk, endpoint, key, fingerprint, lifetime.total_seconds()],
            )
        except OperationalError as error:
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise errors.StillInProgress from error
            raise
        row: tuple[int] | None = cursor.fetchone()
    return row[0] if row else None
