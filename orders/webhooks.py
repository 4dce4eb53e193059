"""Telling merchants of their orders, by the Standard Webhooks scheme.

1. A trigger puts a saga's event into the outbox in the event's own transaction, if its order's owner has an
   endpoint: nothing that happened goes untold, and nothing is told that was rolled back.
2. `compose` makes a message of it, word for word, and a delivery for each endpoint that wants it.
3. `deliver` sends what is due: at least once, each time with the same id, the merchants in turn. Of one order
   in order, as long as the endpoint is well: a message waits for the one before it, but not for long.
"""

import base64
import concurrent.futures
import datetime
import hashlib
import hmac
import logging
import random
import secrets
import time
import uuid
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.auth import models as auth
from django.core import mail
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, functions

from orders import customer_messages, models, posting, wire
from orders.models import DeliveryState
from sagas import models as saga_models
from sagas.declaration import states

logger = logging.getLogger(__name__)

PAUSES = [
    datetime.timedelta(seconds=5),
    datetime.timedelta(minutes=5),
    datetime.timedelta(minutes=30),
    *[datetime.timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)],
]
"""Between one attempt and the next, as Standard Webhooks advises: ten attempts in some three days."""

BATCH = 32
PER_ENDPOINT = 8
"""So many of a batch at most go to one endpoint, so that a slow one does not keep the others waiting; to one
that failed last time goes one, to see whether it is well again."""

HELD_FOR = 1
"""So many attempts of a message hold back the later ones of its order. What is lost once does not mix up
their order so, and an endpoint that refuses one message for days hears of the rest all the same."""

SENDERS = 8
LEASE = datetime.timedelta(seconds=BATCH / SENDERS * posting.TIMEOUT_S + 30)
"""How long an attempt may be under way before it is thought dead and made again."""

RUNS = 4
"""How many processes may deliver at the same time."""

OLD_SECRET_LIVES = datetime.timedelta(hours=24)
MOST_OLD_SECRETS = 4
"""Each is one more signature in the headers of every message."""

MOST_ENDPOINTS = 16

ORDER_TYPES = {
    states.SagaState.RUNNING: "order.resumed",
    states.SagaState.COMPLETED: "order.fulfilled",
    states.SagaState.COMPENSATING: "order.cancelling",
    states.SagaState.COMPENSATED: "order.cancelled",
    states.SagaState.NEEDS_ATTENTION: "order.needs_attention",
}
CLOSED = "order.closed"
"""Its saga goes nowhere any more, so no state of it says so: an operator put it aside."""

COMPENSATE = {states.SagaState.COMPENSATING, states.SagaState.COMPENSATED}
STEP_TYPES = {state: f"saga.step.{state.value}" for state in states.StepState}
DISABLED = "endpoint.disabled"
TEST = "endpoint.test"
TYPES = [*ORDER_TYPES.values(), CLOSED, *STEP_TYPES.values(), DISABLED]
WISHES = [*TYPES, "order.*", "saga.step.*", "endpoint.*"]
"""What an endpoint may ask for."""

assert len(set(TYPES)) == len(TYPES), "two things are told under one type"


def wants(types: Iterable[str], type_: str) -> bool:
    """Whether somebody who asked for `types` wants to be told of this one."""
    return any(wish == type_ or (wish.endswith(".*") and type_.startswith(wish[:-1])) for wish in types)


