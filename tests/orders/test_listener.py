"""The one connection of a web process that listens: nothing that comes through it, or befalls it, ends it."""

import psycopg
import pytest
from django.db import connection

from sagas.testing import memory_transport
from tests.orders import web_server
from tests.orders.conftest import Api
from tests.orders.test_streams import _line, _url, stream
from tests.sandbox.running import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("payload", ["", "x", "no uuid", "{}", "é" * 100])
def test_a_notification_that_names_no_saga_is_left_alone(
    web: web_server.Web, ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, payload: str
) -> None:
    shown = ana.order().json()
    with web.client(ana) as client, stream(client, shown) as told:
        next(told)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify('orders', %s)", [payload])
        broker.deliver_all()

        # A heartbeat would bring it too, but not before this client has lost its patience.
        assert _line(next(told)) == "take-payment running"


def test_streams_are_told_past_a_pooler_if_there_is_one(
    environment: dict[str, str], ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    """DATABASE_DIRECT_URL and nothing else says where to listen: here another name of the same server."""
    shown = ana.order().json()
    direct = f"{_url()}?application_name=listens"
    with (
        web_server.running(
            environment | {"DATABASE_DIRECT_URL": direct, "FOLLOWERS_HEARTBEAT": "60s"}, workers=1
        ) as web,
        web.client(ana) as client,
        stream(client, shown) as told,
    ):
        next(told)
        with psycopg.connect(_url()) as link:
            asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'listens'"
            assert link.execute(asked).fetchone() == (1,)
        broker.deliver_all()
        assert _line(next(told)) == "take-payment running"
