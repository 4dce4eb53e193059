"""Telling merchants of their orders, by the Standard Webhooks scheme.

1. A trigger puts a saga's event into the outbox in the event's own transaction, if its order's owner is a
   merchant or has an endpoint: nothing that happened goes untold, and nothing is told that was rolled back.
2. `messages.compose` makes a message of it, word for word, which stands in the owner's event log, and a
   delivery for each endpoint that wants it.
3. `deliver` sends what is due: at least once, each time with the same id, the merchants in turn. Of one order
   in order, as long as the endpoint is well: a message waits for the one before it, but not for long.
"""

import concurrent.futures
import datetime
import logging
import random
import time
import uuid

from django.conf import settings
from django.contrib.auth import models as auth
from django.core import mail
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, functions

from sagas import models as saga_models
from webhooks import messages, models, sender, services, signing
from webhooks.models import DeliveryState

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
LEASE = datetime.timedelta(seconds=BATCH / SENDERS * sender.TIMEOUT_S + 30)
"""How long an attempt may be under way before it is thought dead and made again."""

RUNS = 4
"""How many processes may deliver at the same time."""


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
    ours = models.Run(run=uuid.uuid4())
    if not _anything_due() or not _take_slot(ours):
        return 0
    count = 0
    try:
        while time.monotonic() < until and _keep_slot(ours):
            composed, sent = messages.compose(), deliver()
            count += sent
            if not composed and not sent:
                break
    finally:
        models.Run.objects.filter(slot=ours.slot, run=ours.run).delete()
    return count


def purge(*, older_than: datetime.timedelta, limit: int = 1_000) -> int:
    """Forget messages, with their log, that are older and no longer pending, so many at a time; how many."""
    old = models.Message.objects.filter(created_at__lt=functions.Now() - older_than)
    pending = models.Delivery.objects.filter(message=OuterRef("pk"), state=DeliveryState.PENDING)
    with transaction.atomic():
        some = old.filter(~Exists(pending)).order_by("created_at").select_for_update(skip_locked=True)
        ids = list(some.values_list("pk", flat=True)[:limit])
        models.Attempt.objects.filter(delivery__message__in=ids).delete()
        models.Delivery.objects.filter(message__in=ids).delete()
        models.Message.objects.filter(pk__in=ids).delete()
    return len(ids)


def _claim() -> list[models.Delivery]:
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
                FROM webhooks_delivery d JOIN webhooks_endpoint p ON p.id = d.endpoint_id
                WHERE d.state = 'pending' AND d.next_at <= clock_timestamp() AND NOT EXISTS (
                    SELECT FROM webhooks_delivery e
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
                SELECT id FROM webhooks_delivery
                WHERE id IN (
                    SELECT id FROM turns ORDER BY turn, owner_served_at NULLS FIRST, id LIMIT %(batch)s
                )
                AND state = 'pending' AND next_at <= clock_timestamp()
                FOR UPDATE SKIP LOCKED
            )
            UPDATE webhooks_delivery
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
            "UPDATE webhooks_endpoint SET served_at = clock_timestamp() WHERE id IN ("
            " SELECT id FROM webhooks_endpoint WHERE id = ANY(%s) FOR NO KEY UPDATE SKIP LOCKED)",
            [list(endpoints)],
        )
    return list(models.Delivery.objects.filter(pk__in=ids).select_related("message", "endpoint"))


def _send(delivery: models.Delivery) -> sender.Reply:
    """One attempt. Runs in a thread of its own, so it touches no database."""
    endpoint, message = delivery.endpoint, delivery.message
    now = int(time.time())
    body, id_ = message.body.encode(), str(message.pk)
    at = datetime.datetime.fromtimestamp(now, datetime.UTC)
    keys = [endpoint.secret, *(old["secret"] for old in signing.unexpired(endpoint.old_secrets, at))]
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "saga-orders-webhooks/1",
        "webhook-id": id_,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(
            signing.sign(id_=id_, sent_at=now, body=body, secret=key) for key in keys
        ),
    }
    return sender.post(endpoint.url, body=body, headers=headers)


