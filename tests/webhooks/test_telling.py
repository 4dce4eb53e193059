"""Telling merchants: signed, retried, logged, in order, and once disabled silent."""

import collections.abc
import concurrent.futures
import datetime
import json
import uuid
from typing import Any

import psycopg
import pytest
import standardwebhooks
from django.core import mail
from django.db import connection, transaction

from api.models import Scope
from sagas import models as saga_models
from sagas.testing import memory_transport
from tests.orders.conftest import Api, deliver, member, order
from tests.sandbox.running import Sandbox
from tests.support import locks, waiting
from tests.webhooks.conftest import backlog, cancelled, endpoint, fail_for, let_pause_pass, let_secrets_age
from tests.webhooks.receiver import Receiver, receiving
from webhooks import deliveries, messages, models, sender, services
from webhooks.models import DeliveryState

# --- What is told --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_fulfilled_order_is_told_and_an_independent_library_believes_it(
    mia: Api, receiver: Receiver, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    secret = endpoint(mia, receiver)["secret"]
    shown = mia.order().json()
    broker.deliver_all()
    deliver(mia, shown)
    deliveries.run()

    assert receiver.types == ["order.placed", "order.fulfilled"]
    (headers, body) = receiver.heard[-1]
    assert standardwebhooks.Webhook(secret).verify(body, headers) == json.loads(body)
    told = receiver.told[-1]["data"]["order"]
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
    deliveries.run()

    told = [(message["type"], message["data"].get("step", {}).get("name")) for message in receiver.told]
    assert told == [
        ("order.placed", None),
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
    assert receiver.told[2]["data"]["step"]["error"] == why
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
    deliveries.run()

    assert receiver.types == ["order.needs_attention"]
    assert receiver.told[0]["data"]["order"]["status"] == "attention"


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_told(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    from sagas import engine

    endpoint(mia, receiver)
    shown = mia.order().json()
    messages.compose()
    with transaction.atomic():
        engine.cancel(shown["saga"]["id"], actor="mia", reason="so")
        assert models.Outbox.objects.exists()
        transaction.set_rollback(True)
    deliveries.run()

    assert receiver.types == ["order.placed"]
    assert not models.Outbox.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_only_who_placed_the_order_is_told(
    mia: Api, bob: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver)
    bobs = bob.order().json()
    bob.post(f"/orders/{bobs['id']}/cancel", {"reason": "so"})
    deliveries.run()

    assert receiver.heard == []


# --- Trying again --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_failure_is_tried_again_with_the_same_id_and_the_same_bytes(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver, "order.cancelled")
    receiver.answers = [500, 503]
    cancelled(mia)
    deliveries.run()
    assert len(receiver.heard) == 1
    for _ in range(3):
        let_pause_pass()
        deliveries.run()

    assert [headers["webhook-id"] for headers, _ in receiver.heard[:3]] == [
        receiver.heard[0][0]["webhook-id"]
    ] * 3
    assert receiver.heard[0][1] == receiver.heard[1][1] == receiver.heard[2][1]
    log = mia.get(f"/webhook-endpoints/{shop['id']}/deliveries").json()["results"]
    first = log[-1]
    assert first["state"] == "delivered"
    assert [attempt["status"] for attempt in first["log"]] == [500, 503, 204]
    assert first["log"][0]["error"] == "answered 500"
    assert first["log"][0]["response"] == "thank you"


@pytest.mark.django_db(transaction=True)
def test_a_later_message_of_an_order_waits_for_the_earlier(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelling", "order.cancelled")
    receiver.answers = [500]
    cancelled(mia, "first")
    deliveries.run()
    # Another order's are not held up.
    cancelled(mia, "second")
    deliveries.run()
    orders = [message["data"]["order"]["id"] for message in receiver.told]
    assert len(orders) == 3
    assert orders[0] != orders[1] == orders[2]

    let_pause_pass()
    deliveries.run()
    of_first = [message["type"] for message in receiver.told if message["data"]["order"]["id"] == orders[0]]
    assert of_first == ["order.cancelling", "order.cancelling", "order.cancelled"]


@pytest.mark.django_db(transaction=True)
def test_pauses_grow_and_end_and_then_it_is_given_up(
    mia: Api, receiver: Receiver, settings: Any, broker: memory_transport.MemoryTransport
) -> None:
    settings.WEBHOOKS_DISABLE_AFTER = datetime.timedelta(days=365)
    shop = endpoint(mia, receiver, "order.cancelled")
    receiver.answers = [500] * 20
    cancelled(mia)
    deliveries.run()
    pauses = []
    while (row := models.Delivery.objects.get()).state == DeliveryState.PENDING:
        assert row.next_at is not None
        pauses.append((row.next_at - saga_models.database_now()).total_seconds())
        let_pause_pass()
        deliveries.run()

    assert len(receiver.heard) == len(deliveries.PAUSES) + 1
    for pause, planned in zip(pauses, deliveries.PAUSES, strict=True):
        assert 0.7 * planned.total_seconds() < pause <= 1.2 * planned.total_seconds()

    # By hand it can be sent again.
    receiver.answers = []
    path = f"/webhook-endpoints/{shop['id']}/deliveries"
    (given_up,) = mia.get(f"{path}?state=given_up").json()["results"]
    assert mia.post(f"{path}/{given_up['id']}/replay").status_code == 202
    deliveries.run()
    assert mia.get(path).json()["results"][0]["state"] == "delivered"
    assert receiver.heard[-1][0]["webhook-id"] == receiver.heard[0][0]["webhook-id"]


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_asks_for_patience_gets_it(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    receiver.answers, receiver.headers = [429], {"Retry-After": "3600"}
    cancelled(mia)
    deliveries.run()

    row = models.Delivery.objects.get(attempts=1)
    assert row.next_at is not None
    assert 3500 < (row.next_at - saga_models.database_now()).total_seconds() <= 3600


@pytest.mark.django_db(transaction=True)
def test_a_sender_that_dies_is_replaced(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    cancelled(mia)
    messages.compose()
    (claimed,) = deliveries._claim()
    assert deliveries._claim() == [], "it is being sent"

    let_pause_pass()
    deliveries.run()
    assert len(receiver.heard) == 1

    # The dead one turns out to be alive after all, and is not believed.
    deliveries._record(claimed, sender.Reply(duration_ms=1, error="late"))
    assert models.Delivery.objects.get().state == DeliveryState.DELIVERED


@pytest.mark.django_db(transaction=True)
def test_senders_at_the_same_time_send_each_message_once(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    for n in range(20):
        cancelled(mia, f"key-{n}")

    def run(_: int) -> None:
        try:
            deliveries.run()
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
        cancelled(mia, f"key-{n}")
    messages.compose()
    models.Endpoint.objects.update(failing_since=saga_models.database_now())
    receiver.answers = [500]

    assert deliveries.deliver() == 1, "it fails once more"
    assert deliveries.deliver() == 1, "now it is well"
    assert deliveries.deliver() == 1
    assert [headers["webhook-id"] for headers, _ in receiver.heard] == [
        str(message.pk)
        for message in models.Message.objects.filter(type="order.cancelled").order_by("sequence")
    ]


@pytest.mark.django_db(transaction=True)
def test_what_goes_wrong_with_one_merchant_s_messages_holds_up_nobody_else_s(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport, caplog: pytest.LogCaptureFixture
) -> None:
    eve = member("eve", Scope.MERCHANT)
    with receiving() as hers:
        broken = endpoint(eve, hers, "order.cancelled")
        endpoint(mia, receiver, "order.cancelled")
        # No bytes are written so: her messages cannot be signed.
        models.Endpoint.objects.filter(pk=broken["id"]).update(secret="whsec_a")
        cancelled(eve)
        cancelled(mia)
        deliveries.run()

    assert receiver.types == ["order.cancelled"]
    states = dict(models.Delivery.objects.values_list("endpoint__owner__username", "state"))
    assert states == {"mia": "delivered", "eve": "pending"}
    assert "could not be made" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_an_endpoint_may_be_deleted_while_it_is_told(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver, "order.cancelled")
    cancelled(mia)
    messages.compose()
    (claimed,) = deliveries._claim()
    mia.delete(f"/webhook-endpoints/{shop['id']}")

    deliveries._record(claimed, sender.Reply(duration_ms=1, status=204))

    assert not models.Attempt.objects.exists()


# --- Disabling -----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_an_endpoint_that_only_fails_is_disabled_and_its_owner_told(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver, "order.cancelling", "order.cancelled")
    with receiving() as other:
        endpoint(mia, other, "endpoint.disabled")
        receiver.answers = [500] * 20
        cancelled(mia)
        deliveries.run()
        fail_for(datetime.timedelta(days=4))
        let_pause_pass()
        deliveries.run()

        assert other.types == ["endpoint.disabled"]
        assert other.told[0]["data"]["endpoint"]["id"] == shop["id"]
    now = mia.get(f"/webhook-endpoints/{shop['id']}").json()
    assert now["enabled"] is False
    assert now["disabled_reason"].startswith("Every attempt since")
    assert [letter.to for letter in mail.outbox] == [["mia@shop.example"]]
    assert not models.Delivery.objects.filter(state=DeliveryState.PENDING).exists()

    # It is told of nothing any more, until it is enabled again.
    heard = len(receiver.heard)
    cancelled(mia, "while-disabled")
    deliveries.run()
    assert len(receiver.heard) == heard
    receiver.answers = []
    mia.patch(f"/webhook-endpoints/{shop['id']}", {"enabled": True})
    cancelled(mia, "afterwards")
    deliveries.run()
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
    cancelled(mia)
    if what == "replay":
        deliveries.run()
    with (
        psycopg.connect(environment["DATABASE_URL"]) as other,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        other.execute("UPDATE webhooks_endpoint SET disabled_at = now() WHERE id = %s", [shop["id"]])
        work = pool.submit(_then_close, lambda: _compose_or_replay(what))
        waiting.until(lambda: locks.waiters(other.info.backend_pid), "it waits for the endpoint")
        other.commit()
        work.result()

    assert not models.Delivery.objects.filter(state=DeliveryState.PENDING).exists()


def _compose_or_replay(what: str) -> None:
    if what == "compose":
        messages.compose()
    else:
        assert not services.replay(delivery=models.Delivery.objects.get())


def _then_close(work: collections.abc.Callable[[], None]) -> None:
    try:
        work()
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_one_that_is_gone_is_disabled_at_once(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver)
    receiver.answers = [410]
    cancelled(mia)
    deliveries.run()

    assert mia.get(f"/webhook-endpoints/{shop['id']}").json()["enabled"] is False
    assert len(receiver.heard) == 1


@pytest.mark.django_db(transaction=True)
def test_a_success_forgives(mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport) -> None:
    shop = endpoint(mia, receiver)
    receiver.answers = [500]
    cancelled(mia)
    deliveries.run()
    assert mia.get(f"/webhook-endpoints/{shop['id']}").json()["failing_since"]
    let_pause_pass()
    deliveries.run()

    assert mia.get(f"/webhook-endpoints/{shop['id']}").json()["failing_since"] is None


@pytest.mark.django_db
def test_another_address_is_not_blamed_for_the_failures_of_the_old_one(mia: Api, receiver: Receiver) -> None:
    path = f"/webhook-endpoints/{endpoint(mia, receiver)['id']}"
    models.Endpoint.objects.update(failing_since=saga_models.database_now())

    assert mia.patch(path, {"url": receiver.url, "description": "ours"}).json()["failing_since"]
    assert mia.patch(path, {"url": receiver.url + "&v=2"}).json()["failing_since"] is None


@pytest.mark.django_db(transaction=True)
def test_a_secret_is_changed_without_a_gap(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver)
    new = mia.post(f"/webhook-endpoints/{shop['id']}/secret").json()["secret"]
    mia.post(f"/webhook-endpoints/{shop['id']}/test")
    deliveries.run()

    headers, body = receiver.heard[0]
    for secret in (shop["secret"], new):
        standardwebhooks.Webhook(secret).verify(body, headers)
    let_secrets_age()
    mia.post(f"/webhook-endpoints/{shop['id']}/test")
    deliveries.run()
    headers, body = receiver.heard[1]
    standardwebhooks.Webhook(new).verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(shop["secret"]).verify(body, headers)


@pytest.mark.django_db(transaction=True)
def test_who_changes_a_secret_twice_at_once_or_again_after_a_lost_answer_breaks_none_in_use(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    shop = endpoint(mia, receiver)
    row = models.Endpoint.objects.get(pk=shop["id"])

    def rotate(_: int) -> str:
        try:
            return services.rotate(endpoint=row)
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = list(pool.map(rotate, range(2)))
    mia.post(f"/webhook-endpoints/{shop['id']}/test")
    deliveries.run()

    headers, body = receiver.heard[0]
    for secret in (shop["secret"], *both):
        standardwebhooks.Webhook(secret).verify(body, headers)

    # However often: the headers do not grow for ever, and what is old is forgotten.
    for n in range(5):
        rotate(n)
    assert len(models.Endpoint.objects.get().old_secrets) == services.MOST_OLD_SECRETS
    let_secrets_age()
    rotate(0)
    assert len(models.Endpoint.objects.get().old_secrets) == 1


# --- Whose turn it is -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_merchants_with_endless_backlogs_do_not_starve_a_third(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two whose messages fill every batch, and whose endpoints were there first.
    with receiving() as theirs:
        for name in ("rita", "tom"):
            rival = member(name, Scope.MERCHANT)
            for n in range(deliveries.BATCH // 2 + 1):
                backlog(rival, f"{theirs.url}&n={n}", messages=4)
        backlog(mia, receiver.url, messages=3)

        for _ in range(3):
            deliveries.deliver()

        assert len(receiver.heard) == 3
        # And she did not keep them waiting either.
        assert len(theirs.heard) == 3 * deliveries.BATCH - 3


@pytest.mark.django_db(transaction=True)
def test_more_merchants_than_fit_into_a_batch_are_served_one_after_the_other(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "BATCH", 2)
    names = ["rita", "tom", "una", "vic", "wu"]
    for name in names:
        backlog(member(name, Scope.MERCHANT), f"{receiver.url}&to={name}", messages=4)

    for _ in range(5):
        deliveries.deliver()

    told = models.Delivery.objects.filter(state=DeliveryState.DELIVERED)
    assert sorted(told.values_list("endpoint__owner__username", flat=True)) == sorted(names * 2)


@pytest.mark.django_db(transaction=True)
def test_a_message_that_keeps_failing_does_not_hold_up_the_rest_of_its_order(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelling", "order.cancelled")
    receiver.answers = [500]
    cancelled(mia)
    deliveries.run()
    assert receiver.types == ["order.cancelling"], "it is tried again in five seconds, and the next one waits"

    receiver.answers = [500]
    let_pause_pass()
    deliveries.run()
    deliveries.run()

    # It has five minutes to wait now; the end of the order is told all the same.
    assert receiver.types == ["order.cancelling", "order.cancelling", "order.cancelled"]
    first = models.Delivery.objects.get(state=DeliveryState.PENDING)
    assert first.next_at is not None
    assert first.next_at - saga_models.database_now() > datetime.timedelta(minutes=3)


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_asks_for_hours_of_patience_for_one_message_hears_the_next(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelling", "order.cancelled")
    receiver.answers, receiver.headers = [503], {"Retry-After": "36000"}
    cancelled(mia)
    deliveries.run()

    assert receiver.types == ["order.cancelling", "order.cancelled"]


# --- Who delivers, and what is forgotten


@pytest.mark.django_db(transaction=True)
def test_few_processes_deliver_at_once_and_one_that_died_keeps_its_slot_for_a_lease_only(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    cancelled(mia)
    for slot in range(deliveries.RUNS):
        until = saga_models.database_now() + deliveries.LEASE
        models.Run.objects.create(slot=slot, run=uuid.uuid4(), until=until)

    assert deliveries.run() == 0, "there are as many as there may be"

    models.Run.objects.filter(slot=2).update(until=saga_models.database_now())
    assert deliveries.run() == 1
    assert set(models.Run.objects.values_list("slot", flat=True)) == {0, 1, 3}, "it let go of its own"


@pytest.mark.django_db(transaction=True)
def test_who_lost_its_slot_meanwhile_ends_and_lets_go_of_nobody_elses(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    cancelled(mia)
    deliver_ = deliveries.deliver

    def somebody_takes_over() -> int:
        models.Run.objects.update(run=uuid.uuid4())
        return deliver_()

    monkeypatch.setattr(deliveries, "deliver", somebody_takes_over)

    assert deliveries.run() == 1
    assert models.Run.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_second_without_news_costs_one_statement(
    mia: Api, receiver: Receiver, django_assert_num_queries: Any
) -> None:
    endpoint(mia, receiver, "order.cancelled")

    with django_assert_num_queries(1):
        assert deliveries.run() == 0


@pytest.mark.django_db(transaction=True)
def test_old_messages_are_forgotten_and_pending_ones_are_not(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.cancelled")
    cancelled(mia, "told")
    deliveries.run()
    cancelled(mia, "untold")
    messages.compose()
    models.Message.objects.update(created_at=saga_models.database_now() - datetime.timedelta(days=31))

    deliveries.purge(older_than=datetime.timedelta(days=30))

    assert models.Message.objects.count() == 1
    assert models.Delivery.objects.get().state == DeliveryState.PENDING


@pytest.mark.django_db(transaction=True)
def test_a_child_of_an_order_s_saga_is_told_of_by_that_saga_s_step_alone(
    mia: Api, receiver: Receiver, broker: memory_transport.MemoryTransport
) -> None:
    endpoint(mia, receiver, "order.*", "saga.step.*")
    placed = mia.order(order()).json()
    models.Outbox.objects.all().delete()
    parent = saga_models.SagaInstance.objects.get(pk=placed["saga"]["id"])
    child = saga_models.SagaInstance.objects.create(
        name="parcel", version=1, fingerprint="f", key=f"{parent.pk}.deliver-order.0", wake_at=parent.wake_at,
        parent_id=parent.pk, parent_step="deliver-order", parent_item=0,
    )  # fmt: skip

    events = [
        saga_models.Event.objects.create(
            saga=saga, kind="step.done", subject=step, from_state="waiting", to_state="done"
        )
        for saga, step in ((child, "hand-over"), (parent, "deliver-order"))
    ]

    assert list(models.Outbox.objects.values_list("event_id", flat=True)) == [events[1].pk]
