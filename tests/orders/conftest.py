"""Those who order, and what they may order."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import models as auth
from django.db import connections
from django.test import AsyncClient, Client
from django.utils import timezone

from api import tokens
from api.models import Scope
from inventory import services as inventory
from sagas.engine import transport
from sagas.testing import memory_transport
from shipping import models as shipping
from tests import callbacks
from tests.sandbox import running as sandboxes
from tests.support import database, sample_orders, sessions


class Api:
    """A client of the API, with a token."""

    def __init__(self, user: auth.User, secret: str) -> None:
        self.user = user
        self.secret = secret
        self.client = Client(headers={"Authorization": f"Token {secret}"})

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(f"/api/v1{path}", headers=headers)

    def stream(self, path: str, **more: str) -> str:
        """What a stream says until it ends; only an ASGI server has one."""

        async def read() -> str:
            headers = {"Authorization": f"Token {self.secret}"} | more
            answer: Any = await AsyncClient().get(f"/api/v1{path}", headers=headers)
            assert answer.status_code == 200, answer.content
            told = b"".join([chunk async for chunk in answer.streaming_content]).decode()
            # Those of the threads that worked on it, which end with this loop.
            await asyncio.to_thread(connections.close_all)
            await sync_to_async(connections.close_all)()
            return told

        return asyncio.run(read())

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        data = body if isinstance(body, bytes | str) else json.dumps(body or {})
        return self.client.post(f"/api/v1{path}", data, content_type="application/json", headers=headers)

    def patch(self, path: str, body: Any) -> Any:
        return self.client.patch(f"/api/v1{path}", json.dumps(body), content_type="application/json")

    def delete(self, path: str) -> Any:
        return self.client.delete(f"/api/v1{path}")

    def order(self, body: dict[str, Any] | None = None, key: str = "key-1") -> Any:
        return self.post("/orders", body or order(), **{"Idempotency-Key": key})


def order(**changes: Any) -> dict[str, Any]:
    """Ana's order of two mugs and a poster, paid by card, unless changed."""
    body: dict[str, Any] = {
        "customer": {"name": "Ana Souza", "email": "ana@example.com", "tax_id": "529.982.247-25"},
        "lines": [{"sku": "MUG-BLUE", "quantity": 2}, {"sku": "POSTER-MAP", "quantity": 1}],
        "payment": {"method": "card", "token": "tok_ok"},
        "shipping_address": {
            "recipient": "Ana Souza",
            "street": "Rua das Flores",
            "number": "12-A",
            "city": "São Paulo",
            "state": "SP",
            "postal_code": "01310-100",
            "country": "BR",
        },
        "reference": "cart-7",
    }
    return body | changes


def member(name: str, scope: str = Scope.CUSTOMER, **user: Any) -> Api:
    """Somebody with a token."""
    owner = auth.User.objects.create_user(name, **user)
    _, secret = tokens.create(user=owner, name="tests", scope=scope)
    return Api(owner, secret)


def deliver(api: Api, shown: dict[str, Any]) -> None:
    """The carrier says that an order has arrived."""
    now = timezone.now()
    key = shown["payment"]["key"].replace("take-payment", "deliver-order")
    tracking = shipping.Shipment.objects.filter(key=key).values_list("tracking", flat=True).first()
    headers, body = callbacks.signed(
        kind="shipment.delivered",
        key=key,
        data={"tracking": tracking or "BR1"},
        id_=f"evt_{key}"[:90],
        at=now,
        sent_at=now,
    )
    answer = api.client.post("/api/v1/webhooks/carrier", body, "application/json", headers=headers)
    assert answer.status_code == 202


@pytest.fixture
def broker() -> Any:
    """Messages in memory, carried out when the test says so."""
    kept = memory_transport.MemoryTransport()
    with transport.use(kept):
        yield kept
    assert not kept.bugs


@pytest.fixture
def catalogue(db: None) -> None:
    inventory.introduce(
        sku="MUG-BLUE", name="Blue mug", price={"amount": 4590, "currency": "BRL"}, quantity=1000
    )
    inventory.introduce(
        sku="POSTER-MAP", name="Map poster", price={"amount": 9110, "currency": "BRL"}, quantity=1000
    )


@pytest.fixture
def ana(catalogue: None) -> Api:
    return member("ana")


@pytest.fixture
def bob(catalogue: None) -> Api:
    return member("bob")


@pytest.fixture(scope="session")
def _fast_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sandboxes.Sandbox]:
    with sandboxes.run(tmp_path_factory.mktemp("sandbox"), CARRIER_PACE_S="0.05") as running:
        yield running


@pytest.fixture
def world(_fast_sandbox: sandboxes.Sandbox, settings: Any) -> sandboxes.Sandbox:
    """Providers with empty books: parcels arrive at once, and nobody is told."""
    _fast_sandbox.post("/reset")
    _fast_sandbox.point(settings)
    settings.SANDBOX_URL = _fast_sandbox.url
    return _fast_sandbox


@pytest.fixture
def samples(
    world: sandboxes.Sandbox, db: None, monkeypatch: pytest.MonkeyPatch
) -> sample_orders.SampleOrders:
    """Orders of every kind, for a test whose transaction never commits."""
    # What would be sent after it is sent at once.
    monkeypatch.setattr(transport, "after_commit", transport.send)
    return sample_orders.SampleOrders(world)


@pytest.fixture(scope="session")
def _shared_web(django_db_setup: None, django_db_blocker: Any) -> Iterator[Any]:
    from tests.orders import web_server

    with django_db_blocker.unblock():
        environment = database.environment()
    # A client that left is noticed at the next heartbeat, so there is room for those of earlier tests.
    room = {"FOLLOWERS_PER_PROCESS": "60", "FOLLOWERS_PER_CALLER": "60"}
    lasting = {"FOLLOWERS_HEARTBEAT": f"{web_server.PATIENCE_S}s", "PGAPPNAME": sessions.LASTING}
    with web_server.running(environment | room | lasting) as running:
        yield running


@pytest.fixture
def web(_shared_web: Any, transactional_db: None) -> Any:
    """A real server, on this test's database."""
    return _shared_web