def new_secret() -> str:
    """A secret as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def rotate(*, endpoint: models.WebhookEndpoint) -> str:
    """A new secret; for a day every message is signed with the one that it replaces too.

    So of two that ask at once each gets a secret that counts; and whoever asks again, because the answer was
    lost, has not broken the one that is in use.

    Raises:
        WebhookEndpoint.DoesNotExist: it was deleted meanwhile.
    """
    with transaction.atomic():
        row = models.WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
        now = saga_models.database_now()
        replaced = {"secret": row.secret, "until": (now + OLD_SECRET_LIVES).isoformat()}
        row.old_secrets = [replaced, *_alive(row.old_secrets, now)][:MOST_OLD_SECRETS]
        row.secret = new_secret()
        row.save(update_fields=["secret", "old_secrets"])
    return row.secret


def enable(*, endpoint: models.WebhookEndpoint) -> None:
    """Tell it of what happens from now on."""
    endpoint.disabled_at, endpoint.disabled_reason, endpoint.failing_since = None, "", None
    endpoint.save(update_fields=["disabled_at", "disabled_reason", "failing_since"])


def disable(*, endpoint: models.WebhookEndpoint, reason: str) -> bool:
    """Tell it of nothing any more, and give up what is pending; whether it was told of things until now."""
    with transaction.atomic():
        live = models.WebhookEndpoint.objects.filter(pk=endpoint.pk, disabled_at=None)
        if not live.update(disabled_at=functions.Now(), disabled_reason=reason):
            return False
        pending = models.WebhookDelivery.objects.filter(endpoint=endpoint, state=DeliveryState.PENDING)
        pending.update(state=DeliveryState.GIVEN_UP, next_at=None)
    return True


def send_test(*, endpoint: models.WebhookEndpoint) -> models.WebhookDelivery:
    """Have a message sent that means nothing."""
    with transaction.atomic():
        return _message_to([endpoint], TEST, {"endpoint": {"id": str(endpoint.pk)}})[0]


def replay(*, delivery: models.WebhookDelivery) -> bool:
    """Send a message once more, with a schedule of its own; of its order it goes first if it is older.

    Whether it will be: an endpoint that is disabled is told of nothing.
    """
    with transaction.atomic():
        if not _locked(delivery.endpoint_id, disabled_at=None):
            return False
        models.WebhookDelivery.objects.filter(pk=delivery.pk).update(
            state=DeliveryState.PENDING, attempts=0, next_at=functions.Now()
        )
    return True


def delete(*, endpoint: models.WebhookEndpoint) -> None:
    """Forget it, and its log."""
    with transaction.atomic():
        _locked(endpoint.pk)
        endpoint.delete()


def compose(*, limit: int = 500) -> int:
    """Make messages of what the outbox holds; how many events it was.

    One process at a time, because of two the second could have its message sent before the first has
    written an earlier one down.
    """
    with transaction.atomic():
        if not _try_lock("orders.webhooks.compose"):
            return 0
        waiting = models.Outbox.objects.order_by("event_id").values_list("event_id", flat=True)[:limit]
        ids = list(waiting.select_for_update(skip_locked=True))
        if ids:
            _compose(ids)
            models.Outbox.objects.filter(event_id__in=ids).delete()
    return len(ids)


def deliver() -> int:
    """Send a batch of what is due; how many messages it was.

    1. Claim them: the attempt is counted, and made again by another if it is not heard of in time.
    2. Send them, several at a time, with no transaction open.
    3. Write down what came of each, unless another has claimed it meanwhile.

    What goes wrong with one is no other's trouble: it is made again when its attempt is thought dead.
    """
    claimed = _claim()
    if claimed:
        with concurrent.futures.ThreadPoolExecutor(SENDERS) as pool:
            sent = {pool.submit(_send, delivery): delivery for delivery in claimed}
            for done in concurrent.futures.as_completed(sent):
                try:
                    _record(sent[done], done.result())
                except Exception:
                    logger.exception("webhook delivery %s could not be made", sent[done].pk)
    return len(claimed)


def run(*, seconds: float = 20) -> int:
    """Compose and deliver until nothing is due or the time is up; how many messages were sent.

    Leaves at once where nothing is to be done, or enough processes are at it already.
    """
    until = time.monotonic() + seconds
    ours = models.WebhookRun(run=uuid.uuid4())
    if not _anything_due() or not _take_slot(ours):
        return 0
    count = 0
    try:
        while time.monotonic() < until and _keep_slot(ours):
            composed, sent = compose(), deliver()
            count += sent
            if not composed and not sent:
                break
    finally:
        models.WebhookRun.objects.filter(slot=ours.slot, run=ours.run).delete()
    return count


def purge(*, older_than: datetime.timedelta, limit: int = 1_000) -> int:
    """Forget messages, with their log, that are older and no longer pending, so many at a time; how many."""
    old = models.WebhookMessage.objects.filter(created_at__lt=functions.Now() - older_than)
    pending = models.WebhookDelivery.objects.filter(message=OuterRef("pk"), state=DeliveryState.PENDING)
    with transaction.atomic():
        some = old.filter(~Exists(pending)).order_by("created_at").select_for_update(skip_locked=True)
        ids = list(some.values_list("pk", flat=True)[:limit])
        models.WebhookAttempt.objects.filter(delivery__message__in=ids).delete()
        models.WebhookDelivery.objects.filter(message__in=ids).delete()
        models.WebhookMessage.objects.filter(pk__in=ids).delete()
    return len(ids)


def sign(*, id_: str, sent_at: int, body: bytes, secret: str) -> str:
    """The signature, as Standard Webhooks says."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{id_}.{sent_at}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


