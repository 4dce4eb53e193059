"""System checks of the wiring: limits that would fight each other are `project.W00n`, with a hint."""

import datetime
from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

import psycopg
from django.conf import settings
from django.core import checks
from django.db import connections

from saga_project import postgres
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
    """Ask how the processes reach PostgreSQL, and what has reached it of their limits (W005 on, E001 on)."""
    if not databases or "default" not in databases:
        return []
    return [*_of_sessions(), *_of_ways()]


def _of_sessions() -> Iterator[checks.CheckMessage]:
    """Whether the limits hold in a session as a worker has it: a pooler may have kept them back."""
    if settings.DATABASE_TRANSACTION_POOLING:
        try:
            with psycopg.connect(
                **postgres.url_parameters(settings.DATABASE_URL), prepare_threshold=None
            ) as one:
                told = dict(one.execute(_HELD, [[*_SETTINGS.values()]]).fetchall())
        except psycopg.OperationalError:
            return  # `_of_ways` says so.
    else:
        with connections["default"].cursor() as cursor:
            cursor.execute(_HELD, [[*_SETTINGS.values()]])
            told = dict(cursor.fetchall())
    limits = settings.DATABASE_LIMITS["command"]
    missing = [
        name for field, name in _SETTINGS.items() if getattr(limits, field) > _NEVER and told[name] == "0"
    ]
    if missing:
        yield checks.Warning(
            f"No {', '.join(missing)} holds in a session of this database.",
            hint="Behind a pooler set them with ALTER ROLE ... SET; see docs/configuration.md.",
            id="project.W005",
        )


_HELD: LiteralString = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"


def _of_ways() -> Iterator[checks.CheckMessage]:
    """Whether each URL leads to where it is taken to lead."""
    urls = {"DATABASE_URL": settings.DATABASE_URL, "DATABASE_DIRECT_URL": settings.DATABASE_DIRECT_URL}
    for name, url in urls.items():
        if not url:
            continue
        try:
            found = postgres.pooling(postgres.url_parameters(url))
        except psycopg.OperationalError as error:
            yield checks.Warning(
                f"{name} is not answered: {str(error).strip().partition(chr(10))[0]}",
                hint="Start what it leads to, or correct it.",
                id="project.W006",
            )
            continue
        if name == "DATABASE_DIRECT_URL" and found not in ("none", "session"):
            yield checks.Error(
                "DATABASE_DIRECT_URL leads to a pooler that shares connections.",
                hint="Set it to the server itself: notifications and migrations need a session of their own.",
                id="project.E002",
            )
        elif name == "DATABASE_URL" and found == "statement":
            yield checks.Error(postgres.STATEMENTS, hint=postgres.NO_STATEMENTS, id="project.E001")
        elif name == "DATABASE_URL" and found == "transaction" and not settings.DATABASE_TRANSACTION_POOLING:
            yield checks.Error(postgres.UNPREPARED, hint=postgres.PREPARE, id="project.E001")
        elif name == "DATABASE_URL" and found == "none" and settings.DATABASE_TRANSACTION_POOLING:
            yield checks.Warning(
                "DATABASE_TRANSACTION_POOLING is on, and DATABASE_URL leads to the server itself.",
                hint="Unset it: nothing is prepared, so that every statement is planned anew.",
                id="project.W007",
            )
