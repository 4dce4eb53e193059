"""This test's database, told to the processes that a test starts."""

import os

from django.db import connection


def environment(**more: str) -> dict[str, str]:
    """The environment of such a process: our own, this worker's test database, and what else it needs."""
    settings = connection.settings_dict
    place = str(settings["HOST"]).replace("/", "%2F")
    url = f"postgresql://{settings['USER']}@{place}:{settings['PORT']}/{settings['NAME']}"
    return {**os.environ, "DATABASE_URL": url, **more}
