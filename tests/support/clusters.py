"""PgBouncer before this worker's test database, and a copy of it with a standby of its own."""

import collections.abc
import contextlib
import os
import pathlib
import tempfile
from typing import Any

import pytest
from django.db import connection

from saga_project.local import pgbouncer, replication, servers
from tests.support import database


@contextlib.contextmanager
def place() -> collections.abc.Iterator[pathlib.Path]:
    """A directory that the account of PostgreSQL may pass through, deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="saga-test-") as name:
        path = pathlib.Path(name)
        path.chmod(0o711)
        yield path


@contextlib.contextmanager
def pooler(mode: pgbouncer.Mode = "transaction", size: int = 4) -> collections.abc.Iterator[Any]:
    """A PgBouncer; where there is none on this machine the test is skipped, but never in CI."""
    try:
        pgbouncer.pgbouncer_binary()
    except servers.NoBinaries as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    with place() as home, (home / "log").open("wb") as log:
        server = pgbouncer.PgBouncer(
            home / "pgbouncer", server=database.environment()["DATABASE_URL"], mode=mode, size=size
        )
        server.start(log)
        try:
            yield server
        finally:
            server.stop()
            server.discard()


def behind(server: pgbouncer.PgBouncer) -> dict[str, str]:
    """The environment of a process that goes by the pooler, and was told so."""
    direct = database.environment()["DATABASE_URL"]
    return {
        "DATABASE_URL": server.url,
        "DATABASE_TRANSACTION_POOLING": "1",
        "DATABASE_DIRECT_URL": direct,
    }


@contextlib.contextmanager
def pair(*, synchronous: bool = True) -> collections.abc.Iterator[replication.Pair]:
    """A primary with what this worker's test database has by now, and its standby."""
    with place() as home, (home / "log").open("wb") as log:
        name = str(connection.settings_dict["NAME"])
        made = replication.Pair(home, durable=False, synchronous=synchronous, database=name)
        try:
            made.primary.copy_from(database.environment()["DATABASE_URL"], follow=False)
            made.start(log)
            yield made
        finally:
            made.stop()
            made.discard()