def _alive(old_secrets: list[dict[str, str]], now: datetime.datetime) -> list[dict[str, str]]:
    return [old for old in old_secrets if datetime.datetime.fromisoformat(old["until"]) > now]


def _compose(ids: list[int]) -> None:
    events = saga_models.Event.objects.filter(pk__in=ids).select_related("saga__order").order_by("pk")
    owners = {event.saga.order.owner_id for event in events}
    # Locked, so that one which is being disabled is either not there or has these given up too.
    endpoints = models.WebhookEndpoint.objects.filter(owner__in=owners, disabled_at=None)
    endpoints = endpoints.order_by("pk").select_for_update(no_key=True)
    for event in events:
        order = event.saga.order
        type_ = _type_of(event)
        wanted = [one for one in endpoints if one.owner_id == order.owner_id and wants(one.types, type_)]
        if wanted:
            _message_to(wanted, type_, _data_of(event, order), order=order, event=event)


def _type_of(event: saga_models.Event) -> str:
    if event.subject:
        return STEP_TYPES[states.StepState(event.to_state)]
    if event.kind == models.CLOSING:
        return CLOSED
    return ORDER_TYPES[states.SagaState(event.to_state)]


def _data_of(event: saga_models.Event, order: models.Order) -> dict[str, Any]:
    """What a message says: taken from what does not change any more, so that it tells what was so then."""
    data: dict[str, Any] = {
        "order": {
            "id": str(order.pk),
            "number": order.number,
            "reference": order.reference,
            "total": {"amount": order.total_amount, "currency": order.currency},
        }
    }
    if event.subject:
        names = {"name": event.subject, "from": event.from_state or None, "status": event.to_state}
        data["step"] = names | {"attempt": event.attempt}
        if error := customer_messages.of_event(event):
            data["step"]["error"] = error
    else:
        data["order"]["status"] = models.status_after(event)
        if event.to_state in COMPENSATE or event.kind == models.CLOSING:
            # The first failure stays what it is, so it is what it was then (A2).
            data["order"]["failure"] = customer_messages.failure(event.saga.failure)
    return data


def _message_to(
    endpoints: list[models.WebhookEndpoint],
    type_: str,
    data: dict[str, Any],
    *,
    order: models.Order | None = None,
    event: saga_models.Event | None = None,
) -> list[models.WebhookDelivery]:
    at = event.at if event else saga_models.database_now()
    sequence = event.pk if event else None
    body = {"type": type_, "timestamp": at, "sequence": sequence, "data": data}
    message = models.WebhookMessage.objects.create(
        type=type_, order=order, sequence=sequence, body=wire.dumps(body).decode()
    )
    return models.WebhookDelivery.objects.bulk_create(
        models.WebhookDelivery(
            message=message, endpoint=endpoint, order=order, sequence=sequence, next_at=functions.Now()
        )
        for endpoint in endpoints
    )


