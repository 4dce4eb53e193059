"""What an error of the database says: it is away, or a lock was not given, or neither. One place decides.

Django's classes do not tell: a server that became a standby raises InternalError, as a bug does, and
OperationalError is a lost connection, a lock timeout and a full disk alike. PostgreSQL's code of the error
(SQLSTATE) tells them apart.
"""

import re

from django.db import Error, InterfaceError, OperationalError, connection

READ_ONLY = "25006"
"""The server takes no writes any more: after a failover this connection leads to what is now a standby."""

_AWAY = {
    READ_ONLY,
    "25P03", "25P04", "57P05",  # It ended the session, which was silent or at it for too long.
    "57P01", "57P02", "57P03", "57P04",  # It shuts down, crashed, starts up; the database was dropped.
}  # fmt: skip
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
    """Whether the database cannot be used through this connection, whatever the statement."""
    code = sqlstate(error)
    if isinstance(error, InterfaceError) or (isinstance(error, OperationalError) and code is None):
        return True  # Without a code it is the driver that speaks: there is no connection.
    return isinstance(error, Error) and code is not None and (code in _AWAY or code.startswith(_AWAY_CLASSES))


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


def let_go(error: BaseException | None) -> None:
    """Close the connection if the database is away; the next statement opens one to a server that works.

    Django drops a connection only when it is dead, and one to a server that became a standby is alive.
    """
    if is_away(error):
        connection.close()
