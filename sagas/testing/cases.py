"""Tests that commit, for `manage.py test` and pytest alike."""

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.test import TransactionTestCase

TRUNCATES = 32
"""The bit of pg_trigger.tgtype that says so."""


class SagaTestCase(TransactionTestCase):
    """A test on the engine and the database, which is empty again after it.

    The engine's events, and perhaps tables of yours, refuse to be emptied: Django's own class, and so a
    transactional test of pytest-django, fails at the end of a test. This one asks the tables' owner to look
    away for that moment, who is whoever made the test database.
    """

    def _fixture_teardown(self) -> Any:
        with nobody_refuses():
            return super()._fixture_teardown()  # type: ignore[misc] # Django's; the stubs have only what is public.


@contextlib.contextmanager
def nobody_refuses() -> Iterator[None]:
    """For this long, no table's triggers keep anybody from emptying it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger"
            " WHERE NOT tgisinternal AND tgtype & %s <> 0",
            [TRUNCATES],
        )
        tables = [table for (table,) in cursor.fetchall()]
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
