"""Where merchants are told: at public addresses only, with a secret that is shown once."""

import datetime
from typing import Any

import pytest
from django.db import connection
from django.test import utils as test_utils

from api.models import Scope
from sagas import models as saga_models
from sagas.testing import memory_transport
from tests.orders.conftest import Api, member
from tests.webhooks.conftest import cancelled, endpoint, let_pause_pass
from tests.webhooks.receiver import Receiver
from webhooks import deliveries, models, services

# --- Where to -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "https://user:pass@example.com/",
        "https://example.com/#part",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://exämple.com/",
        "https://example.com/ a",
        "https://" + "a" * 500,
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://192.168.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[fec0::1]/",
        "https://[::127.0.0.1]/",
        "https://[::ffff:0:127.0.0.1]/",
        "https://[64:ff9b:1::7f00:1]/",
        "https://[3fff::1]/",
        "https://a..example/",
        "https://.example.com/",
        "https://" + "a" * 64 + ".example/",
        "https://224.0.0.1/",
        "javascript:alert(1)",
        "nonsense",
    ],
)
@pytest.mark.django_db
def test_an_address_that_messages_must_not_go_to_is_refused(mia: Api, url: str) -> None:
    answer = mia.post("/webhook-endpoints", {"url": url, "types": ["order.*"]})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/url"


@pytest.mark.parametrize(
    "url",
    [
        "https://8.8.8.8/",
        "https://example.com:8443/hooks?a=b",
        "https://[2606:4700::1]/",
        "https://[::ffff:8.8.8.8]/",
        "https://[64:ff9b::808:808]/",
    ],
)
@pytest.mark.django_db
def test_a_public_one_is_taken(mia: Api, url: str) -> None:
    assert mia.post("/webhook-endpoints", {"url": url, "types": ["order.*"]}).status_code == 201


# --- Endpoints ------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_endpoint_s_secret_is_shown_when_it_is_made_and_no_more(mia: Api, receiver: Receiver) -> None:
    made = endpoint(mia, receiver)

    assert made["secret"].startswith("whsec_")
    assert "secret" not in mia.get(f"/webhook-endpoints/{made['id']}").json()
    assert made["secret"] not in mia.get("/webhook-endpoints").content.decode()


@pytest.mark.django_db
def test_another_s_endpoint_is_not_there(mia: Api, receiver: Receiver) -> None:
    path = f"/webhook-endpoints/{endpoint(mia, receiver)['id']}"
    eve = member("eve", Scope.MERCHANT)

    for answer in (
        eve.get(path),
        eve.patch(path, {"enabled": False}),
        eve.delete(path),
        eve.post(f"{path}/secret"),
        eve.post(f"{path}/test"),
        eve.get(f"{path}/deliveries"),
        eve.post(f"{path}/deliveries/1/replay"),
        eve.post(f"{path}/replay", {"since": "2026-01-01"}),
    ):
        assert answer.status_code == 404, answer.content
    assert mia.get(path).json()["enabled"] is True
    assert eve.get("/webhook-endpoints").json() == {"results": []}


@pytest.mark.django_db
def test_a_customer_has_no_endpoints(ana: Api) -> None:
    assert ana.get("/webhook-endpoints").status_code == 403


@pytest.mark.django_db
def test_there_are_only_so_many(mia: Api, receiver: Receiver) -> None:
    for _ in range(services.MOST_ENDPOINTS):
        endpoint(mia, receiver)

    answer = mia.post("/webhook-endpoints", {"url": receiver.url, "types": ["order.*"]})

    assert answer.status_code == 409
    assert answer.json()["type"] == "/api/problems/too-many"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"types": ["order.*"]}, "/url"),
        ({"url": "https://example.com/"}, "/types"),
        ({"url": "https://example.com/", "types": []}, "/types"),
        ({"url": "https://example.com/", "types": ["order.exploded"]}, "/types/0"),
        ({"url": "https://example.com/", "types": "order.*"}, "/types"),
        ({"url": "https://example.com/", "types": ["order.*", "endpoint.*", "order.*"]}, "/types/2"),
        ({"url": "https://example.com/", "types": ["order.*"], "secret": "mine"}, "/secret"),
    ],
)
def test_a_senseless_endpoint_is_refused(mia: Api, body: dict[str, Any], pointer: str) -> None:
    answer = mia.post("/webhook-endpoints", body)

    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


@pytest.mark.django_db
def test_a_type_that_is_named_twice_is_refused_in_a_change_too(mia: Api, receiver: Receiver) -> None:
    made = endpoint(mia, receiver)

    answer = mia.patch(f"/webhook-endpoints/{made['id']}", {"types": ["order.cancelled", "order.cancelled"]})

    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert (fault["pointer"], fault["code"]) == ("/types/1", "duplicate")
    assert mia.get(f"/webhook-endpoints/{made['id']}").json()["types"] == ["order.*"]


