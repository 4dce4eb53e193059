"""How the processes of this project connect to PostgreSQL: where to, and how patient each kind of them is.

A process is a `command` (`manage.py`, a migration, a shell) until it says otherwise: asgi.py says `web`, a
Celery worker says `worker`, each before its first connection. The limits are the server's own
(`lock_timeout` and its like), sent with the connection, so that they hold whatever the process does.

A pooler that shares connections between transactions changes what may be said in them. No process works on
one that it was not told of (`refuse_unprepared`).
"""

import contextlib
import dataclasses
import datetime
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Literal, LiteralString

import psycopg
from django.core import exceptions
from django.db import OperationalError, connection, connections
from django.db.backends import signals
from psycopg import conninfo

Role = Literal["web", "worker", "command"]

Pooling = Literal["none", "session", "transaction", "statement"]
"""What is between a process and PostgreSQL: nothing, or a pooler that gives a connection to the next client
after this one's session, after its transaction, or after each statement."""

logger = logging.getLogger(__name__)

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


def replica_settings(url: str, *, limits: Limits, peer: datetime.timedelta, pooled: bool) -> dict[str, Any]:
    """The entry of DATABASES for a standby that is only read from; the arguments are as above.

    Raises:
        ImproperlyConfigured: it is no such URL.
    """
    entry = django_settings(url, limits=limits, peer=peer, pooled=pooled)
    asked = parse(url).get("target_session_attrs", "prefer-standby")
    # People ask anything here, as they do of a web process.
    entry["OPTIONS"] |= {"target_session_attrs": asked, "prepare_threshold": None}
    if not pooled:
        entry["OPTIONS"]["options"] += " -c default_transaction_read_only=on"
    # For tests of Django's: it is the same database.
    return entry | {"TEST": {"MIRROR": "default"}}


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
            "DATABASE_URL, DATABASE_DIRECT_URL and DATABASE_REPLICA_URL must be as"
            " postgresql://user:password@host:5432/name."
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
    """Say what this process is, before it connects: its connections are as patient as that asks for.

    A web process and a worker go by the pooler, where there is one; a command goes past it, because it may
    migrate, and read more than fits into its memory.
    """
    from django.conf import settings

    pooled = settings.DATABASE_TRANSACTION_POOLING
    entry = connections.databases["default"]
    fresh = django_settings(
        settings.DATABASE_URL,
        limits=settings.DATABASE_LIMITS[role],
        peer=settings.DATABASE_PEER_TIMEOUT,
        pooled=pooled,
    )
    if settings.DATABASE_DIRECT_URL:
        places = ("NAME", "USER", "PASSWORD", "HOST", "PORT", "DISABLE_SERVER_SIDE_CURSORS")
        entry.update({name: fresh[name] for name in places})
    entry["OPTIONS"].clear()
    entry["OPTIONS"].update(fresh["OPTIONS"])
    if role == "web":
        # A plan that PostgreSQL keeps is one for any value, and takes a rare state for a common one: an
        # operator who filters a million sagas would wait for a scan. Workers ask the same few rows by key;
        # people ask anything.
        entry["OPTIONS"]["prepare_threshold"] = None
    signals.connection_created.connect(_refuse_unprepared_connection, dispatch_uid="pooling")


# --- A pooler in between --------------------------------------------------------------------------

UNPREPARED = (
    "DATABASE_URL leads to a pooler that shares connections between transactions, and"
    " DATABASE_TRANSACTION_POOLING is not set."
)
PREPARE = "Set DATABASE_TRANSACTION_POOLING=1, and DATABASE_DIRECT_URL to the server itself."
STATEMENTS = "DATABASE_URL leads to a pooler that shares connections between statements."
NO_STATEMENTS = "Set its pool_mode to transaction: every step is a transaction of several statements."

_ROUNDS = 5
_MARK = "whose session is this?"
_MARKED: LiteralString = f"SELECT pg_backend_pid() /* {_MARK} */"
_LAST_ASKED: LiteralString = (
    "SELECT coalesce(query, ''), current_setting('track_activities')::bool"
    " FROM pg_stat_activity WHERE pid = %s"
)


def pooling(parameters: Mapping[str, Any]) -> Pooling:
    """What is between this process and PostgreSQL; it takes one connection to know, behind a pooler two.

    PostgreSQL tells each client at its start which process serves it (`BackendKeyData`), so that it can be
    cancelled. A pooler tells a number of its own, because who serves the client will change. So where both
    numbers are one there is no pooler. Behind one, a second client looks what has become of the process that
    served the first: where that one serves somebody else now, or the first is served by another, sessions are
    shared.

    Arguments:
        parameters: of psycopg; those that only a session knows are left out.

    Raises:
        psycopg.OperationalError: nobody answers.
    """
    with contextlib.ExitStack() as leave:
        first = leave.enter_context(_link(parameters))
        served_by = _served_by(first)
        if served_by == first.info.backend_pid:
            return "none"
        second = leave.enter_context(_link(parameters))
        for _ in range(_ROUNDS):
            # By the text one sees whether it was the last that this session was asked.
            asked = first.execute(_MARKED, prepare=False).fetchone()
            if asked is None or asked[0] != served_by:
                return "transaction"
            try:
                second.execute("BEGIN")
            except psycopg.OperationalError as error:
                if "statement pooling" in str(error):
                    return "statement"
                raise
            if _served_by(second) == served_by:
                return "transaction"
            told = second.execute(_LAST_ASKED, [served_by], prepare=False).fetchone()
            second.execute("COMMIT")
            if told is None or (told[1] and _MARK not in told[0]):
                return "transaction"
        return "session"


