"""Forgetting what has outlived its use: until nothing is left of it, in small transactions."""

import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.db import connection

from api import idempotency, throttling
from orders import erasure

logger = logging.getLogger(__name__)

BATCH = 1_000
"""Rows of one transaction: some ten milliseconds, so that nobody who wants one of them has to wait."""

BUDGET_S = 10.0
"""How long one run may take. It comes every minute, and shares its worker with the webhooks; in this time it
clears some ten thousand rows of each, and what is left is the next one's."""


def run(*, seconds: float = BUDGET_S) -> dict[str, int]:
    """Clear everything, a batch of each table in turn, so that a long queue at one keeps no other waiting.

    Two runs at once do no harm: each takes rows that nobody holds.

    Returns:
        How many rows were cleared, by what they were.
    """
    until = time.monotonic() + seconds
    cleared = dict.fromkeys(PURGES, 0)
    left = dict(PURGES)
    while left and time.monotonic() < until:
        for what, purge in list(left.items()):
            count = purge(BATCH)
            cleared[what] += count
            if count < BATCH:
                del left[what]
    told = ", ".join(f"{count} {what}" for what, count in cleared.items() if count)
    if told:
        logger.info("cleared %s%s", told, "; there is more" if left else "")
    return cleared


def add(what: str, purge: Callable[[int], int]) -> None:
    """Have one more thing cleared with each run: it clears so many rows at most, and says how many."""
    PURGES[what] = purge


def _followers(limit: int) -> int:
    """Processes that followed a saga and died."""
    return _delete("orders_follower", "id", "until < clock_timestamp()", limit)


def _sessions(limit: int) -> int:
    """Logins to the console that are over; Django leaves them to a command that nobody runs."""
    return _delete("django_session", "session_key", "expire_date < clock_timestamp()", limit)


def _admin_log(limit: int) -> int:
    """What was done in the admin long ago. Its ids are in the order of time, so the oldest come first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_admin_log WHERE action_time < clock_timestamp() - make_interval(secs => %s)"
            " AND id = ANY (ARRAY("
            "  SELECT id FROM django_admin_log ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED))",
            [settings.ADMIN_LOG_LIVES.total_seconds(), limit],
        )
        return int(cursor.rowcount)


def _delete(table: str, key: str, over: str, limit: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {table} WHERE {key} = ANY (ARRAY("  # noqa: S608 - names of our own
            f" SELECT {key} FROM {table} WHERE {over} LIMIT %s FOR UPDATE SKIP LOCKED))",
            [limit],
        )
        return int(cursor.rowcount)


PURGES: dict[str, Callable[[int], int]] = {
    "idempotency keys": lambda limit: idempotency.purge(limit=limit),
    "allowances at rest": lambda limit: throttling.purge(limit=limit),
    "followers": _followers,
    "sessions": _sessions,
    "entries of the admin's log": _admin_log,
    "erased orders' tax ids": lambda limit: erasure.strike_kept(limit=limit),
}
"""Everything that is kept for a time and no longer: each clears so many rows at most, and says how many."""
