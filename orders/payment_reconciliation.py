"""Payments that land after their order was turned back, and of which the bank's callback never came (M3)."""

import logging

from django.db import transaction

from orders import callbacks
from payments import services as payments

logger = logging.getLogger(__name__)

MOST = 200
"""How many charges are asked about in one go, so that a worker of the payments' queue is soon free again."""


def run() -> None:
    """Ask the bank about charges that were given up unpaid; what it says counts as if it had told us.

    A bank that cannot be asked is left in peace; each charge's turn comes again.
    """
    for _ in range(MOST):
        key = payments.abandoned()
        if key is None:
            return
        try:
            found = payments.inquire(key=key)
        except (payments.Unavailable, payments.Unknown, payments.AccessDenied) as error:
            logger.warning("could not ask whether %s was paid after all: %s", key, error)
            return
        if found is not None:
            _take(found)


def _take(found: payments.Callback) -> None:
    with transaction.atomic():
        believed = payments.record_callback(callback=found)
        if believed.facts["paid"] or believed.mismatch:
            logger.warning("%s was paid after all, and the bank's callback did not come", found.key)
            callbacks.pass_on(believed, sender=callbacks.BANK)