def url_parameters(url: str) -> dict[str, Any]:
    """Parameters of psycopg for a URL: as the project connects, without what only a session knows.

    Raises:
        ImproperlyConfigured: it is no URL of PostgreSQL.
    """
    from django.conf import settings

    return connection_options(settings.DATABASE_PEER_TIMEOUT) | parse(url)


def refuse_unprepared() -> None:
    """Refuse to start on a pooler that this process was not told of.

    A database that is away proves nothing; each connection is looked at when it is made, too.

    Raises:
        ImproperlyConfigured: with the line to change.
    """
    from django.conf import settings

    try:
        found = pooling(url_parameters(settings.DATABASE_URL))
    except psycopg.OperationalError as error:
        logger.warning("PostgreSQL does not answer yet: %s", str(error).partition("\n")[0])
        return
    if refusal := refusal_of(found, prepared=settings.DATABASE_TRANSACTION_POOLING):
        raise exceptions.ImproperlyConfigured(refusal)


def refusal_of(found: Pooling, *, prepared: bool) -> str:
    """Why a process cannot work that way, and the line to change; nothing where it can."""
    if found == "statement":
        return f"{STATEMENTS} {NO_STATEMENTS}"
    return f"{UNPREPARED} {PREPARE}" if found == "transaction" and not prepared else ""


_sessions_are_kept = False
"""Whether the pooler that this process goes by was found to keep sessions."""


def _refuse_unprepared_connection(*, connection: Any, **_: Any) -> None:
    """Look at a connection that was just made, where the process may have started before its database.

    Raises:
        django.db.OperationalError: as if nobody answered; it says what to change.
    """
    global _sessions_are_kept
    from django.conf import settings

    if settings.DATABASE_TRANSACTION_POOLING or connection.alias != "default" or _sessions_are_kept:
        return
    link = connection.connection
    if _served_by(link) == link.info.backend_pid:
        return
    if refusal := refusal_of(pooling(url_parameters(settings.DATABASE_URL)), prepared=False):
        connection.close()
        raise OperationalError(refusal)
    _sessions_are_kept = True


@contextlib.contextmanager
def _link(parameters: Mapping[str, Any]) -> "Iterator[psycopg.Connection[tuple[Any, ...]]]":
    told = {**parameters, "autocommit": True, "prepare_threshold": None}
    # A pooler refuses what it cannot keep for each client.
    told.pop("options", None)
    with contextlib.closing(psycopg.connect(**told)) as link:
        yield link


def _served_by(link: "psycopg.Connection[Any]") -> int:
    row = link.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    assert row is not None
    return int(row[0])


# --- What a doctor asks ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replica:
    """How far a server is that is read from instead of the primary."""

    is_standby: bool
    """Whether it replays what a primary writes; one that was promoted does not."""

    as_of: datetime.datetime | None
    """When the last transaction was committed that it has replayed, by the primary's clock; None for none."""

    def lag(self, now: datetime.datetime) -> datetime.timedelta | None:
        """How far it is behind the primary at most; None where that cannot be told.

        Arguments:
            now: the primary's time. While the primary commits nothing it looks as if the replica were late;
                the sweep's heartbeat is a commit each second.
        """
        return max(now - self.as_of, datetime.timedelta(0)) if self.is_standby and self.as_of else None


def replica(alias: str = "replica") -> Replica:
    """How far the replica is.

    Raises:
        django.db.Error: it does not answer.
    """
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery(), pg_last_xact_replay_timestamp()")
        is_standby, as_of = cursor.fetchone()
    return Replica(is_standby=is_standby, as_of=as_of)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Follower:
    """A standby, as its primary sees it."""

    name: str
    state: str
    """`streaming` where all is well. Empty, as the rest, for a role without `pg_monitor`."""

    sync_state: str
    """`sync` or `quorum` if commits wait for it; `async` or `potential` if not."""

    replay_lag: datetime.timedelta | None
    """How long a commit took lately until it was to be read there; None while nothing is written."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Durability:
    """What a commit waits for."""

    synchronous_commit: str
    synchronous_commit_by: str
    """Who says so: `source` in `pg_settings`."""

    synchronous_standby_names: str
    """Whom a commit waits for; empty for nobody."""

    followers: list[Follower]

    @property
    def waits_for_nobody(self) -> bool:
        """Whether commits wait for standbys of which none is there: they hang."""
        wanted = self.synchronous_standby_names and self.synchronous_commit not in ("off", "local")
        return bool(wanted) and not any(one.sync_state in ("sync", "quorum") for one in self.followers)


def durability() -> Durability:
    """What a commit waits for, and who follows the primary.

    Raises:
        django.db.Error: the database does not answer.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT setting, source, current_setting('synchronous_standby_names')"
            " FROM pg_settings WHERE name = 'synchronous_commit'"
        )
        commit, by, names = cursor.fetchone()
        cursor.execute(
            "SELECT coalesce(application_name, ''), coalesce(state, ''), coalesce(sync_state, ''), replay_lag"
            " FROM pg_stat_replication ORDER BY 1"
        )
        rows = cursor.fetchall()
    followers = [Follower(name=a, state=b, sync_state=c, replay_lag=d) for a, b, c, d in rows]
    return Durability(
        synchronous_commit=commit,
        synchronous_commit_by=by,
        synchronous_standby_names=names,
        followers=followers,
    )


def _probe_every(peer: datetime.timedelta) -> int:
    """Whole seconds between probes: after the first silence and `PROBES` unanswered ones the time is over."""
    return max(1, int(peer.total_seconds() / (PROBES + 1)))