@pytest.mark.django_db
def test_a_deleted_endpoint_is_gone_with_its_log(mia: Api, receiver: Receiver) -> None:
    path = f"/webhook-endpoints/{endpoint(mia, receiver)['id']}"
    mia.post(f"{path}/test")

    assert mia.delete(path).status_code == 204
    assert mia.get(path).status_code == 404
    assert not models.Delivery.objects.exists()


@pytest.mark.django_db
def test_a_disabled_one_takes_no_test_and_no_replay(mia: Api, receiver: Receiver) -> None:
    path = f"/webhook-endpoints/{endpoint(mia, receiver)['id']}"
    sent = mia.post(f"{path}/test").json()
    mia.patch(path, {"enabled": False})

    for answer in (mia.post(f"{path}/test"), mia.post(f"{path}/deliveries/{sent['id']}/replay")):
        assert answer.status_code == 409
        assert answer.json()["type"] == "/api/problems/endpoint-disabled"


@pytest.mark.django_db(transaction=True)
def test_all_that_failed_since_a_time_is_sent_again(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/webhook-endpoints/{endpoint(mia, receiver, 'order.cancelled')['id']}"
    receiver.answers = [204, 500, 500, 500]
    for n in range(4):
        cancelled(mia, str(n))
        deliveries.run()
    let_pause_pass()
    _, given_up, old, waiting = models.Delivery.objects.order_by("sequence")
    for row in (given_up, old):
        models.Delivery.objects.filter(pk=row.pk).update(state="given_up", next_at=None)
    since = saga_models.database_now() - datetime.timedelta(hours=1)
    day_before = since - datetime.timedelta(days=1)
    models.Message.objects.filter(pk=old.message_id).update(created_at=day_before)
    later = saga_models.database_now() + datetime.timedelta(hours=10)
    models.Delivery.objects.filter(pk=waiting.pk).update(next_at=later)
    receiver.heard.clear()
    receiver.answers = []

    answer = mia.post(f"{path}/replay", {"since": since.isoformat()})

    assert answer.status_code == 202
    assert answer.json() == {"count": 2}
    deliveries.run()
    assert {headers["webhook-id"] for headers, _ in receiver.heard} == {
        str(given_up.message_id),
        str(waiting.message_id),
    }
    assert mia.post(f"{path}/replay", {"since": since.isoformat()}).json() == {"count": 0}
    assert mia.post(f"{path}/replay", {"since": day_before.isoformat()}).json() == {"count": 1}
    assert mia.post(f"{path}/replay", {"since": "lately"}).json()["errors"][0]["pointer"] == "/since"
    assert mia.post(f"{path}/replay").status_code == 422
    mia.patch(path, {"enabled": False})
    refused = mia.post(f"{path}/replay", {"since": since.isoformat()})
    assert refused.json()["type"] == "/api/problems/endpoint-disabled"


@pytest.mark.django_db
def test_sending_all_again_costs_the_same_however_many_there_are(mia: Api, receiver: Receiver) -> None:
    path = f"/webhook-endpoints/{endpoint(mia, receiver)['id']}/replay"
    costs = []
    for count in (1, 10):
        for _ in range(count):
            mia.post(path.replace("replay", "test"))
        models.Delivery.objects.update(state="given_up", next_at=None)
        with test_utils.CaptureQueriesContext(connection) as statements:
            assert mia.post(path, {"since": "2026-01-01"}).status_code == 202
        costs.append(len(statements))

    assert costs[0] == costs[1]


@pytest.mark.django_db
def test_a_page_of_the_log_is_bounded_and_costs_the_same_however_often_it_was_sent(
    mia: Api, receiver: Receiver
) -> None:
    path = f"/webhook-endpoints/{endpoint(mia, receiver)['id']}"
    pages = []
    for _ in range(3):
        sent = mia.post(f"{path}/test").json()
        models.Attempt.objects.bulk_create(
            models.Attempt(delivery_id=sent["id"], duration_ms=n) for n in range(50)
        )
        with test_utils.CaptureQueriesContext(connection) as statements:
            pages.append((mia.get(f"{path}/deliveries").json()["results"], len(statements)))

    results, _ = pages[-1]
    assert [len(delivery["log"]) for delivery in results] == [20, 20, 20]
    assert [attempt["duration_ms"] for attempt in results[0]["log"]] == list(range(30, 50))
    assert len({cost for _, cost in pages}) == 1
