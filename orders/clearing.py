"""Forgetting what has outlived its use, a batch at a time."""

import logging

from django.conf import settings
from django.db.models import functions

from orders import idempotency, models, throttling, webhooks

logger = logging.getLogger(__name__)


def run() -> None:
    """Expired keys, old messages with their logs, allowances at rest, and those who followed and died."""
    keys = idempotency.purge()
    messages = webhooks.purge(older_than=settings.WEBHOOKS_LOG_LIVES)
    throttling.purge()
    models.Follower.objects.filter(until__lt=functions.Now()).delete()
    logger.info("cleared up %s idempotency keys and %s rows of old webhooks", keys, messages)
