"""Making messages of what the outbox holds, with a delivery for each endpoint that wants one."""

import uuid
from collections.abc import Collection, Iterable
from typing import Any

from django.db import connection, transaction
from django.db.models import functions

import strictjson
from orders import models as orders
from orders import payloads
from sagas import engine
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


def compose(*, limit: int = 500) -> int:
    """Make messages of what the outbox holds; how many events it was.

    One process at a time, because of two the second could have its message sent before the first has
    written an earlier one down.
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


def add(
    endpoints: list[models.Endpoint],
    type_: str,
    data: dict[str, Any],
    *,
    order: orders.Order | None = None,
    event: saga_models.Event | None = None,
) -> list[models.Delivery]:
    """A message for these endpoints, due now; of an event of an order it has the event's time and place."""
    at = event.at if event else saga_models.database_now()
    sequence = event.pk if event else None
    body = {"type": type_, "timestamp": at, "sequence": sequence, "data": data}
    message = models.Message.objects.create(
        type=type_, order=order, sequence=sequence, body=strictjson.dumps(body).decode()
    )
    return models.Delivery.objects.bulk_create(
        models.Delivery(
            message=message, endpoint=endpoint, order=order, sequence=sequence, next_at=functions.Now()
        )
        for endpoint in endpoints
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


def _compose(ids: list[int]) -> None:
    events = saga_models.Event.objects.filter(pk__in=ids).select_related("saga__order").order_by("pk")
    owners = {event.saga.order.owner_id for event in events}
    # Locked, so that one which is being disabled is either not there or has these given up too.
    endpoints = models.Endpoint.objects.filter(owner__in=owners, disabled_at=None)
    endpoints = endpoints.order_by("pk").select_for_update(no_key=True)
    for event in events:
        order = event.saga.order
        type_ = payloads.type_of(event)
        wanted = [one for one in endpoints if one.owner_id == order.owner_id and wants(one.types, type_)]
        if wanted:
            add(wanted, type_, payloads.data_of(event, order), order=order, event=event)


def _try_lock(name: str) -> bool:
    """Whether nobody else has this lock, which is now ours until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [name])
        row = cursor.fetchone()
    return bool(row and row[0])
