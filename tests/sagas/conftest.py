"""Rows that are really committed, and cleared away afterwards."""

import pytest
from django.db import connection

from tests.sagas.toybox import witness

ROWS = [
    "sagas_approval", "sagas_bulk_item", "sagas_bulk_run", "sagas_circuit", "sagas_event", "sagas_queue",
    "sagas_saga", "sagas_signal", "sagas_step",
    "toybox_end", "toybox_line", "toybox_script", "toybox_toy",
]  # fmt: skip


@pytest.fixture
def transactional_db(django_db_setup, django_db_blocker):
    """In place of pytest-django's, which clears every table of the project after each test.

    That takes longer than most of these tests; here only the engine's rows and the toys are cleared.
    """
    with django_db_blocker.unblock():
        yield
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(ROWS)} CASCADE")
        connection.close()
        witness.close()


@pytest.fixture
def rows(transactional_db):
    """The database, with real commits."""
