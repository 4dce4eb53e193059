"""The carrier, behind the few calls that this service needs. The settings choose who makes them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, cast

from django.conf import settings
from django.utils import module_loading

from providers import callbacks, client, reading
from shipping import errors
from shipping.models import Status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parcel:
    """A shipment as the carrier has it."""

    status: Status
    tracking: str
    key: str = ""
    reference: str = ""
    """The access key of the invoice that travels with the goods."""
    parcels: int | None = None
    """As with the other two: empty, or None, where the carrier does not say."""


MOST_PARCELS = 32767
"""What the column for them holds."""


class Gateway(Protocol):
    """What a carrier must be able to do. Each may raise Refused, Unavailable, Unknown or AccessDenied.

    What it answers is what the carrier said, as it is: the service holds it against what was asked.
    """

    def book(self, *, key: str, postal_code: str, reference: str, parcels: int) -> Parcel:
        """Have the goods fetched and brought; with a key already used, say what that came to."""

    def recall(self, *, key: str) -> Parcel:
        """Withdraw the booking, or have the parcel brought back; forbid it, if there is none."""

    def ask(self, *, key: str) -> Parcel | None:
        """The shipment with that key; None if the carrier has none."""


class HttpGateway:
    """The carrier over HTTP, as docs/services.md describes it."""

    def __init__(self) -> None:
        self._provider = client.Provider(
            url=settings.SHIPPING_URL,
            refused=errors.Refused,
            unavailable=errors.Unavailable,
            unknown=errors.Unknown,
            denied=errors.AccessDenied,
        )

    def book(self, *, key: str, postal_code: str, reference: str, parcels: int) -> Parcel:
        """Have the goods fetched and brought; with a key already used, say what that came to."""
        order = {"postal_code": postal_code, "reference": reference, "parcels": parcels}
        return _parcel(self._provider.call("PUT", "shipments", key, json=order))

    def recall(self, *, key: str) -> Parcel:
        """Withdraw the booking, or have the parcel brought back; forbid it, if there is none."""
        return _parcel(self._provider.call("POST", "shipments", key, "recall", json={}))

    def ask(self, *, key: str) -> Parcel | None:
        """The shipment with that key; None if the carrier has none."""
        found = self._provider.find("shipments", key)
        return None if found is None else _parcel(found)


def chosen() -> Gateway:
    """The gateway that the settings name."""
    return cast(Gateway, module_loading.import_string(settings.SHIPPING_GATEWAY)())


def read(data: Mapping[str, Any], *, status: str | None = None) -> Parcel:
    """A shipment, from what the carrier says of it.

    Arguments:
        data: what the carrier says.
        status: instead of the one in `data`.

    Raises:
        Unclear: it makes no sense, or is more than a row can keep.
    """
    status = reading.text(data, "status", longest=16) if status is None else status
    if status not in Status.values:
        raise reading.Unclear(f"status must be {', '.join(Status.values)}")
    return Parcel(
        status=Status(status),
        tracking=reading.text(data, "tracking", longest=64),
        key=reading.text(data, "key", longest=callbacks.KEY_LENGTH),
        reference=reading.text(data, "reference", longest=64),
        parcels=reading.whole(data, "parcels", most=MOST_PARCELS)
        if data.get("parcels") is not None
        else None,
    )


def _parcel(answer: Mapping[str, Any]) -> Parcel:
    try:
        return read(answer)
    except reading.Unclear as error:
        # It may have been booked; what it came to must be asked again (U1).
        raise errors.Unknown(f"The carrier's answer cannot be understood: {error}.") from error
