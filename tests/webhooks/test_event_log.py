"""The event log: what webhooks tell, whether or not anybody is told; nothing comes before what was read."""

import datetime
import json
import uuid
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from api.models import Scope
from orders import models as orders
from orders import payloads
from sagas import models as saga_models
from sagas.testing import memory_transport
from tests.orders.conftest import Api, deliver, member, order
from tests.sandbox.running import Sandbox
from tests.webhooks.conftest import cancelled, endpoint
from tests.webhooks.receiver import Receiver
from webhooks import deliveries, messages, models

pytestmark = pytest.mark.django_db(transaction=True)


def events(api: Api, query: str = "") -> list[dict[str, Any]]:
    """A page of the log."""
    answer = api.get(f"/events{query}")
    assert answer.status_code == 200, answer.content
    return list(answer.json()["results"])


def test_it_tells_word_for_word_what_webhooks_tell(
    mia: Api, receiver: Receiver, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.*", "saga.step.*")
    shown = mia.order().json()
    broker.deliver_all()
    deliver(mia, shown)
    deliveries.run()

    told = [{"id": headers["webhook-id"], **json.loads(body)} for headers, body in receiver.heard]
    assert events(mia, "?limit=100") == told
    assert told[-1]["type"] == "order.fulfilled"


def test_without_an_endpoint_nothing_is_missed(mia: Api, broker: memory_transport.MemoryTransport) -> None:
    cancelled(mia)
    messages.compose()

    assert [event["type"] for event in events(mia)] == [
        "order.placed",
        "order.cancelling",
        "order.cancelled",
    ]
    assert not models.Delivery.objects.exists()


def test_the_first_word_of_an_order_is_that_it_was_placed(
    mia: Api, broker: memory_transport.MemoryTransport
) -> None:
    shown = mia.order().json()
    messages.compose()

    (event,) = events(mia)
    assert event["type"] == "order.placed"
    assert event["data"] == {
        "order": {name: shown[name] for name in ("id", "number", "reference", "total", "status")}
    }


def test_who_asks_for_what_came_after_the_last_one_gets_each_once(
    mia: Api, broker: memory_transport.MemoryTransport
) -> None:
    for n in range(3):
        cancelled(mia, f"key-{n}")
        messages.compose()
    everything = [event["id"] for event in events(mia)]

    answer, read = mia.get("/events?limit=2").json(), []
    while True:
        read += [event["id"] for event in answer["results"]]
        if answer["next"] is None:
            break
        answer = mia.client.get(answer["next"].removeprefix("http://testserver")).json()
    assert read == everything
    assert len(everything) == 9

    assert events(mia, f"?after={everything[-1]}") == []
    cancelled(mia, "another")
    messages.compose()
    assert [event["type"] for event in events(mia, f"?after={everything[-1]}")] == [
        "order.placed",
        "order.cancelling",
        "order.cancelled",
    ]


def test_what_commits_late_comes_behind_what_was_read_already(
    mia: Api, environment: dict[str, str], broker: memory_transport.MemoryTransport
) -> None:
    slow, quick = (mia.order(order(reference=str(n)), key=str(n)).json() for n in range(2))
    with psycopg.connect(environment["DATABASE_URL"]) as other:
        other.execute(
            "INSERT INTO sagas_event (saga_id, kind, subject, from_state, to_state, actor, reason, data)"
            " VALUES (%s, 'saga.completed', '', 'running', 'completed', 'engine', '', '{}')",
            [slow["saga"]["id"]],
        )
        mia.post(f"/orders/{quick['id']}/cancel", {"reason": "so"})
        messages.compose()
        read = events(mia)
        other.commit()
    messages.compose()

    late = events(mia, f"?after={read[-1]['id']}")
    assert [event["data"]["order"]["id"] for event in late] == [slow["id"]]
    assert late[0]["sequence"] < read[-1]["sequence"], "its event has the lower number"


def test_types_may_be_chosen(mia: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport) -> None:
    mia.order(order(payment={"method": "card", "token": "tok_declined"}))
    broker.deliver_all()
    messages.compose()

    chosen = [event["type"] for event in events(mia, "?type=order.*&type=saga.step.failed")]
    assert chosen == ["order.placed", "saga.step.failed", "order.cancelling", "order.cancelled"]
    refused = mia.get("/events?type=endpoint.disabled")
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["parameter"] == "type"


def test_one_may_begin_at_a_time(mia: Api, broker: memory_transport.MemoryTransport) -> None:
    """However far apart, and whoever else has messages in between."""
    ivo = member("ivo", Scope.MERCHANT)
    for n, days in enumerate((3, 2, 0)):
        for api in (mia, ivo):
            cancelled(api, f"key-{n}")
            messages.compose()
        age = datetime.timedelta(days=days)
        models.Message.objects.filter(
            created_at__gt=saga_models.database_now() - datetime.timedelta(hours=1)
        ).update(created_at=F("created_at") - age)
    everything = [event["id"] for event in events(mia)]

    def begun(*, days: float) -> list[str]:
        at = saga_models.database_now() - datetime.timedelta(days=days)
        return [event["id"] for event in events(mia, f"?since={at:%Y-%m-%dT%H:%M:%SZ}")]

    assert begun(days=4) == everything
    assert begun(days=2.5) == everything[3:]
    assert begun(days=1) == everything[6:]
    assert len(everything) == 9
    assert begun(days=-1) == []
    refused = mia.get("/events?since=yesterday")
    assert refused.status_code == 400
    assert "2026-01-31T12:00:00Z" in refused.content.decode()


def test_every_way_in_which_an_order_may_end_has_a_type(
    mia: Api, broker: memory_transport.MemoryTransport
) -> None:
    assert {f"order.{status.value}" for status in orders.FINAL} <= set(payloads.TYPES)


def test_the_log_is_one_s_own_and_kept_for_merchants(
    mia: Api, bob: Api, broker: memory_transport.MemoryTransport
) -> None:
    cancelled(mia, "mias")
    cancelled(bob, "bobs")
    messages.compose()

    assert {event["data"]["order"]["id"] for event in events(mia)} == {
        str(pk) for pk in orders.Order.objects.filter(owner=mia.user).values_list("pk", flat=True)
    }
    assert models.Message.objects.filter(order__owner=bob.user).count() == 0
    assert bob.get("/events").status_code == 403
    eve = member("eve", Scope.MERCHANT)
    newest = events(mia)[-1]["id"]
    assert eve.get(f"/events?after={newest}").status_code == 410


def test_an_after_that_is_not_kept_any_more_is_said_to_be_gone(
    mia: Api, broker: memory_transport.MemoryTransport
) -> None:
    cancelled(mia)
    messages.compose()
    newest = events(mia)[-1]["id"]
    models.Message.objects.update(created_at=saga_models.database_now() - datetime.timedelta(days=31))
    deliveries.purge(older_than=datetime.timedelta(days=30))

    for after in (newest, uuid.uuid4()):
        answer = mia.get(f"/events?after={after}")
        assert answer.status_code == 410
        assert answer.json()["type"] == "/api/problems/events-gone"
    assert events(mia) == []
    assert mia.get("/events?after=7").json()["errors"][0]["parameter"] == "after"


def test_a_page_costs_the_same_however_long_the_log_is(
    mia: Api, broker: memory_transport.MemoryTransport
) -> None:
    cancelled(mia, "first")
    messages.compose()
    oldest = events(mia)[0]["id"]

    with CaptureQueriesContext(connection) as few:
        events(mia, f"?after={oldest}")
    for n in range(9):
        cancelled(mia, str(n))
    messages.compose()
    with CaptureQueriesContext(connection) as many:
        assert len(events(mia, f"?after={oldest}&limit=100")) == 29

    # The token, its allowance, the event behind which to read, the page.
    assert len(few) == len(many) == 4


def test_a_page_of_the_log_is_found_by_its_index(mia: Api) -> None:
    page = messages.logged(mia.user, after=7)[:21]
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        try:
            plan = page.explain()
        finally:
            cursor.execute("RESET enable_seqscan")

    assert "webhooks_message_log" in plan
    assert "Sort" not in plan
