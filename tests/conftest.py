"""Fixtures that every room may use."""

import os

import pytest
from django.db import connection


@pytest.fixture
def environment(db: None) -> dict[str, str]:
    """The environment for a process that a test starts: this worker's test database and broker."""
    settings = connection.settings_dict
    place = str(settings["HOST"]).replace("/", "%2F")
    url = f"postgresql://{settings['USER']}@{place}:{settings['PORT']}/{settings['NAME']}"
    return {**os.environ, "DATABASE_URL": url}
