"""The embedded servers: real ones, started and stopped."""

import os

import pytest
import redis
from django.db import connection


@pytest.mark.django_db
def test_the_session_has_a_real_postgresql():
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version_num')::int, current_database()")
        version, database = cursor.fetchone()

    assert version >= 140000
    assert database.startswith("test_saga")


def test_the_session_has_a_real_broker():
    with redis.Redis.from_url(os.environ["BROKER_URL"]) as client:
        client.set("greeting", "hello")

        assert client.get("greeting") == b"hello"

        client.flushdb()
