"""Rows that are really committed, and cleared away afterwards."""

import pytest

from sagas.engine import transport
from sagas.testing import crashes, memory_transport
from tests.sagas.sample_app import functions, recorder
from tests.support import database

ROWS = [
    "sagas_console_approval", "sagas_console_bulk_item", "sagas_console_bulk_run",
    "sagas_console_saved_view",
    "sagas_archive", "sagas_circuit", "sagas_event", "sagas_event_cursor", "sagas_heartbeat",
    "sagas_metric_count", "sagas_metric_sum", "sagas_queue", "sagas_saga",
    "sagas_signal", "sagas_step", "sample_app_end", "sample_app_line", "sample_app_script", "sample_app_toy",
]  # fmt: skip


@pytest.fixture
def transactional_db(django_db_setup, django_db_blocker):
    """In place of pytest-django's, which clears every table of the project after each test.

    That takes longer than most of these tests; here only the engine's rows and the toys are cleared.
    """
    with django_db_blocker.unblock():
        yield
        clear()


def clear():
    """Delete what the engine's tests left behind."""
    database.empty_anew(*ROWS)
    recorder.close()


@pytest.fixture
def rows(transactional_db):
    """The database, with real commits."""


@pytest.fixture
def broker(rows):
    """Messages in memory, one for each step, carried out when the test says so."""
    broker = memory_transport.MemoryTransport()
    with transport.use(broker):
        yield broker


@pytest.fixture
def simulated_death(monkeypatch):
    """A step's function that kills its worker raises Crash: here the worker is the test's process."""

    def die():
        raise crashes.Crash

    monkeypatch.setattr(functions, "die", die)
