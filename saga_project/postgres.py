"""How the processes of this project connect to PostgreSQL: where to, and how patient each kind of them is.

A process is a `command` (`manage.py`, a migration, a shell) until it says otherwise: asgi.py says `web`, a
Celery worker says `worker`, each before its first connection. The limits are the server's own
(`lock_timeout` and its like), sent with the connection, so that they hold whatever the process does.
"""

import dataclasses
import datetime
from typing import Any, Literal

import psycopg
from django.core import exceptions
from django.db import connections
from psycopg import conninfo

Role = Literal["web", "worker", "command"]

CONNECT_TIMEOUT_S = 5
"""For each host of the URL. Without it a host that does not answer holds a process for two minutes."""

PROBES = 3
"""Keepalive probes that a peer may leave unanswered."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What PostgreSQL ends in a session of this kind of process; zero for never."""

    lock: datetime.timedelta
    """The longest wait for one lock."""

    statement: datetime.timedelta
    """The longest statement, its waits for locks included."""

    idle_in_transaction: datetime.timedelta
    """The longest silence inside a transaction: it keeps its locks meanwhile."""


def django_settings(url: str, *, limits: Limits, peer: datetime.timedelta, pooled: bool) -> dict[str, Any]:
    """The entry of DATABASES for a URL of libpq, which may name several hosts (`host=a,b`).

    What the URL says itself, such as `sslmode`, comes before what is said here.

    Arguments:
        url: `postgresql://user:password@host:5432/name?sslmode=require`.
        limits: of a process that does not say what it is.
        peer: how long the other side may be silent, with its host gone, before it counts as dead.
        pooled: whether a pooler in between shares connections between transactions.

    Raises:
        ImproperlyConfigured: it is not such a URL.
    """
    told = parse(url)
    name, user, password = (told.pop(part, "") for part in ("dbname", "user", "password"))
    host, port, own = told.pop("host", ""), told.pop("port", ""), told.pop("options", "")
    options: dict[str, Any] = connection_options(peer)
    if not pooled:
        # The same few statements come again and again: PostgreSQL parses and plans each once per connection.
        options |= {"server_side_binding": True, "prepare_threshold": 3}
        options["options"] = " ".join(filter(None, [session_options(limits, peer), own]))
    else:
        # A prepared statement is known to one server connection, and the next transaction has another.
        options |= {"prepare_threshold": None, **({"options": own} if own else {})}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name, "USER": user, "PASSWORD": password, "HOST": host, "PORT": port,
        # Connections live as long as their process: celery.py keeps them across tasks and drops the dead
        # ones, which is what the health checks find out after a restart of the server.
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        # A cursor of the server's outlives no transaction that is pooled.
        "DISABLE_SERVER_SIDE_CURSORS": pooled,
        "OPTIONS": options | told,
    }  # fmt: skip


def parse(url: str) -> dict[str, Any]:
    """The parameters in a URL, by libpq's own reading of it.

    Raises:
        ImproperlyConfigured: it is no URL of PostgreSQL.
    """
    try:
        told = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        told = {}
    if not url.startswith(("postgresql://", "postgres://")) or not told.get("dbname"):
        # Without the value, which has a password in it.
        raise exceptions.ImproperlyConfigured(
            "DATABASE_URL and DATABASE_DIRECT_URL must be as postgresql://user:password@host:5432/name."
        )
    return dict(told)


def connection_options(peer: datetime.timedelta) -> dict[str, Any]:
    """What our side of a connection does: the host that is gone is noticed, the read-only one refused."""
    every = _probe_every(peer)
    return {
        "connect_timeout": CONNECT_TIMEOUT_S,
        # Of several hosts the one that takes orders; of a standby that was the primary once, none.
        "target_session_attrs": "read-write",
        "keepalives": 1,
        "keepalives_idle": every,
        "keepalives_interval": every,
        "keepalives_count": PROBES,
        "tcp_user_timeout": int(peer.total_seconds() * 1000),
    }


def session_options(limits: Limits, peer: datetime.timedelta) -> str:
    """What the server's side does about locks, statements, silence, and a client that is gone."""
    every = _probe_every(peer)
    milliseconds = {
        "lock_timeout": limits.lock,
        "statement_timeout": limits.statement,
        "idle_in_transaction_session_timeout": limits.idle_in_transaction,
        "tcp_user_timeout": peer,
    }
    told = {name: int(length.total_seconds() * 1000) for name, length in milliseconds.items()}
    told |= {
        "tcp_keepalives_idle": every,
        "tcp_keepalives_interval": every,
        "tcp_keepalives_count": PROBES,
        # A statement whose client is gone ends, instead of holding its locks until it is done.
        "client_connection_check_interval": every * 1000,
    }
    return " ".join(f"-c {name}={value}" for name, value in told.items())


def assume(role: Role) -> None:
    """Say what this process is, before it connects: its connections are as patient as that asks for."""
    from django.conf import settings

    options = connections.databases["default"]["OPTIONS"]
    if not settings.DATABASE_TRANSACTION_POOLING:
        before = session_options(settings.DATABASE_LIMITS["command"], settings.DATABASE_PEER_TIMEOUT)
        now = session_options(settings.DATABASE_LIMITS[role], settings.DATABASE_PEER_TIMEOUT)
        options["options"] = options["options"].replace(before, now)
    if role == "web":
        # A plan that PostgreSQL keeps is one for any value, and takes a rare state for a common one: an
        # operator who filters a million sagas would wait for a scan. Workers ask the same few rows by key;
        # people ask anything.
        options["prepare_threshold"] = None


def _probe_every(peer: datetime.timedelta) -> int:
    """Whole seconds between probes: after the first silence and `PROBES` unanswered ones the time is over."""
    return max(1, int(peer.total_seconds() / (PROBES + 1)))
