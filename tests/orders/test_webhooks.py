"""Telling merchants: signed, retried, logged, in order, once disabled silent, and nowhere private."""

import collections.abc
import concurrent.futures
import contextlib
import datetime
import json
import socket
import threading
import time
import uuid
from typing import Any

import psycopg
import pytest
import standardwebhooks
from django.core import mail
from django.db import connection, transaction
from django.test import utils as test_utils

from orders import models, posting, webhooks
from orders.models import DeliveryState
from sagas.testing import memory_transport
from tests.orders.conftest import Api, deliver, member, order
from tests.orders.merchant import Receiver, receiving
from tests.sandbox import Sandbox
from tests.support import waiting


@pytest.fixture
def receiver(settings: Any) -> collections.abc.Iterator[Receiver]:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with receiving() as one:
        yield one


@pytest.fixture
def mia(catalogue: None) -> Api:
    return member("mia", models.Scope.MERCHANT, email="mia@shop.example")


def endpoint(mia: Api, receiver: Receiver, *types: str) -> dict[str, Any]:
    answer = mia.post("/webhook-endpoints", {"url": receiver.url, "types": list(types or ("order.*",))})
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


# --- What is told --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_fulfilled_order_is_told_and_an_independent_library_believes_it(
    mia: Api, receiver: Receiver, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    secret = endpoint(mia, receiver)["secret"]
    shown = mia.order().json()
    broker.deliver_all()
    deliver(mia, shown)
    webhooks.run()

    assert receiver.types == ["order.fulfilled"]
    (headers, body) = receiver.heard[0]
    assert standardwebhooks.Webhook(secret).verify(body, headers) == json.loads(body)
    told = receiver.told[0]["data"]["order"]
    assert told["id"] == shown["id"]
    assert told["number"] == shown["number"]
    assert told["reference"] == "cart-7"
    assert told["status"] == "fulfilled"
    assert told["total"] == shown["total"]
    for secretive in ("Ana Souza", "ana@example.com", "52998224725", "tok_ok", "Flores"):
        assert secretive not in body.decode()