def _claim() -> list[models.WebhookDelivery]:
    """Deliveries that are due, the merchants in turn and whoever waits longest first, now ours to send.

    A merchant may have many endpoints, and gets no more turns for them. What an earlier message of its order
    holds back is not due: one that is under way, or was not tried often enough (`HELD_FOR`) and is soon.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH due AS (
                SELECT d.id, p.owner_id, p.id AS endpoint_id, p.served_at,
                    row_number() OVER (PARTITION BY p.id ORDER BY d.next_at, d.id) AS n,
                    CASE WHEN p.failing_since IS NULL THEN %(most)s ELSE 1 END AS most
                FROM orders_webhookdelivery d JOIN orders_webhookendpoint p ON p.id = d.endpoint_id
                WHERE d.state = 'pending' AND d.next_at <= clock_timestamp() AND NOT EXISTS (
                    SELECT FROM orders_webhookdelivery e
                    WHERE e.endpoint_id = d.endpoint_id AND e.order_id = d.order_id
                    AND e.state = 'pending' AND e.sequence < d.sequence AND e.attempts <= %(held)s
                    AND e.next_at <= clock_timestamp() + make_interval(secs => %(lease)s)
                )
            ), turns AS (
                SELECT id, max(served_at) OVER (PARTITION BY owner_id) AS owner_served_at,
                    row_number() OVER (
                        PARTITION BY owner_id ORDER BY n, served_at NULLS FIRST, endpoint_id
                    ) AS turn
                FROM due WHERE n <= most
            ), ours AS (
                SELECT id FROM orders_webhookdelivery
                WHERE id IN (
                    SELECT id FROM turns ORDER BY turn, owner_served_at NULLS FIRST, id LIMIT %(batch)s
                )
                AND state = 'pending' AND next_at <= clock_timestamp()
                FOR UPDATE SKIP LOCKED
            )
            UPDATE orders_webhookdelivery
            SET attempts = attempts + 1, next_at = clock_timestamp() + make_interval(secs => %(lease)s)
            WHERE id IN (SELECT id FROM ours) RETURNING id, endpoint_id
            """,
            {"most": PER_ENDPOINT, "held": HELD_FOR, "lease": LEASE.total_seconds(), "batch": BATCH},
        )
        claimed = cursor.fetchall()
        ids, endpoints = [row[0] for row in claimed], {row[1] for row in claimed}
        # After the claim, not with it: endpoints are locked before their deliveries (I4). One that is locked
        # right now is passed over, and so gets its next turn early.
        cursor.execute(
            "UPDATE orders_webhookendpoint SET served_at = clock_timestamp() WHERE id IN ("
            " SELECT id FROM orders_webhookendpoint WHERE id = ANY(%s) FOR NO KEY UPDATE SKIP LOCKED)",
            [list(endpoints)],
        )
    return list(models.WebhookDelivery.objects.filter(pk__in=ids).select_related("message", "endpoint"))


def _send(delivery: models.WebhookDelivery) -> posting.Reply:
    """One attempt. Runs in a thread of its own, so it touches no database."""
    endpoint, message = delivery.endpoint, delivery.message
    now = int(time.time())
    body, id_ = message.body.encode(), str(message.pk)
    at = datetime.datetime.fromtimestamp(now, datetime.UTC)
    keys = [endpoint.secret, *(old["secret"] for old in _alive(endpoint.old_secrets, at))]
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "saga-orders-webhooks/1",
        "webhook-id": id_,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(sign(id_=id_, sent_at=now, body=body, secret=key) for key in keys),
    }
    return posting.post(endpoint.url, body=body, headers=headers)


def _record(delivery: models.WebhookDelivery, reply: posting.Reply) -> None:
    """Log the attempt, and decide what becomes of the delivery and of its endpoint."""
    endpoint = delivery.endpoint
    with transaction.atomic():
        if not _locked(endpoint.pk):
            return  # Its owner deleted it meanwhile, and its log with it.
        models.WebhookAttempt.objects.create(
            delivery=delivery,
            duration_ms=reply.duration_ms,
            status=reply.status,
            error=reply.error,
            response=reply.response,
        )
        ours = models.WebhookDelivery.objects.filter(
            pk=delivery.pk, attempts=delivery.attempts, state=DeliveryState.PENDING
        )
        if reply.ok:
            ours.update(state=DeliveryState.DELIVERED, delivered_at=functions.Now(), next_at=None)
            models.WebhookEndpoint.objects.filter(pk=endpoint.pk).exclude(failing_since=None).update(
                failing_since=None
            )
            return
        models.WebhookEndpoint.objects.filter(pk=endpoint.pk, failing_since=None).update(
            failing_since=functions.Now()
        )
        if delivery.attempts > len(PAUSES):
            ours.update(state=DeliveryState.GIVEN_UP, next_at=None)
        else:
            ours.update(next_at=functions.Now() + _pause(delivery.attempts, reply))
        reason = _why_to_disable(endpoint, reply)
        if reason and disable(endpoint=endpoint, reason=reason):
            _tell_of_disabling(endpoint, reason)


