"""A merchant, and the server at which it is told."""

import collections.abc
import datetime
import uuid
from typing import Any

import pytest
from django.db import connection

from api.models import Scope
from sagas import models as saga_models
from tests.orders.conftest import Api, member, order
from tests.orders.conftest import ana as ana
from tests.orders.conftest import bob as bob
from tests.orders.conftest import broker as broker
from tests.orders.conftest import catalogue as catalogue
from tests.webhooks.receiver import Receiver, receiving
from webhooks import models, services, signing


@pytest.fixture
def receiver(settings: Any) -> collections.abc.Iterator[Receiver]:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with receiving() as one:
        yield one


@pytest.fixture
def mia(catalogue: None) -> Api:
    return member("mia", Scope.MERCHANT, email="mia@shop.example")


def endpoint(mia: Api, receiver: Receiver, *types: str) -> dict[str, Any]:
    answer = mia.post("/webhook-endpoints", {"url": receiver.url, "types": list(types or ("order.*",))})
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


def cancelled(mia: Api, key: str = "key-1") -> None:
    """An order that came and went."""
    placed = mia.order(order(reference=str(uuid.uuid4())), key=key).json()
    assert mia.post(f"/orders/{placed['id']}/cancel", {"reason": "so"}).status_code == 202


def backlog(merchant: Api, url: str, *, messages: int) -> None:
    """Messages that wait to be told at an address."""
    row = models.Endpoint.objects.create(owner=merchant.user, url=url, secret=signing.new_secret())
    for _ in range(messages):
        services.send_test(endpoint=row)


def let_secrets_age() -> None:
    """A day passes."""
    for row in models.Endpoint.objects.all():
        for old in row.old_secrets:
            old["until"] = (saga_models.database_now() - datetime.timedelta(seconds=1)).isoformat()
        row.save()


def let_pause_pass() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE webhooks_delivery SET next_at = now() - interval '1 s' WHERE state = 'pending'"
        )


def fail_for(time: datetime.timedelta) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE webhooks_endpoint SET failing_since = failing_since - %s", [time])
