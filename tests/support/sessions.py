"""A pytest plugin: a module whose tests leave a session in the test database open fails.

Such a session holds what it holds while other tests run, and keeps the database from being dropped at the
end, when nobody can tell any more whose it was.
"""

from typing import Any

import psycopg
import pytest
from django.db import connection, connections

from tests.support import waiting

LASTING = "tests-lasting"
"""PGAPPNAME of a process that serves several modules: its sessions may stay."""

_database = ""
"""The test database, once there is one."""

_told: set[int] = set()
"""Sessions with which a module has failed: those after it are not blamed for them."""


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Any:
    global _database
    result = yield
    if fixturedef.argname == "django_db_setup":
        _database = str(connection.settings_dict["NAME"])
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Any:
    # Around the fixtures' own: those of the module are over when this goes on.
    result = yield
    if nextitem is None or nextitem.path != item.path:
        check()
    return result


def check(*, seconds: float = 30) -> None:
    """Fail if a session is open that should not be; one that is about to end is waited for.

    Arguments:
        seconds: how long a listener, or the server of a process that was killed, may take to notice.
    """
    try:
        waiting.until(lambda: not left(), seconds=seconds)
    except AssertionError:
        still = left()
        _told.update(still)
        assert not still, f"tests of this module left sessions open: {list(still.values())}"


def left() -> dict[int, str]:
    """The sessions that are neither this thread's nor of a process that lasts: by pid, what each did last."""
    if not _database:
        return {}
    kept = [
        one.connection.info.backend_pid
        for one in connections.all(initialized_only=True)
        if one.connection is not None and not one.connection.closed
    ]
    settings = connection.settings_dict
    server = {"host": settings["HOST"], "port": settings["PORT"], "user": settings["USER"]}
    with psycopg.connect(**server, dbname="postgres", autocommit=True) as link:
        rows = link.execute(
            "SELECT pid, concat_ws(' ', application_name, state, backend_start::time(0), query)"
            " FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
            " AND application_name <> %s AND NOT pid = ANY (%s)",
            [_database, LASTING, [*kept, *_told]],
        )
        return dict(rows.fetchall())
