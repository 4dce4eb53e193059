"""What an error of the database says: it is away, or a lock was not given, or neither. One place decides.

Django's classes do not tell: a server that became a standby raises InternalError, as a bug does, and
OperationalError is a lost connection, a lock timeout and a full disk alike. PostgreSQL's code of the error
(SQLSTATE) tells them apart.
"""

import datetime
import logging
import re
import time

from django.db import Error, InterfaceError, OperationalError, connection, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

logger = logging.getLogger("sagas")

READ_ONLY = "25006"
"""The server takes no writes any more: after a failover this connection leads to what is now a standby."""

_AWAY = {
    READ_ONLY,
    "25P03", "25P04", "57P05",  # It ended the session, which was silent or at it for too long.
    "57P01", "57P02", "57P03", "57P04",  # It shuts down, crashed, starts up; the database was dropped.
}  # fmt: skip
_OTHER_SESSION = {
    "42P05", "26000",  # A prepared statement that this session has already, or has not.
    "42P03", "34000",  # The same of a cursor.
}  # fmt: skip
"""The session is not the one that was spoken with before: a pooler in between gives each transaction another.
No statement of ours is wrong, and none can go well through this connection."""

_STALE_PLAN = "0A000"
_STALE_PLAN_SOURCE = "RevalidateCachedQuery"
"""A migration has changed what a prepared statement gives: "cached plan must not change result type". The
code is that of everything that PostgreSQL cannot do; where in its source the error comes from tells."""

_AWAY_CLASSES = ("08", "53")
"""Connections that break or cannot be made; and no memory, no disk, no connection left."""

_BUSY = {
    "55P03",  # lock_timeout, or NOWAIT.
    "40P01", "40001",  # A deadlock or a conflict, of which this transaction is the victim.
}  # fmt: skip


def sqlstate(error: BaseException | None) -> str | None:
    """PostgreSQL's code for the error, if it is PostgreSQL's."""
    driver_error = error.__cause__ if isinstance(error, Error) else error
    code: str | None = getattr(driver_error, "sqlstate", None)
    return code


def is_away(error: BaseException | None) -> bool:
    """Whether the database cannot be used through this connection, whatever the statement.

    It is gone, takes no writes, or the session behind the connection is another than before (`is_misled`).
    """
    code = sqlstate(error)
    if isinstance(error, InterfaceError) or (isinstance(error, OperationalError) and code is None):
        return True  # Without a code it is the driver that speaks: there is no connection.
    if not isinstance(error, Error) or code is None:
        return False
    return code in _AWAY or code.startswith(_AWAY_CLASSES) or is_misled(error)


def is_misled(error: BaseException | None) -> bool:
    """Whether the session knows other statements than this process believes that it does.

    Behind a pooler that shares sessions between transactions it is always so, unless nothing is prepared.
    """
    code = sqlstate(error)
    if code == _STALE_PLAN:
        diagnosis = getattr(error.__cause__ if isinstance(error, Error) else error, "diag", None)
        return getattr(diagnosis, "source_function", None) == _STALE_PLAN_SOURCE
    return code in _OTHER_SESSION


def is_busy(error: BaseException | None) -> bool:
    """Whether another session holds what is wanted: nothing happened, and it may go well another time."""
    return isinstance(error, OperationalError) and sqlstate(error) in _BUSY


def held_table(error: BaseException | None) -> str:
    """The table in which the wanted row is locked, where the error tells; else nothing."""
    diagnosis = getattr(error.__cause__ if error is not None else None, "diag", None)
    found = re.search(r'relation "(\w+)"', getattr(diagnosis, "context", None) or "")
    return found[1] if found else ""


def is_passing(error: BaseException | None) -> bool:
    """Whether the error tells of the database, and not of the statement: no bug, and no step's failure."""
    return isinstance(error, OperationalError) or is_away(error)


def for_reading(model: type[Model]) -> BaseDatabaseWrapper:
    """The connection by which a page reads that model's table with SQL of its own.

    The project's routers choose it, as they do for a queryset: a page may be read from a replica.
    """
    return connections[router.db_for_read(model)]


def clock_skew() -> datetime.timedelta:
    """How far this machine's clock is ahead of the database's, to within half a round trip.

    Raises:
        django.db.Error: the database does not answer.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")  # The connection is made, and its statement is not what is timed.
        before = time.time()
        cursor.execute("SELECT clock_timestamp()")
        after = time.time()
        theirs: datetime.datetime = cursor.fetchone()[0]
    return datetime.datetime.fromtimestamp((before + after) / 2, tz=datetime.UTC) - theirs


def put_right(name: str, sound: str, source: str) -> str:
    """What puts a setting of PostgreSQL's right: what was said nearer to the session counts more.

    Arguments:
        name: the setting's.
        sound: what it should be.
        source: where it comes from, as `pg_settings` says.
    """
    this = connection.ops.quote_name(connection.settings_dict["NAME"])
    nearer = {
        "database": f"ALTER DATABASE {this} RESET {name};",
        "user": f"ALTER ROLE CURRENT_USER RESET {name};",
        "database user": f"ALTER ROLE CURRENT_USER IN DATABASE {this} RESET {name};",
        "client": f"Take {name} out of what connections are told: OPTIONS in DATABASES, or PGOPTIONS.",
        "command line": f"Take {name} out of the server's command line, and restart it.",
    }
    value = sound if sound.isalpha() else f"'{sound}'"
    return nearer.get(source) or f"ALTER SYSTEM SET {name} = {value}; SELECT pg_reload_conf();"


def let_go(error: BaseException | None) -> None:
    """Close the connection if the database is away; the next statement opens one to a server that works.

    Django drops a connection only when it is dead, and one to a server that became a standby is alive.
    """
    if is_misled(error):
        logger.error(
            "PostgreSQL does not know the statements that this process prepared: %s. If a pooler shares"
            " connections between transactions, have nothing prepared: docs/configuration.md, PostgreSQL.",
            str(error).partition("\n")[0],
        )
    if is_away(error):
        connection.close()
