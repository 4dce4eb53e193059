"""One statement each. What names an order carries its fate: one that ends in `-refused` is not shipped."""

import time

from django.db.models import F

from benchmarks.shop import models


class Refused(Exception):
    """The carrier does not go there."""


def charge(*, key: str, order: str) -> None:
    """Take the money."""
    models.Payment(key=key, amount=100).save(force_insert=True)


def refund(*, key: str) -> None:
    """Give it back."""
    models.Payment.objects.filter(key=key).update(refunded=True)


def reserve(*, key: str, order: str) -> None:
    """Take one from the shelf."""
    models.Stock.objects.filter(sku=_shelf(order), available__gt=0).update(available=F("available") - 1)


def release(*, key: str) -> None:
    """Put one back. Any shelf will do: the statement costs the same."""
    models.Stock.objects.filter(sku=_shelf(key)).update(available=F("available") + 1)


def issue(*, key: str, order: str) -> None:
    """Write an invoice."""
    models.Invoice(key=key).save(force_insert=True)


def cancel(*, key: str) -> None:
    """Cancel it."""
    models.Invoice.objects.filter(key=key).update(cancelled=True)


def dispatch(*, key: str, order: str) -> None:
    """Send the goods, unless the carrier refuses."""
    if order.endswith("-refused"):
        raise Refused(order)
    models.Shipment(key=key).save(force_insert=True)


def recall(*, key: str) -> None:
    """Call them back."""
    models.Shipment.objects.filter(key=key).delete()


def _shelf(word: str) -> int:
    return sum(word.encode()) % 100


SLOW_S = 0.2


def wait(*, key: str) -> None:
    """Take as long as a provider does."""
    time.sleep(SLOW_S)


def leave(*, key: str) -> None:
    """Nothing was made of it."""