def _record(delivery: models.Delivery, reply: sender.Reply) -> None:
    """Log the attempt, and decide what becomes of the delivery and of its endpoint."""
    endpoint = delivery.endpoint
    with transaction.atomic():
        if not services.lock(endpoint.pk):
            return  # Its owner deleted it meanwhile, and its log with it.
        models.Attempt.objects.create(
            delivery=delivery,
            duration_ms=reply.duration_ms,
            status=reply.status,
            error=reply.error,
            response=reply.response,
        )
        ours = models.Delivery.objects.filter(
            pk=delivery.pk, attempts=delivery.attempts, state=DeliveryState.PENDING
        )
        if reply.ok:
            ours.update(state=DeliveryState.DELIVERED, delivered_at=functions.Now(), next_at=None)
            models.Endpoint.objects.filter(pk=endpoint.pk).exclude(failing_since=None).update(
                failing_since=None
            )
            return
        models.Endpoint.objects.filter(pk=endpoint.pk, failing_since=None).update(
            failing_since=functions.Now()
        )
        if delivery.attempts > len(PAUSES):
            ours.update(state=DeliveryState.GIVEN_UP, next_at=None)
        else:
            ours.update(next_at=functions.Now() + _pause(delivery.attempts, reply))
        reason = _why_to_disable(endpoint, reply)
        if reason and services.disable(endpoint=endpoint, reason=reason):
            _tell_of_disabling(endpoint, reason)


def _pause(attempts: int, reply: sender.Reply) -> datetime.timedelta:
    """Jittered, and no shorter than the receiver asks for, within reason."""
    pause = PAUSES[attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
    asked = datetime.timedelta(seconds=min(reply.retry_after_s or 0, 24 * 60 * 60))
    return max(pause, asked)


def _why_to_disable(endpoint: models.Endpoint, reply: sender.Reply) -> str:
    """Gone means gone; otherwise it has had so long with nothing but failures."""
    if reply.status == 410:
        return "It answered 410 Gone."
    patience = settings.WEBHOOKS_DISABLE_AFTER
    tired = models.Endpoint.objects.filter(pk=endpoint.pk, failing_since__lte=functions.Now() - patience)
    since = tired.values_list("failing_since", flat=True).first()
    return f"Every attempt since {since:%Y-%m-%d %H:%M} UTC failed." if since else ""


def _tell_of_disabling(endpoint: models.Endpoint, reason: str) -> None:
    """Notice to the owner: by its other endpoints, and by mail."""
    logger.error("webhook endpoint %s of %s is disabled: %s", endpoint.pk, endpoint.owner_id, reason)
    others = models.Endpoint.objects.filter(owner=endpoint.owner_id, disabled_at=None)
    wanted = [other for other in others if messages.wants(other.types, messages.DISABLED)]
    if wanted:
        data = {"endpoint": {"id": str(endpoint.pk), "url": endpoint.url, "reason": reason}}
        messages.add(wanted, messages.DISABLED, data)
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


def _anything_due() -> bool:
    """Whether there is something to compose or to send: all that a second without any costs."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM webhooks_outbox) OR EXISTS (SELECT FROM webhooks_delivery"
            " WHERE state = 'pending' AND next_at <= statement_timestamp())"
        )
        row = cursor.fetchone()
    return bool(row and row[0])


def _take_slot(ours: models.Run) -> bool:
    """Whether one of the few slots is ours now, until its lease is over.

    A lease, because a lock that outlives its transaction belongs to a session, and behind a pooler that
    shares connections between transactions the session is anybody's.
    """
    for ours.slot in range(RUNS):
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO webhooks_run AS held (slot, run, until)"
                " VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s)) ON CONFLICT (slot) DO UPDATE"
                " SET run = excluded.run, until = excluded.until WHERE held.until < clock_timestamp()",
                [ours.slot, ours.run, LEASE.total_seconds()],
            )
            if cursor.rowcount:
                return True
    return False


def _keep_slot(ours: models.Run) -> bool:
    """Whether the slot is still ours; if so it stays ours for another lease, longer than a batch takes."""
    held = models.Run.objects.filter(slot=ours.slot, run=ours.run)
    return bool(held.update(until=saga_models.ClockTimestamp() + LEASE))
