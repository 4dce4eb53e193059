"""The bank, behind the few words that this room needs. Settings choose who speaks them."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, Protocol, cast

from django.conf import settings
from django.utils import module_loading

from payments import errors, models
from providers import client


@dataclasses.dataclass(frozen=True, kw_only=True)
class Charge:
    """A charge as the bank has it."""

    status: models.Status
    method: str
    amount: int
    currency: str
    captured: int
    refunded: int
    ref: str
    pix_copy_paste: str = ""
    pix_expires_at: datetime.datetime | None = None

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing of it is left to undo."""
        return self.status in models.AT_REST and self.captured == self.refunded


class Gateway(Protocol):
    """What a bank must be able to do. Each may raise Refused, Unavailable or Unknown."""

    def charge_card(self, *, key: str, token: str, amount: int, currency: str) -> Charge:
        """Take the amount from a card; with a key already used, say what that came to."""

    def charge_pix(self, *, key: str, amount: int, currency: str, lifetime: datetime.timedelta) -> Charge:
        """Create a charge that somebody pays later; with a key already used, say what that came to."""

    def refund(self, *, key: str, operation: str) -> Charge:
        """Give back, withdraw or forbid, whichever is right; once per `operation`."""

    def ask(self, *, key: str) -> Charge | None:
        """The charge with that key; None if the bank has none."""


class HttpGateway:
    """The bank over HTTP, as docs/services.md describes it."""

    def __init__(self) -> None:
        self._provider = client.Provider(
            url=settings.PAYMENTS_URL,
            refused=errors.Refused,
            unavailable=errors.Unavailable,
            unknown=errors.Unknown,
        )

    def charge_card(self, *, key: str, token: str, amount: int, currency: str) -> Charge:
        """Take the amount from a card; with a key already used, say what that came to."""
        order = {"method": "card", "token": token, "amount": amount, "currency": currency}
        return _charge(self._provider.call("PUT", "charges", key, json=order))

    def charge_pix(self, *, key: str, amount: int, currency: str, lifetime: datetime.timedelta) -> Charge:
        """Create a charge that somebody pays later; with a key already used, say what that came to."""
        order = {
            "method": "pix",
            "amount": amount,
            "currency": currency,
            "expires_in_s": int(lifetime.total_seconds()),
        }
        return _charge(self._provider.call("PUT", "charges", key, json=order))

    def refund(self, *, key: str, operation: str) -> Charge:
        """Give back, withdraw or forbid, whichever is right; once per `operation`."""
        once = {"Idempotency-Key": operation}
        return _charge(self._provider.call("POST", "charges", key, "refund", json={}, headers=once))

    def ask(self, *, key: str) -> Charge | None:
        """The charge with that key; None if the bank has none."""
        found = self._provider.find("charges", key)
        return None if found is None else _charge(found)


def chosen() -> Gateway:
    """The gateway that the settings name."""
    return cast(Gateway, module_loading.import_string(settings.PAYMENTS_GATEWAY)())


def read(data: Mapping[str, Any]) -> Charge:
    """A charge in the bank's own words.

    Raises:
        ValueError: they make no sense.
    """
    try:
        pix = data.get("pix") or {}
        expires_at = pix.get("expires_at")
        return Charge(
            status=models.Status(data["status"]),
            method=str(data["method"] or ""),
            amount=int(data["amount"] or 0),
            currency=str(data["currency"] or "BRL"),
            captured=int(data["captured"]),
            refunded=int(data["refunded"]),
            ref=str(data["id"] or ""),
            pix_copy_paste=str(pix.get("copy_paste", "")),
            pix_expires_at=datetime.datetime.fromisoformat(expires_at) if expires_at else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a charge without sense: {error!r}") from error


def _charge(answer: Mapping[str, Any]) -> Charge:
    try:
        return read(answer)
    except ValueError as error:
        # It may have been charged; what it came to must be asked again (U1).
        raise errors.Unknown("The bank's answer cannot be understood.") from error
