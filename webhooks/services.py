"""What merchants do with their endpoints, and what becomes of these."""

import datetime
import uuid
from typing import Any

from django.contrib.auth import models as auth
from django.db import transaction
from django.db.models import Exists, OuterRef, functions

from sagas import models as saga_models
from webhooks import errors, messages, models, signing
from webhooks.models import DeliveryState

OLD_SECRET_LIVES = datetime.timedelta(hours=24)
MOST_OLD_SECRETS = 4
"""Each is one more signature in the headers of every message."""

MOST_ENDPOINTS = 16


def create(
    *, owner: auth.User, url: str, types: list[str], description: str = "", secret: str = ""
) -> models.Endpoint:
    """Tell a merchant there, from now on; with a new secret, unless one is given.

    Raises:
        TooMany: the merchant has as many as there may be.
    """
    with transaction.atomic():
        # Lock the owner, then count (D7).
        auth.User.objects.select_for_update(no_key=True).get(pk=owner.pk)
        if models.Endpoint.objects.filter(owner=owner).count() >= MOST_ENDPOINTS:
            raise errors.TooMany
        return models.Endpoint.objects.create(
            owner=owner,
            url=url,
            types=types,
            description=description,
            secret=secret or signing.new_secret(),
        )


def rotate(*, endpoint: models.Endpoint) -> str:
    """A new secret; for a day every message is signed with the one that it replaces too.

    So of two that ask at once each gets a secret that counts; and whoever asks again, because the answer was
    lost, has not broken the one that is in use.

    Raises:
        Endpoint.DoesNotExist: it was deleted meanwhile.
    """
    with transaction.atomic():
        row = models.Endpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
        now = saga_models.database_now()
        replaced = {"secret": row.secret, "until": (now + OLD_SECRET_LIVES).isoformat()}
        row.old_secrets = [replaced, *signing.unexpired(row.old_secrets, now)][:MOST_OLD_SECRETS]
        row.secret = signing.new_secret()
        row.save(update_fields=["secret", "old_secrets"])
    return row.secret


def enable(*, endpoint: models.Endpoint) -> None:
    """Tell it of what happens from now on."""
    endpoint.disabled_at, endpoint.disabled_reason, endpoint.failing_since = None, "", None
    endpoint.save(update_fields=["disabled_at", "disabled_reason", "failing_since"])


def disable(*, endpoint: models.Endpoint, reason: str) -> bool:
    """Tell it of nothing any more, and give up what is pending; whether it was told of things until now."""
    with transaction.atomic():
        live = models.Endpoint.objects.filter(pk=endpoint.pk, disabled_at=None)
        if not live.update(disabled_at=functions.Now(), disabled_reason=reason):
            return False
        pending = models.Delivery.objects.filter(endpoint=endpoint, state=DeliveryState.PENDING)
        pending.update(state=DeliveryState.GIVEN_UP, next_at=None)
    return True


def send_test(*, endpoint: models.Endpoint) -> models.Delivery:
    """Have a message sent that means nothing."""
    with transaction.atomic():
        return messages.add([endpoint], messages.TEST, {"endpoint": {"id": str(endpoint.pk)}})[0]


def replay(*, delivery: models.Delivery) -> bool:
    """Send a message once more, with a schedule of its own; of its order it goes first if it is older.

    Whether it will be: an endpoint that is disabled is told of nothing.
    """
    with transaction.atomic():
        if not lock(delivery.endpoint_id, disabled_at=None):
            return False
        models.Delivery.objects.filter(pk=delivery.pk).update(
            state=DeliveryState.PENDING, attempts=0, next_at=functions.Now()
        )
    return True


def replay_failed(*, endpoint: models.Endpoint, since: datetime.datetime) -> int | None:
    """Send once more, at once, what was made since then and was not delivered though it was tried; how many.

    That is what was given up, and what failed and waits for its next attempt. None where the endpoint is
    disabled, which is told of nothing.
    """
    with transaction.atomic():
        if not lock(endpoint.pk, disabled_at=None):
            return None
        rows = models.Delivery.objects.filter(endpoint=endpoint, message__created_at__gte=since)
        failed = Exists(models.Attempt.objects.filter(delivery=OuterRef("pk")))
        again: dict[str, Any] = {"state": DeliveryState.PENDING, "attempts": 0, "next_at": functions.Now()}
        # Not with one statement: each of the two has its index.
        return rows.filter(failed, state=DeliveryState.PENDING).update(**again) + rows.filter(
            state=DeliveryState.GIVEN_UP
        ).update(**again)


def delete(*, endpoint: models.Endpoint) -> None:
    """Forget it, and its log."""
    with transaction.atomic():
        lock(endpoint.pk)
        endpoint.delete()


def lock(endpoint_id: uuid.UUID, **like: Any) -> bool:
    """Whether there is such an endpoint, which is now ours to change: first it, then its deliveries (I4)."""
    rows = models.Endpoint.objects.filter(pk=endpoint_id, **like)
    return rows.select_for_update(no_key=True).first() is not None