def _pause(attempts: int, reply: posting.Reply) -> datetime.timedelta:
    """Jittered, and no shorter than the receiver asks for, within reason."""
    pause = PAUSES[attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
    asked = datetime.timedelta(seconds=min(reply.retry_after_s or 0, 24 * 60 * 60))
    return max(pause, asked)


def _why_to_disable(endpoint: models.WebhookEndpoint, reply: posting.Reply) -> str:
    """Gone means gone; otherwise it has had so long with nothing but failures."""
    if reply.status == 410:
        return "It answered 410 Gone."
    patience = settings.WEBHOOKS_DISABLE_AFTER
    tired = models.WebhookEndpoint.objects.filter(
        pk=endpoint.pk, failing_since__lte=functions.Now() - patience
    )
    since = tired.values_list("failing_since", flat=True).first()
    return f"Every attempt since {since:%Y-%m-%d %H:%M} UTC failed." if since else ""


def _tell_of_disabling(endpoint: models.WebhookEndpoint, reason: str) -> None:
    """Notice to the owner: by its other endpoints, and by mail."""
    logger.error("webhook endpoint %s of %s is disabled: %s", endpoint.pk, endpoint.owner_id, reason)
    others = models.WebhookEndpoint.objects.filter(owner=endpoint.owner_id, disabled_at=None)
    wanted = [other for other in others if wants(other.types, DISABLED)]
    if wanted:
        data = {"endpoint": {"id": str(endpoint.pk), "url": endpoint.url, "reason": reason}}
        _message_to(wanted, DISABLED, data)
    owner = auth.User.objects.get(pk=endpoint.owner_id)
    if owner.email:
        transaction.on_commit(
            lambda: mail.send_mail(
                "Your webhook endpoint was disabled",
                f"{endpoint.url} is told of nothing any more. {reason}\n\n"
                'Enable it again when it is well: PATCH its address with {"enabled": true}.\n',
                None,
                [owner.email],
            ),
            robust=True,
        )


def _locked(endpoint_id: uuid.UUID, **like: Any) -> bool:
    """Whether there is such an endpoint, which is now ours to change: first it, then its deliveries (I4)."""
    rows = models.WebhookEndpoint.objects.filter(pk=endpoint_id, **like)
    return rows.select_for_update(no_key=True).first() is not None


def _anything_due() -> bool:
    """Whether there is something to compose or to send: all that a second without any costs."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM orders_outbox) OR EXISTS (SELECT FROM orders_webhookdelivery"
            " WHERE state = 'pending' AND next_at <= statement_timestamp())"
        )
        row = cursor.fetchone()
    return bool(row and row[0])


def _take_slot(ours: models.WebhookRun) -> bool:
    """Whether one of the few slots is ours now, until its lease is over.

    A lease, because a lock that outlives its transaction belongs to a session, and behind a pooler that
    shares connections between transactions the session is anybody's.
    """
    for ours.slot in range(RUNS):
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO orders_webhookrun AS held (slot, run, until)"
                " VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s)) ON CONFLICT (slot) DO UPDATE"
                " SET run = excluded.run, until = excluded.until WHERE held.until < clock_timestamp()",
                [ours.slot, ours.run, LEASE.total_seconds()],
            )
            if cursor.rowcount:
                return True
    return False


def _keep_slot(ours: models.WebhookRun) -> bool:
    """Whether the slot is still ours; if so it stays ours for another lease, longer than a batch takes."""
    held = models.WebhookRun.objects.filter(slot=ours.slot, run=ours.run)
    return bool(held.update(until=saga_models.ClockTimestamp() + LEASE))


def _try_lock(name: str) -> bool:
    """Whether nobody else has this lock, which is now ours until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [name])
        row = cursor.fetchone()
    return bool(row and row[0])
