"""A provider's verified callback, on its way to its service and to the saga that it is about."""

import dataclasses
import types
from typing import Any

from django.db import transaction

from invoicing import services as invoicing
from orders import selectors
from payments import services as payments
from sagas import engine
from shipping import services as shipping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sender:
    """A provider that reports by itself, and the service that knows its signature."""

    source: str
    """What the saga's inbox calls it; a name that is for ever, for events are told apart by it."""

    service: types.ModuleType
    """With `read_callback` and `record_callback`."""

    @property
    def queue(self) -> str:
        """The queue of the steps that it may speak of: of another service's it has nothing to say."""
        return self.service.__name__.partition(".")[0]


BANK = Sender(source="payments", service=payments)
CARRIER = Sender(source="carrier", service=shipping)


def record(callback: Any, *, sender: Sender) -> None:
    """Have the service and the saga's inbox learn of it, in one transaction; twice is once.

    The service holds it against what was asked. What differs from that is kept as such, and a person is
    called.
    """
    with transaction.atomic():
        believed = sender.service.record_callback(callback=callback)
        if sender is CARRIER:
            _goods_may_have_left(believed)
        pass_on(believed, sender=sender)


def pass_on(callback: Any, *, sender: Sender) -> None:
    """Put what the service has written down into the saga's inbox, in the caller's transaction."""
    engine.receive(
        source=sender.source,
        event_id=callback.event_id,
        key=callback.key,
        facts=callback.facts,
        refused=callback.refused,
        kind=callback.kind,
        mismatch=callback.mismatch,
        queue=sender.queue,
    )


def _goods_may_have_left(callback: shipping.Callback) -> None:
    """Once the goods have left, the law has another way to undo their invoice."""
    if callback.kind == "shipment.handed_over" and not callback.mismatch:
        access_key = selectors.access_key(callback.key)
        if access_key is not None:
            invoicing.goods_left(access_key=access_key)
