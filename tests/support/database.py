"""This test's database: told to the processes that a test starts, and emptied after it."""

import os

from django.db import connection, transaction

from tests.postgres import base


def environment(**more: str) -> dict[str, str]:
    """The environment of such a process: our own, this worker's test database, and what else it needs."""
    settings = connection.settings_dict
    place = str(settings["HOST"]).replace("/", "%2F")
    url = f"postgresql://{settings['USER']}@{place}:{settings['PORT']}/{settings['NAME']}"
    return {**os.environ, "DATABASE_URL": url, **more}


def empty(*tables: str) -> None:
    """Delete all rows of these tables, past the triggers that refuse to: nobody else may."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        # A test leaves few rows; TRUNCATE makes new files of every table and of its indexes.
        cursor.execute(base.emptying(tables))
