"""System checks of the wiring: limits that would fight each other are `project.W00n`, with a hint."""

import base64
import datetime
import re
from collections.abc import Iterator, Sequence
from typing import Any, LiteralString
from urllib import parse as urls

import psycopg
from django.conf import settings
from django.core import checks
from django.db import connections

from saga_project import postgres
from sagas import doctor, engine
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


def check_deployment(**_: Any) -> list[checks.CheckMessage]:
    """Report what production would suffer from (W008 on): `manage.py check --deploy` asks."""
    return [finding.as_check() for finding in (*_of_names(), *_of_secrets(), *_of_neighbours())]


LOOPBACK = {"localhost", "127.0.0.1", "[::1]", "::1", "0.0.0.0"}  # noqa: S104 - compared with, and not bound to
GUESSABLE = re.compile(r"insecure|change.?me|example|for.tests|password|secret", re.IGNORECASE)


def _of_names() -> Iterator[doctor.Finding]:
    names = set(settings.ALLOWED_HOSTS)
    if "*" in names:
        yield doctor.warning(
            "project.W008",
            "ALLOWED_HOSTS is *: any name is taken for this site's.",
            "Links in answers and letters may lead to somebody else's site.",
            "ALLOWED_HOSTS=shop.example.com",
        )
    elif names and names <= LOOPBACK:
        yield doctor.warning(
            "project.W008",
            "ALLOWED_HOSTS names only this machine.",
            "Every order that comes by the site's own name is refused with 400.",
            "ALLOWED_HOSTS=shop.example.com",
        )
    if settings.PLAIN_HTTP:
        yield doctor.warning(
            "project.W016",
            "PLAIN_HTTP is on: this site is spoken to without TLS.",
            "Tokens, sessions of operators and addresses of customers can be read on the way.",
            "PLAIN_HTTP=0, or leave it out.",
        )
    if settings.WEBHOOKS_TO_PRIVATE_ADDRESSES:
        yield doctor.warning(
            "project.W009",
            "WEBHOOKS_TO_PRIVATE_ADDRESSES is on.",
            "A merchant can have this site call servers of yours that nobody outside may reach.",
            "WEBHOOKS_TO_PRIVATE_ADDRESSES=0, or leave it out.",
        )


def _of_secrets() -> Iterator[doctor.Finding]:
    if GUESSABLE.search(settings.SECRET_KEY):
        yield doctor.warning(
            "project.W010",
            "SECRET_KEY has words in it that people write: it was typed, or copied from somewhere.",
            "Who guesses it signs in as an operator, and moves money.",
            "SECRET_KEY=$(python -c 'import secrets; print(secrets.token_urlsafe(50))')",
        )
    for name in ("PAYMENTS_WEBHOOK_SECRETS", "SHIPPING_WEBHOOK_SECRETS"):
        keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in getattr(settings, name)]
        # Of 24 random bytes not all are printable: that happens once in 10^10 secrets.
        if any(key.isascii() and key.decode().isprintable() for key in keys):
            yield doctor.warning(
                "project.W011",
                f"{name} has a secret that is text: it was typed, or copied from somewhere.",
                "Who guesses it tells us, as the provider, that an order is paid or delivered.",
                f"{name}=whsec_$(openssl rand -base64 32), with the provider's agreement",
            )
    for address in settings.BROKER.addresses:
        parts = urls.urlsplit(address)
        if parts.hostname in LOOPBACK:
            continue
        if not parts.password or (parts.username, parts.password) == ("guest", "guest"):
            yield doctor.warning(
                "project.W012",
                f"The broker at {parts.hostname} is reached without a password, or with the one that it"
                " came with.",
                "Whoever reaches it can empty the queues, and read which orders there are.",
                f"BROKER_URL={parts.scheme}://user:password@{parts.hostname}...",
            )


def _of_neighbours() -> Iterator[doctor.Finding]:
    if settings.SANDBOX_URL:
        yield doctor.warning(
            "project.W013",
            "SANDBOX_URL is set: the providers are the sandbox.",
            "Orders are paid and delivered in a play.",
            "Leave SANDBOX_URL out, and set PAYMENTS_URL, INVOICING_URL and SHIPPING_URL to the providers'.",
        )
    for name in ("PAYMENTS_URL", "INVOICING_URL", "SHIPPING_URL"):
        parts = urls.urlsplit(getattr(settings, name))
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            yield doctor.warning(
                "project.W014",
                f"{name} is http.",
                "What is asked of the provider, keys and customers among it, can be read and changed on"
                " the way.",
                f"{name}=https://{parts.netloc}{parts.path}",
            )
    steps = (step for saga in registry.everything() for step in saga.all_steps)
    ours = [step for step in steps if step.queue in ("payments", "invoicing", "shipping")]
    remote = [step.timeout for step in ours if step.has_worker and step.remote]
    if remote and min(remote) <= settings.PROVIDER_TIMEOUT:
        yield doctor.warning(
            "project.W015",
            f"PROVIDER_TIMEOUT is {settings.PROVIDER_TIMEOUT.total_seconds():g} s, and a step that calls a"
            " provider has "
            f"{min(remote).total_seconds():g} s.",
            "A slow call is broken off by the step's own limit: nobody knows what came of it, and it is"
            " asked for.",
            "PROVIDER_TIMEOUT=5s",
        )


def check_session(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Ask how the processes reach PostgreSQL, and what has reached it of their limits (W005 on, E001 on)."""
    if not databases or "default" not in databases:
        return []
    return [*_of_sessions(), *of_ways()]


def _of_sessions() -> Iterator[checks.CheckMessage]:
    """Whether the limits hold in a session as a worker has it: a pooler may have kept them back."""
    if settings.DATABASE_TRANSACTION_POOLING:
        try:
            with psycopg.connect(
                **postgres.url_parameters(settings.DATABASE_URL), prepare_threshold=None
            ) as one:
                told = dict(one.execute(_HELD, [[*_SETTINGS.values()]]).fetchall())
        except psycopg.OperationalError:
            return  # `of_ways` says so.
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


def of_ways() -> Iterator[checks.CheckMessage]:
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
