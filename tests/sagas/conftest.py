"""Rows that are really committed, and cleared away afterwards."""

import pytest
from django.db import connection

from sagas import registry, transport
from sagas.testing import crashes, post
from tests import database
from tests.sagas.toybox import verbs, witness

ROWS = [
    "sagas_approval", "sagas_bulk_item", "sagas_bulk_run", "sagas_circuit", "sagas_event",
    "sagas_heartbeat", "sagas_queue", "sagas_saga", "sagas_signal", "sagas_step",
    "toybox_end", "toybox_line", "toybox_script", "toybox_toy",
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
    connection.close()
    database.empty(*ROWS)
    connection.close()
    witness.close()


@pytest.fixture(autouse=True)
def declarations(monkeypatch):
    """What a test declares is forgotten after it."""
    monkeypatch.setattr(registry, "_sagas", dict(registry._sagas))


@pytest.fixture
def rows(transactional_db):
    """The database, with real commits."""


@pytest.fixture
def office(rows):
    """The post office of a test that delivers by hand."""
    office = post.Post()
    with transport.use(office):
        yield office


@pytest.fixture
def mortal(monkeypatch):
    """Whoever dies in a verb dies alone: the test's process plays the worker."""

    def die():
        raise crashes.Crash

    monkeypatch.setattr(verbs, "die", die)
