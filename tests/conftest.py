"""Fixtures that every room may use."""

import collections.abc
import os
from typing import Any

import hypothesis
import pytest
from django.test import TransactionTestCase

from tests.sandbox import running as sandboxes
from tests.support import broker, database

# How long an example takes says how busy the machine is, and nothing of what is tested.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def django_db_setup(
    django_db_setup: None, django_db_blocker: Any, _sagas_may_be_emptied: None
) -> collections.abc.Iterator[None]:
    """The test database, whose tables are emptied in our way after a transactional test."""
    with django_db_blocker.unblock():
        flush = database.flush()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", flush)
        yield


@pytest.fixture
def environment(db: None) -> dict[str, str]:
    """The environment for a process that a test starts: this worker's test database and broker."""
    return database.environment()


@pytest.fixture
def valkey() -> collections.abc.Iterator[broker.Numbered]:
    """The broker of this session's servers, empty before and after."""
    with broker.Numbered.from_url(os.environ["BROKER_URL"]) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture(scope="session")
def _session_sandbox(tmp_path_factory: pytest.TempPathFactory) -> collections.abc.Iterator[sandboxes.Sandbox]:
    # Parcels stay where they are: a test that wants them to move starts a faster one.
    with sandboxes.run(tmp_path_factory.mktemp("sandbox"), CARRIER_PACE_S="86400") as running:
        yield running


@pytest.fixture
def sandbox(_session_sandbox: sandboxes.Sandbox, settings: Any) -> sandboxes.Sandbox:
    """A bank, a fiscal authority and a carrier with empty books, and the services pointed at them."""
    _session_sandbox.post("/reset")
    _session_sandbox.point(settings)
    return _session_sandbox


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", help="Where pictures of the console go; `make screenshots` says.")
