"""Making messages of what the outbox holds: the event log, and what each endpoint is told of it."""

import datetime
import uuid
from collections.abc import Collection, Iterable
from typing import Any

from django.contrib.auth import models as auth
from django.db import connection, transaction
from django.db.models import BigIntegerField, Func, Q, QuerySet, functions

from orders import models as orders
from orders import payloads
from sagas import engine, strictjson
from sagas import models as saga_models
from webhooks import models

DISABLED = "endpoint.disabled"
TEST = "endpoint.test"
TYPES = [*payloads.TYPES, DISABLED]
WISHES = [*TYPES, "order.*", "saga.step.*", "endpoint.*"]
"""What an endpoint may ask for."""

assert len(set(TYPES)) == len(TYPES), "two things are told under one type"


def wants(types: Iterable[str], type_: str) -> bool:
    """Whether somebody who asked for `types` wants to be told of this one."""
    return any(wish == type_ or (wish.endswith(".*") and type_.startswith(wish[:-1])) for wish in types)


COMPOSING = datetime.timedelta(minutes=10)
"""Longer than any transaction that composes: what is older by so much than another stands before it."""


def logged(
    owner: auth.User,
    *,
    after: int,
    since: datetime.datetime | None = None,
    wishes: Collection[str] = (),
) -> QuerySet[models.Message]:
    """What stands in a user's event log, oldest first.

    Arguments:
        owner: whose.
        after: the position behind which it stands.
        since: only what was written down at this time or later.
        wishes: only these types, if any are named.
    """
    rows = models.Message.objects.filter(owner=owner, position__gt=after).order_by("position")
    if since is not None:
        # Anybody's message that is older says where to begin: a long log need not be read up to there.
        older = models.Message.objects.filter(position__isnull=False, created_at__lt=since - COMPOSING)
        before = older.order_by("-created_at").values_list("position", flat=True).first() or 0
        rows = rows.filter(created_at__gte=since, position__gt=before)
    wanted = Q()
    for wish in wishes:
        wanted |= Q(type__startswith=wish[:-1]) if wish.endswith(".*") else Q(type=wish)
    return rows.filter(wanted)


def compose(*, limit: int = 500) -> int:
    """Make messages of what the outbox holds; how many events it was.

    One process at a time, because of two the second could have its message sent, or read in a log, before the
    first has written an earlier one down.
    """
    with transaction.atomic():
        if not _try_lock("webhooks.compose"):
            return 0
        waiting = models.Outbox.objects.order_by("event_id").values_list("event_id", flat=True)[:limit]
        ids = list(waiting.select_for_update(skip_locked=True))
        if ids:
            _compose(ids)
            models.Outbox.objects.filter(event_id__in=ids).delete()
    return len(ids)


def untold(saga_ids: Collection[uuid.UUID]) -> Iterable[uuid.UUID]:
    """Those of these sagas of which an event waits in the outbox."""
    waiting = models.Outbox.objects.values("event_id")
    events = saga_models.Event.objects.filter(saga_id__in=saga_ids, pk__in=waiting)
    return events.values_list("saga_id", flat=True)


def add(endpoints: list[models.Endpoint], type_: str, data: dict[str, Any]) -> list[models.Delivery]:
    """A message for these endpoints that is about no order, due now."""
    body = {"type": type_, "timestamp": saga_models.database_now(), "sequence": None, "data": data}
    message = models.Message.objects.create(type=type_, body=strictjson.dumps(body).decode())
    return models.Delivery.objects.bulk_create(
        models.Delivery(message=message, endpoint=endpoint, next_at=functions.Now()) for endpoint in endpoints
    )


def strike(order: orders.Order, values: engine.Values) -> None:
    """Strike what names a person out of what was told of an order, and out of what came back.

    A message that is still to be sent, or is sent again, goes out without it, with the same id.
    """
    for message in models.Message.objects.select_for_update().filter(order=order):
        body = strictjson.loads(message.body)
        if (kept := values.struck(body)) != body:
            message.body = strictjson.dumps(kept).decode()
            message.save(update_fields=["body"])
    attempts = models.Attempt.objects.filter(delivery__message__order=order)
    engine.strike_columns(attempts, ["error", "response"], values)


class _Next(Func):
    """The next position in the event logs."""

    template = "nextval('webhooks_message_position')"
    output_field = BigIntegerField()


def _compose(ids: list[int]) -> None:
    """A message of each event, for the log of its order's owner, and for whoever wants to be told of it."""
    events = saga_models.Event.objects.filter(pk__in=ids).select_related("saga__order").order_by("pk")
    owners = {event.saga.order.owner_id for event in events}
    # Locked, so that one which is being disabled is either not there or has these given up too.
    endpoints = models.Endpoint.objects.filter(owner__in=owners, disabled_at=None)
    endpoints = endpoints.order_by("pk").select_for_update(no_key=True)
    made, wanted = [], []
    for event in events:
        order = event.saga.order
        type_ = payloads.type_of(event)
        body = {
            "type": type_,
            "timestamp": event.at,
            "sequence": event.pk,
            "data": payloads.data_of(event, order),
        }
        made.append(
            models.Message(
                type=type_,
                order=order,
                sequence=event.pk,
                owner_id=order.owner_id,
                position=_Next(),
                body=strictjson.dumps(body).decode(),
            )
        )
        wanted += [
            models.Delivery(
                message=made[-1], endpoint=one, order=order, sequence=event.pk, next_at=functions.Now()
            )
            for one in endpoints
            if one.owner_id == order.owner_id and wants(one.types, type_)
        ]
    models.Message.objects.bulk_create(made)
    models.Delivery.objects.bulk_create(wanted)


def _try_lock(name: str) -> bool:
    """Whether nobody else has this lock, which is now ours until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [name])
        row = cursor.fetchone()
    return bool(row and row[0])