@pytest.mark.django_db(transaction=True)
def test_each_step_is_told_in_order_to_who_wants_it(
    mia: Api, receiver: Receiver, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.*", "saga.step.*")
    mia.order(order(payment={"method": "card", "token": "tok_declined"}))
    broker.deliver_all()
    webhooks.run()

    told = [(message["type"], message["data"].get("step", {}).get("name")) for message in receiver.told]
    assert told == [
        ("saga.step.running", "take-payment"),
        ("saga.step.failed", "take-payment"),
        ("order.cancelling", None),
        ("saga.step.undoing", "take-payment"),
        ("saga.step.undone", "take-payment"),
        ("order.cancelled", None),
    ]
    sequence = [message["sequence"] for message in receiver.told]
    assert sequence == sorted(set(sequence))

    why = {"kind": "refused", "message": "The payment was declined, or not made in time."}
    assert receiver.told[1]["data"]["step"]["error"] == why
    assert receiver.told[-1]["data"]["order"]["failure"] == {"step": "take-payment", **why}


@pytest.mark.django_db(transaction=True)
def test_an_order_that_needs_attention_is_told(
    mia: Api, receiver: Receiver, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.needs_attention")
    body = order(payment={"method": "card", "token": "tok_refund_refused"})
    body["customer"]["tax_id"] = "00000000191"
    mia.order(body)
    broker.deliver_all()
    webhooks.run()

    assert receiver.types == ["order.needs_attention"]
    assert receiver.told[0]["data"]["order"]["status"] == "attention"


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_told(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    from sagas import engine

    endpoint(mia, receiver)
    shown = mia.order().json()
    with transaction.atomic():
        engine.cancel(shown["saga"]["id"], actor="mia", reason="so")
        assert models.Outbox.objects.exists()
        transaction.set_rollback(True)
    webhooks.run()

    assert receiver.heard == []
    assert not models.Outbox.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_only_who_placed_the_order_is_told(
    mia: Api, bob: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver)
    bobs = bob.order().json()
    bob.post(f"/orders/{bobs['id']}/cancel", {"reason": "so"})
    webhooks.run()

    assert receiver.heard == []


# --- Trying again --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_failure_is_tried_again_with_the_same_id_and_the_same_bytes(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver, "order.cancelled")
    receiver.answers = [500, 503]
    _cancelled(mia)
    webhooks.run()
    assert len(receiver.heard) == 1
    for _ in range(3):
        _let_pause_pass()
        webhooks.run()

    assert [headers["webhook-id"] for headers, _ in receiver.heard[:3]] == [
        receiver.heard[0][0]["webhook-id"]
    ] * 3
    assert receiver.heard[0][1] == receiver.heard[1][1] == receiver.heard[2][1]
    deliveries = mia.get(f"/webhook-endpoints/{shop['id']}/deliveries").json()["results"]
    first = deliveries[-1]
    assert first["state"] == "delivered"
    assert [attempt["status"] for attempt in first["log"]] == [500, 503, 204]
    assert first["log"][0]["error"] == "answered 500"
    assert first["log"][0]["response"] == "thank you"


@pytest.mark.django_db(transaction=True)
def test_a_later_message_of_an_order_waits_for_the_earlier(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver)
    receiver.answers = [500]
    _cancelled(mia, "first")
    webhooks.run()
    # Another order's are not held up.
    _cancelled(mia, "second")
    webhooks.run()
    orders = [message["data"]["order"]["id"] for message in receiver.told]
    assert len(orders) == 3
    assert orders[0] != orders[1] == orders[2]

    _let_pause_pass()
    webhooks.run()
    of_first = [message["type"] for message in receiver.told if message["data"]["order"]["id"] == orders[0]]
    assert of_first == ["order.cancelling", "order.cancelling", "order.cancelled"]


@pytest.mark.django_db(transaction=True)
def test_pauses_grow_and_end_and_then_it_is_given_up(
    mia: Api, receiver: Receiver, settings: Any, broker: memory_transport.MemoryTransport
) -> None:
    settings.WEBHOOKS_DISABLE_AFTER = datetime.timedelta(days=365)
    shop = endpoint(mia, receiver, "order.cancelled")
    receiver.answers = [500] * 20
    _cancelled(mia)
    webhooks.run()
    pauses = []
    while (row := models.WebhookDelivery.objects.get()).state == DeliveryState.PENDING:
        assert row.next_at is not None
        pauses.append((row.next_at - _now()).total_seconds())
        _let_pause_pass()
        webhooks.run()

    assert len(receiver.heard) == len(webhooks.PAUSES) + 1
    for pause, planned in zip(pauses, webhooks.PAUSES, strict=True):
        assert 0.7 * planned.total_seconds() < pause <= 1.2 * planned.total_seconds()

    # By hand it can be sent again.
    receiver.answers = []
    path = f"/webhook-endpoints/{shop['id']}/deliveries"
    (given_up,) = mia.get(f"{path}?state=given_up").json()["results"]
    assert mia.post(f"{path}/{given_up['id']}/replay").status_code == 202
    webhooks.run()
    assert mia.get(path).json()["results"][0]["state"] == "delivered"
    assert receiver.heard[-1][0]["webhook-id"] == receiver.heard[0][0]["webhook-id"]


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_asks_for_patience_gets_it(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    receiver.answers, receiver.headers = [429], {"Retry-After": "3600"}
    _cancelled(mia)
    webhooks.run()

    row = models.WebhookDelivery.objects.get(attempts=1)
    assert row.next_at is not None
    assert 3500 < (row.next_at - _now()).total_seconds() <= 3600


@pytest.mark.django_db(transaction=True)
def test_a_sender_that_dies_is_replaced(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    _cancelled(mia)
    webhooks.compose()
    (claimed,) = webhooks._claim()
    assert webhooks._claim() == [], "it is being sent"

    _let_pause_pass()
    webhooks.run()
    assert len(receiver.heard) == 1

    # The dead one turns out to be alive after all, and is not believed.
    webhooks._record(claimed, posting.Reply(duration_ms=1, error="late"))
    assert models.WebhookDelivery.objects.get().state == DeliveryState.DELIVERED


@pytest.mark.django_db(transaction=True)
def test_senders_at_the_same_time_send_each_message_once(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    for n in range(20):
        _cancelled(mia, f"key-{n}")

    def run(_: int) -> None:
        try:
            webhooks.run()
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(run, range(6)))

    ids = [headers["webhook-id"] for headers, _ in receiver.heard]
    assert len(ids) == len(set(ids)) == 20


@pytest.mark.django_db(transaction=True)
def test_one_that_fails_is_sent_one_message_until_it_is_well_again(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    for n in range(3):
        _cancelled(mia, f"key-{n}")
    webhooks.compose()
    models.WebhookEndpoint.objects.update(failing_since=_now())
    receiver.answers = [500]

    assert webhooks.deliver() == 1, "it fails once more"
    assert webhooks.deliver() == 1, "now it is well"
    assert webhooks.deliver() == 1
    assert [headers["webhook-id"] for headers, _ in receiver.heard] == [
        str(message.pk) for message in models.WebhookMessage.objects.order_by("sequence")
    ]


@pytest.mark.django_db(transaction=True)
def test_what_goes_wrong_with_one_merchant_s_messages_holds_up_nobody_else_s(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport, caplog: pytest.LogCaptureFixture
) -> None:
    eve = member("eve", models.Scope.MERCHANT)
    with receiving() as hers:
        broken = endpoint(eve, hers, "order.cancelled")
        endpoint(mia, receiver, "order.cancelled")
        # No bytes are written so: her messages cannot be signed.
        models.WebhookEndpoint.objects.filter(pk=broken["id"]).update(secret="whsec_a")
        _cancelled(eve)
        _cancelled(mia)
        webhooks.run()

    assert receiver.types == ["order.cancelled"]
    states = dict(models.WebhookDelivery.objects.values_list("endpoint__owner__username", "state"))
    assert states == {"mia": "delivered", "eve": "pending"}
    assert "could not be made" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_an_endpoint_may_be_deleted_while_it_is_told(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver, "order.cancelled")
    _cancelled(mia)
    webhooks.compose()
    (claimed,) = webhooks._claim()
    mia.delete(f"/webhook-endpoints/{shop['id']}")

    webhooks._record(claimed, posting.Reply(duration_ms=1, status=204))

    assert not models.WebhookAttempt.objects.exists()


# --- Disabling -----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_an_endpoint_that_only_fails_is_disabled_and_its_owner_told(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver)
    with receiving() as other:
        endpoint(mia, other, "endpoint.disabled")
        receiver.answers = [500] * 20
        _cancelled(mia)
        webhooks.run()
        _fail_for(datetime.timedelta(days=4))
        _let_pause_pass()
        webhooks.run()

        assert other.types == ["endpoint.disabled"]
        assert other.told[0]["data"]["endpoint"]["id"] == shop["id"]
    now = mia.get(f"/webhook-endpoints/{shop['id']}").json()
    assert now["enabled"] is False
    assert now["disabled_reason"].startswith("Every attempt since")
    assert [letter.to for letter in mail.outbox] == [["mia@shop.example"]]
    assert not models.WebhookDelivery.objects.filter(state=DeliveryState.PENDING).exists()

    # It is told of nothing any more, until it is enabled again.
    heard = len(receiver.heard)
    _cancelled(mia, "while-disabled")
    webhooks.run()
    assert len(receiver.heard) == heard
    receiver.answers = []
    mia.patch(f"/webhook-endpoints/{shop['id']}", {"enabled": True})
    _cancelled(mia, "afterwards")
    webhooks.run()
    assert receiver.types[heard:] == ["order.cancelling", "order.cancelled"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["compose", "replay"])
def test_what_comes_while_it_is_being_disabled_is_not_told(
    mia: Api,
    receiver: Receiver,
    broker: memory_transport.MemoryTransport,
    environment: dict[str, str],
    what: str,
) -> None:
    shop = endpoint(mia, receiver, "order.cancelled")
    _cancelled(mia)
    if what == "replay":
        webhooks.run()
    with (
        psycopg.connect(environment["DATABASE_URL"]) as other,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        other.execute("UPDATE orders_webhookendpoint SET disabled_at = now() WHERE id = %s", [shop["id"]])
        work = pool.submit(_then_close, lambda: _compose_or_replay(what))
        waiting.until(_somebody_waits, "it waits for the endpoint")
        other.commit()
        work.result()

    assert not models.WebhookDelivery.objects.filter(state=DeliveryState.PENDING).exists()


def _compose_or_replay(what: str) -> None:
    if what == "compose":
        webhooks.compose()
    else:
        assert not webhooks.replay(delivery=models.WebhookDelivery.objects.get())


def _then_close(work: collections.abc.Callable[[], None]) -> None:
    try:
        work()
    finally:
        connection.close()


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid')"
        )
        row = cursor.fetchone()
    return bool(row and row[0])


@pytest.mark.django_db(transaction=True)
def test_one_that_is_gone_is_disabled_at_once(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver)
    receiver.answers = [410]
    _cancelled(mia)
    webhooks.run()

    assert mia.get(f"/webhook-endpoints/{shop['id']}").json()["enabled"] is False
    assert len(receiver.heard) == 1


@pytest.mark.django_db(transaction=True)
def test_a_success_forgives(mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport) -> None:
    shop = endpoint(mia, receiver)
    receiver.answers = [500]
    _cancelled(mia)
    webhooks.run()
    assert mia.get(f"/webhook-endpoints/{shop['id']}").json()["failing_since"]
    _let_pause_pass()
    webhooks.run()

    assert mia.get(f"/webhook-endpoints/{shop['id']}").json()["failing_since"] is None


@pytest.mark.django_db
def test_another_address_is_not_blamed_for_the_failures_of_the_old_one(mia: Api, receiver: Receiver) -> None:
    path = f"/webhook-endpoints/{endpoint(mia, receiver)['id']}"
    models.WebhookEndpoint.objects.update(failing_since=_now())

    assert mia.patch(path, {"url": receiver.url, "description": "ours"}).json()["failing_since"]
    assert mia.patch(path, {"url": receiver.url + "&v=2"}).json()["failing_since"] is None


@pytest.mark.django_db(transaction=True)
def test_a_secret_is_changed_without_a_gap(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver)
    new = mia.post(f"/webhook-endpoints/{shop['id']}/secret").json()["secret"]
    mia.post(f"/webhook-endpoints/{shop['id']}/test")
    webhooks.run()

    headers, body = receiver.heard[0]
    for secret in (shop["secret"], new):
        standardwebhooks.Webhook(secret).verify(body, headers)
    _let_secrets_age()
    mia.post(f"/webhook-endpoints/{shop['id']}/test")
    webhooks.run()
    headers, body = receiver.heard[1]
    standardwebhooks.Webhook(new).verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(shop["secret"]).verify(body, headers)


@pytest.mark.django_db(transaction=True)
def test_who_changes_a_secret_twice_at_once_or_again_after_a_lost_answer_breaks_none_in_use(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver)
    row = models.WebhookEndpoint.objects.get(pk=shop["id"])

    def rotate(_: int) -> str:
        try:
            return webhooks.rotate(endpoint=row)
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = list(pool.map(rotate, range(2)))
    mia.post(f"/webhook-endpoints/{shop['id']}/test")
    webhooks.run()

    headers, body = receiver.heard[0]
    for secret in (shop["secret"], *both):
        standardwebhooks.Webhook(secret).verify(body, headers)

    # However often: the headers do not grow for ever, and what is old is forgotten.
    for n in range(5):
        rotate(n)
    assert len(models.WebhookEndpoint.objects.get().old_secrets) == webhooks.MOST_OLD_SECRETS
    _let_secrets_age()
    rotate(0)
    assert len(models.WebhookEndpoint.objects.get().old_secrets) == 1


# --- Whose turn it is -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_merchants_with_endless_backlogs_do_not_starve_a_third(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two whose messages fill every batch, and whose endpoints were there first.
    with receiving() as theirs:
        for name in ("rita", "tom"):
            rival = member(name, models.Scope.MERCHANT)
            for n in range(webhooks.BATCH // 2 + 1):
                _backlog(rival, f"{theirs.url}&n={n}", messages=4)
        _backlog(mia, receiver.url, messages=3)

        for _ in range(3):
            webhooks.deliver()

        assert len(receiver.heard) == 3
        # And she did not keep them waiting either.
        assert len(theirs.heard) == 3 * webhooks.BATCH - 3


@pytest.mark.django_db(transaction=True)
def test_more_merchants_than_fit_into_a_batch_are_served_one_after_the_other(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "BATCH", 2)
    names = ["rita", "tom", "una", "vic", "wu"]
    for name in names:
        _backlog(member(name, models.Scope.MERCHANT), f"{receiver.url}&to={name}", messages=4)

    for _ in range(5):
        webhooks.deliver()

    told = models.WebhookDelivery.objects.filter(state=DeliveryState.DELIVERED)
    assert sorted(told.values_list("endpoint__owner__username", flat=True)) == sorted(names * 2)


@pytest.mark.django_db(transaction=True)
def test_a_message_that_keeps_failing_does_not_hold_up_the_rest_of_its_order(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver)
    receiver.answers = [500]
    _cancelled(mia)
    webhooks.run()
    assert receiver.types == ["order.cancelling"], "it is tried again in five seconds, and the next one waits"

    receiver.answers = [500]
    _let_pause_pass()
    webhooks.run()
    webhooks.run()

    # It has five minutes to wait now; the end of the order is told all the same.
    assert receiver.types == ["order.cancelling", "order.cancelling", "order.cancelled"]
    first = models.WebhookDelivery.objects.get(state=DeliveryState.PENDING)
    assert first.next_at is not None
    assert first.next_at - _now() > datetime.timedelta(minutes=3)


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_asks_for_hours_of_patience_for_one_message_hears_the_next(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver)
    receiver.answers, receiver.headers = [503], {"Retry-After": "36000"}
    _cancelled(mia)
    webhooks.run()

    assert receiver.types == ["order.cancelling", "order.cancelled"]


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


def test_a_name_that_stands_for_a_private_address_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, place: connected.append(place))

    reply = posting.post("https://localhost/", body=b"{}", headers={})

    assert not reply.ok
    assert "private" in reply.error
    assert connected == []


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [302], {"Location": receiver.url}

    reply = posting.post(receiver.url, body=b"{}", headers={})

    assert reply.status == 302
    assert not reply.ok
    assert len(receiver.heard) == 1


def test_an_answer_that_never_ends_is_cut_off(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(posting, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            link, _ = server.accept()
            with link, contextlib.suppress(OSError):
                link.recv(65536)
                link.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:
                    link.sendall(b"X-Drip: drop\r\n")
                    time.sleep(0.1)  # The drip itself: slower, and there would be no harm to show.

        threading.Thread(target=drip, daemon=True).start()
        started = time.monotonic()
        reply = posting.post(f"http://127.0.0.1:{server.getsockname()[1]}/", body=b"{}", headers={})

    assert not reply.ok
    assert "no answer within" in reply.error
    assert time.monotonic() - started < 5


def test_a_name_with_a_hundred_silent_addresses_is_given_up_in_time(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(posting, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(posting, "CONNECT_TIMEOUT_S", 0.2)
    with socket.socket() as server, contextlib.ExitStack() as queue:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        place = server.getsockname()
        # Nobody accepts: whoever comes once these stand in the queue hears nothing.
        for _ in range(4):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(place)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place)] * 100
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        started = time.monotonic()
        reply = posting.post("http://slow.example/", body=b"{}", headers={})

    assert "no answer within" in reply.error
    assert time.monotonic() - started < 5


def test_a_name_server_that_is_silent_keeps_nobody_longer_than_a_silent_receiver(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(posting, "TIMEOUT_S", 0.5)
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(60))
    try:
        reply = posting.post("http://slow.example/", body=b"{}", headers={})

        assert "no answer within" in reply.error
        assert not answered.is_set()
    finally:
        answered.set()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"garb\0age\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_is_a_failure_in_words_that_can_be_kept(settings: Any, said: bytes) -> None:
    with _saying(said, settings) as url:
        reply = posting.post(url, body=b"{}", headers={})

    assert reply.status is None
    assert reply.error
    assert reply.error.isprintable()


@pytest.mark.parametrize("after", ["9" * 5000, "-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "٣"])
def test_a_patience_that_makes_no_sense_is_not_asked_for(settings: Any, after: str) -> None:
    said = f"HTTP/1.1 503 Busy\r\nRetry-After: {after}\r\nContent-Length: 0\r\n\r\n".encode()
    with _saying(said, settings) as url:
        reply = posting.post(url, body=b"{}", headers={})

    assert reply.status == 503
    assert reply.retry_after_s is None


@contextlib.contextmanager
def _saying(said: bytes, settings: Any) -> collections.abc.Iterator[str]:
    """A server that answers with these bytes, once."""
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            link, _ = server.accept()
            with link, contextlib.suppress(OSError):
                link.recv(65536)
                link.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_nobody_at_the_address_is_an_answer_too(settings: Any) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    reply = posting.post(f"http://127.0.0.1:{port}/", body=b"{}", headers={})

    assert reply.status is None
    assert "Refused" in reply.error


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
    eve = member("eve", models.Scope.MERCHANT)

    for answer in (
        eve.get(path),
        eve.patch(path, {"enabled": False}),
        eve.delete(path),
        eve.post(f"{path}/secret"),
        eve.post(f"{path}/test"),
        eve.get(f"{path}/deliveries"),
        eve.post(f"{path}/deliveries/1/replay"),
    ):
        assert answer.status_code == 404, answer.content
    assert mia.get(path).json()["enabled"] is True
    assert eve.get("/webhook-endpoints").json() == {"results": []}


@pytest.mark.django_db
def test_a_customer_has_no_endpoints(ana: Api) -> None:
    assert ana.get("/webhook-endpoints").status_code == 403


@pytest.mark.django_db
def test_there_are_only_so_many(mia: Api, receiver: Receiver) -> None:
    for _ in range(webhooks.MOST_ENDPOINTS):
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
        ({"url": "https://example.com/", "types": ["order.*"], "secret": "mine"}, "/secret"),
    ],
)
def test_a_senseless_endpoint_is_refused(mia: Api, body: dict[str, Any], pointer: str) -> None:
    answer = mia.post("/webhook-endpoints", body)

    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


@pytest.mark.django_db
def test_a_deleted_endpoint_is_gone_with_its_log(mia: Api, receiver: Receiver) -> None:
    path = f"/webhook-endpoints/{endpoint(mia, receiver)['id']}"
    mia.post(f"{path}/test")

    assert mia.delete(path).status_code == 204
    assert mia.get(path).status_code == 404
    assert not models.WebhookDelivery.objects.exists()


@pytest.mark.django_db
def test_a_disabled_one_takes_no_test_and_no_replay(mia: Api, receiver: Receiver) -> None:
    path = f"/webhook-endpoints/{endpoint(mia, receiver)['id']}"
    sent = mia.post(f"{path}/test").json()
    mia.patch(path, {"enabled": False})

    for answer in (mia.post(f"{path}/test"), mia.post(f"{path}/deliveries/{sent['id']}/replay")):
        assert answer.status_code == 409
        assert answer.json()["type"] == "/api/problems/endpoint-disabled"


@pytest.mark.django_db
def test_a_page_of_the_log_is_bounded_and_costs_the_same_however_often_it_was_sent(
    mia: Api, receiver: Receiver
) -> None:
    path = f"/webhook-endpoints/{endpoint(mia, receiver)['id']}"
    pages = []
    for _ in range(3):
        sent = mia.post(f"{path}/test").json()
        models.WebhookAttempt.objects.bulk_create(
            models.WebhookAttempt(delivery_id=sent["id"], duration_ms=n) for n in range(50)
        )
        with test_utils.CaptureQueriesContext(connection) as statements:
            pages.append((mia.get(f"{path}/deliveries").json()["results"], len(statements)))

    results, _ = pages[-1]
    assert [len(delivery["log"]) for delivery in results] == [20, 20, 20]
    assert [attempt["duration_ms"] for attempt in results[0]["log"]] == list(range(30, 50))
    assert len({cost for _, cost in pages}) == 1


@pytest.mark.django_db(transaction=True)
def test_few_processes_deliver_at_once_and_one_that_died_keeps_its_slot_for_a_lease_only(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    _cancelled(mia)
    for slot in range(webhooks.RUNS):
        until = _now() + webhooks.LEASE
        models.WebhookRun.objects.create(slot=slot, run=uuid.uuid4(), until=until)

    assert webhooks.run() == 0, "there are as many as there may be"

    models.WebhookRun.objects.filter(slot=2).update(until=_now())
    assert webhooks.run() == 1
    assert set(models.WebhookRun.objects.values_list("slot", flat=True)) == {0, 1, 3}, "it let go of its own"


@pytest.mark.django_db(transaction=True)
def test_who_lost_its_slot_meanwhile_ends_and_lets_go_of_nobody_elses(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    _cancelled(mia)
    deliver_ = webhooks.deliver

    def somebody_takes_over() -> int:
        models.WebhookRun.objects.update(run=uuid.uuid4())
        return deliver_()

    monkeypatch.setattr(webhooks, "deliver", somebody_takes_over)

    assert webhooks.run() == 1
    assert models.WebhookRun.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_second_without_news_costs_one_statement(
    mia: Api, receiver: Receiver, django_assert_num_queries: Any
) -> None:
    endpoint(mia, receiver, "order.cancelled")

    with django_assert_num_queries(1):
        assert webhooks.run() == 0


@pytest.mark.django_db(transaction=True)
def test_old_messages_are_forgotten_and_pending_ones_are_not(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    _cancelled(mia, "told")
    webhooks.run()
    _cancelled(mia, "untold")
    webhooks.compose()
    models.WebhookMessage.objects.update(created_at=_now() - datetime.timedelta(days=31))

    webhooks.purge(older_than=datetime.timedelta(days=30))

    assert models.WebhookMessage.objects.count() == 1
    assert models.WebhookDelivery.objects.get().state == DeliveryState.PENDING


def _cancelled(mia: Api, key: str = "key-1") -> None:
    """An order that came and went."""
    placed = mia.order(order(reference=str(uuid.uuid4())), key=key).json()
    assert mia.post(f"/orders/{placed['id']}/cancel", {"reason": "so"}).status_code == 202


def _backlog(merchant: Api, url: str, *, messages: int) -> None:
    """Messages that wait to be told at an address."""
    row = models.WebhookEndpoint.objects.create(owner=merchant.user, url=url, secret=webhooks.new_secret())
    for _ in range(messages):
        webhooks.send_test(endpoint=row)


def _let_secrets_age() -> None:
    """A day passes."""
    for row in models.WebhookEndpoint.objects.all():
        for old in row.old_secrets:
            old["until"] = (_now() - datetime.timedelta(seconds=1)).isoformat()
        row.save()


def _let_pause_pass() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE orders_webhookdelivery SET next_at = now() - interval '1 s' WHERE state = 'pending'"
        )


def _fail_for(time: datetime.timedelta) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE orders_webhookendpoint SET failing_since = failing_since - %s", [time])


def _now() -> datetime.datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row = cursor.fetchone()
    assert row
    return datetime.datetime.fromisoformat(str(row[0]))
