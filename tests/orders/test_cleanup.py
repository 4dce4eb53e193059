"""What has outlived its use is cleared until nothing is left of it, and nothing else is."""

import datetime
import threading
import uuid

import psycopg
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import models as auth
from django.contrib.sessions.models import Session
from django.db import connection

from api.models import IdempotencyKey, Throttle
from invoicing import models as invoicing
from orders import cleanup, models
from sagas import models as saga_models
from tests.orders.test_streams import _url
from webhooks import models as webhooks
from webhooks.models import DeliveryState

pytestmark = pytest.mark.django_db(transaction=True)

DAY = datetime.timedelta(days=1)
BATCHES = 3


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "BATCH", 20)


def many(at: datetime.datetime, count: int) -> None:
    """So many rows of everything that is cleared, whose time is over at that moment."""
    owner, _ = auth.User.objects.get_or_create(username="mia")
    endpoint, _ = webhooks.Endpoint.objects.get_or_create(owner=owner, url="https://example.com", types=[])
    names = [uuid.uuid4().hex for _ in range(count)]
    IdempotencyKey.objects.bulk_create(
        IdempotencyKey(owner=owner, endpoint="orders", key=name, fingerprint="", expires_at=at)
        for name in names
    )
    Throttle.objects.bulk_create(Throttle(key=name, due_at=at) for name in names)
    models.Follower.objects.bulk_create(
        models.Follower(saga_id=uuid.uuid4(), process=uuid.uuid4(), until=at) for _ in names
    )
    Session.objects.bulk_create(Session(session_key=name, session_data="", expire_date=at) for name in names)
    entries = [LogEntry(user=owner, action_flag=2, action_time=at - 730 * DAY) for _ in names]
    LogEntry.objects.bulk_create(entries)
    messages = webhooks.Message.objects.bulk_create(
        webhooks.Message(type="order.cancelled", body="{}", created_at=at - 30 * DAY) for _ in names
    )
    deliveries = webhooks.Delivery.objects.bulk_create(
        webhooks.Delivery(message=message, endpoint=endpoint, state=DeliveryState.DELIVERED)
        for message in messages
    )
    webhooks.Attempt.objects.bulk_create(
        webhooks.Attempt(delivery=delivery, duration_ms=7) for delivery in deliveries
    )
    sagas = saga_models.SagaInstance.objects.bulk_create(
        saga_models.SagaInstance(
            name="order-fulfilment", version=1, fingerprint="", key=name, state="completed", finished_at=at
        )
        for name in names
    )
    models.Order.objects.bulk_create(
        models.Order(
            owner=owner, saga=saga, total_amount=1, payment_method="card", state="SP", erased_at=at,
            kept_until=at.date(),
        )
        for saga in sagas
    )  # fmt: skip
    undone = {"status": invoicing.Status.NEVER_ISSUED, "undo_requested_at": at, "undone_at": at}
    invoicing.Invoice.objects.bulk_create(
        invoicing.Invoice(key=f"{saga.pk}.issue-invoice", tax_id="52998224725", **undone) for saga in sagas
    )


ROWS = [
    *(
        table.objects.all()  # type: ignore[attr-defined]
        for table in (
            IdempotencyKey, Throttle, models.Follower, Session, LogEntry,
            webhooks.Message, webhooks.Delivery, webhooks.Attempt,
        )
    ),
    models.Order.objects.exclude(kept_until=None),
    invoicing.Invoice.objects.exclude(tax_id=""),
]  # fmt: skip


def left() -> set[int]:
    return {rows.count() for rows in ROWS}


def test_one_run_clears_more_than_a_batch_of_everything_and_leaves_what_is_of_use() -> None:
    now = saga_models.database_now()
    many(now - DAY, BATCHES * cleanup.BATCH + 1)
    many(now + DAY, 2)

    cleared = cleanup.run(seconds=60)

    assert set(cleared.values()) == {BATCHES * cleanup.BATCH + 1}
    assert left() == {2}
    assert set(cleanup.run(seconds=60).values()) == {0}


def test_a_batch_is_no_more_than_a_batch_whatever_plan_postgresql_takes() -> None:
    """A list of rows that is asked for anew for each row skips the ones it has locked, and takes others."""
    many(saga_models.database_now() - DAY, BATCHES * cleanup.BATCH)

    with connection.cursor() as cursor:
        for plan in ("hashjoin", "mergejoin", "hashagg", "sort", "indexscan", "bitmapscan", "material"):
            cursor.execute(f"SET enable_{plan} = off")
        try:
            taken = {name: purge(5) for name, purge in cleanup.PURGES.items()}
        finally:
            cursor.execute("RESET ALL")

    assert set(taken.values()) == {5}


def test_a_message_that_is_still_to_be_sent_is_kept_however_old() -> None:
    many(saga_models.database_now() - DAY, 3)
    kept = webhooks.Delivery.objects.order_by("pk")[0]
    webhooks.Delivery.objects.filter(pk=kept.pk).update(
        state=DeliveryState.PENDING, next_at=saga_models.database_now() + DAY
    )

    cleanup.run(seconds=60)

    assert webhooks.Message.objects.get().pk == kept.message_id


def test_it_waits_for_nobody_and_comes_back_for_what_somebody_held() -> None:
    many(saga_models.database_now() - DAY, 5)
    with psycopg.connect(_url()) as other:
        other.execute("SELECT FROM api_idempotencykey ORDER BY id LIMIT 1 FOR UPDATE")
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1ms'")

        cleared = cleanup.run(seconds=60)

        assert cleared["idempotency keys"] == 4
        other.rollback()

    assert cleanup.run(seconds=60)["idempotency keys"] == 1
    assert left() == {0}


def test_two_at_once_share_the_work() -> None:
    many(saga_models.database_now() - DAY, 10 * cleanup.BATCH)
    told: list[dict[str, int]] = []

    def work() -> None:
        told.append(cleanup.run(seconds=60))
        connection.close()

    both = [threading.Thread(target=work) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)

    assert {sum(one[what] for one in told) for what in cleanup.PURGES} == {10 * cleanup.BATCH}
    assert left() == {0}


def test_a_run_ends_when_its_time_is_over_and_the_next_goes_on() -> None:
    many(saga_models.database_now() - DAY, 1)

    assert set(cleanup.run(seconds=0).values()) == {0}

    assert left() == {1}
