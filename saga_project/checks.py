"""System checks of the wiring: limits that would fight each other are `project.W00n`, with a hint."""

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import connections

from sagas import engine
from sagas.declaration import registry

_NEVER = datetime.timedelta(0)
_SETTINGS = {
    "lock": "lock_timeout",
    "statement": "statement_timeout",
    "idle_in_transaction": "idle_in_transaction_session_timeout",
}


def check_limits(**_: Any) -> list[checks.CheckMessage]:
    """Compare the limits of sessions with each other and with the steps that run in them (W001 to W004)."""
    return [*_of_each_role(), *_of_workers(), *_of_poolers()]


def _of_each_role() -> Iterator[checks.CheckMessage]:
    for role, limits in settings.DATABASE_LIMITS.items():
        if limits.statement > _NEVER and (limits.lock == _NEVER or limits.lock >= limits.statement):
            yield checks.Warning(
                f"{role.upper()}_LOCK_TIMEOUT is not shorter than {role.upper()}_STATEMENT_TIMEOUT.",
                hint="Make it shorter: else a statement that waits for a lock ends as one that is too slow.",
                id="project.W001",
            )


def _of_workers() -> Iterator[checks.CheckMessage]:
    """A local step must hear of a lock before its own time is over, and may compute for all of that time."""
    limits = settings.DATABASE_LIMITS["worker"]
    steps = (step for saga in registry.everything() for step in saga.all_steps)
    local = [step for step in steps if step.has_worker and not step.remote]
    # To claim a step and to record its outcome each take a lock, and the lease must outlast both.
    shortest = min([engine.LEASE_MARGIN / 3, *(step.timeout for step in local)])
    longest = max([_NEVER, *(step.timeout for step in local)])
    if not _NEVER < limits.lock < shortest:
        yield checks.Warning(
            f"WORKER_LOCK_TIMEOUT is not between 0 and {shortest.total_seconds():g} s, both excluded.",
            hint="A local step that waits for a lock must be put off before its timeout interrupts it.",
            id="project.W002",
        )
    if _NEVER < limits.idle_in_transaction <= longest:
        yield checks.Warning(
            "WORKER_IDLE_IN_TRANSACTION_TIMEOUT is not longer than the longest local step, "
            f"which may take {longest.total_seconds():g} s.",
            hint="Make it longer: PostgreSQL would end the session of a step that only computes.",
            id="project.W003",
        )


def _of_poolers() -> Iterator[checks.CheckMessage]:
    if settings.DATABASE_TRANSACTION_POOLING and settings.DATABASE_DIRECT is None:
        yield checks.Warning(
            "DATABASE_TRANSACTION_POOLING is on and DATABASE_DIRECT_URL is not set.",
            hint="Set it to the server itself: LISTEN means nothing at a pooler, so streams would lag.",
            id="project.W004",
        )


def check_session(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Ask a session whether its limits have reached it (W005); a pooler may have kept them back."""
    if not databases or "default" not in databases:
        return []
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [[*_SETTINGS.values()]])
        told = dict(cursor.fetchall())
    limits = settings.DATABASE_LIMITS["command"]
    missing = [
        name for field, name in _SETTINGS.items() if getattr(limits, field) > _NEVER and told[name] == "0"
    ]
    if not missing:
        return []
    return [
        checks.Warning(
            f"No {', '.join(missing)} holds in a session of this database.",
            hint="Behind a pooler set them with ALTER ROLE ... SET; see docs/configuration.md.",
            id="project.W005",
        )
    ]
