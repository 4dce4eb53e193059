"""A session that a test leaves open in the test database is noticed."""

import psycopg
import pytest
from django.db import connection

from tests.support import sessions

pytestmark = pytest.mark.django_db


def test_a_session_that_is_left_open_is_told_of_until_it_is_closed():
    settings = connection.settings_dict
    names = {"host": "HOST", "port": "PORT", "user": "USER", "dbname": "NAME"}
    here = {name: settings[setting] for name, setting in names.items()}
    connection.ensure_connection()
    sessions.check()

    with psycopg.connect(**here) as link, psycopg.connect(**here, application_name=sessions.LASTING):
        link.execute("SELECT 'left behind'")
        with pytest.raises(AssertionError, match="left behind"):
            sessions.check(seconds=0)

    sessions.check()
