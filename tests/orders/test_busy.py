"""Who asks while another session holds the row is answered at once: nothing was changed, try again."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.contrib.auth import models as auth
from django.db import connection
from django.test import Client
from django.utils import timezone

from api.models import Scope
from sagas import models as sagas
from sagas.testing import memory_transport
from tests import callbacks
from tests.orders.conftest import Api, member
from tests.orders.test_streams import _url

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def brief_waits() -> Iterator[None]:
    """As by WEB_LOCK_TIMEOUT, only shorter."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")
    yield
    connection.close()


@contextlib.contextmanager
def somebody_at(saga_id: Any) -> Iterator[None]:
    """Another session that holds the saga's row, and says nothing."""
    with psycopg.connect(_url()) as link:
        link.execute("SELECT FROM sagas_saga WHERE id = %s FOR UPDATE", [saga_id])
        yield
        link.rollback()


def test_a_cancellation(ana: Api, broker: memory_transport.MemoryTransport) -> None:
    shown = ana.order().json()
    with somebody_at(shown["saga"]["id"]):
        answer = ana.post(f"/orders/{shown['id']}/cancel", {"reason": "Changed my mind"})

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["type"] == "/api/problems/busy"
    assert ana.post(f"/orders/{shown['id']}/cancel", {"reason": "Changed my mind"}).status_code == 202


def test_an_operators_move(ana: Api, broker: memory_transport.MemoryTransport) -> None:
    shown = ana.order().json()
    olga = member("olga", scope=Scope.STAFF, is_staff=True, is_superuser=True)
    path = f"/sagas/{shown['saga']['id']}"
    said = {"reason": "now", "seen": olga.get(path).json()["seen"]}
    with somebody_at(shown["saga"]["id"]):
        answer = olga.post(f"{path}/retry", said)

    assert (answer.status_code, answer.json()["type"]) == (503, "/api/problems/busy")


def test_a_providers_callback_which_it_repeats(ana: Api, broker: memory_transport.MemoryTransport) -> None:
    shown = ana.order().json()
    key = shown["payment"]["key"].replace("take-payment", "deliver-order")
    now = timezone.now()
    headers, body = callbacks.signed(
        kind="shipment.delivered", key=key, data={"tracking": "BR1"}, id_="evt_1", at=now, sent_at=now
    )
    with somebody_at(shown["saga"]["id"]):
        answer = ana.client.post("/api/v1/webhooks/carrier", body, "application/json", headers=headers)

    assert (answer.status_code, answer.json()["type"]) == (503, "/api/problems/busy")
    assert not sagas.Signal.objects.exists()


def test_a_page_of_the_console(ana: Api, broker: memory_transport.MemoryTransport) -> None:
    olga = Client()
    olga.force_login(auth.User.objects.create_superuser("olga"))
    auth.Group.objects.create(name="a table of its own")
    with psycopg.connect(_url()) as link:
        link.execute("LOCK TABLE auth_group IN ACCESS EXCLUSIVE MODE")
        answer = olga.get("/admin/auth/group/")
        link.rollback()

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "Somebody else is at it just now" in answer.content.decode()
    assert olga.get("/admin/auth/group/").status_code == 200


def test_a_web_process_drops_its_connection_to_a_server_that_takes_no_writes(
    ana: Api, broker: memory_transport.MemoryTransport
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    assert ana.order().status_code == 503

    assert ana.order().status_code == 202, "the next one goes to a server that does"


def test_a_process_that_can_only_read_takes_no_orders(ana: Api) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")

    answer = Client().get("/readyz")

    assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "read-only")
    assert Client().get("/readyz").status_code == 200
