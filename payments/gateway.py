"""The bank, behind the few calls that this service needs. The settings choose who makes them."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, Protocol, cast

from django.conf import settings
from django.db import models as db
from django.utils import module_loading

from payments import errors, models
from providers import callbacks, client, reading


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
    key: str = ""
    """Whose charge the bank says it is; empty where it does not say."""
    pix_copy_paste: str = ""
    pix_expires_at: datetime.datetime | None = None

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing of it is left to undo."""
        return self.status in models.AT_REST and self.captured == self.refunded


LONGEST_PIX_CODE = 1000
"""The standard (BR Code, EMV) allows 512."""


class Gateway(Protocol):
    """What a bank must be able to do. Each may raise Refused, Unavailable, Unknown or AccessDenied.

    What it answers is what the bank said, as it is: the service holds it against what was asked.
    """

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
            denied=errors.AccessDenied,
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
    """A charge, from what the bank says of it.

    Raises:
        Unclear: it makes no sense, or is more than a row can keep.
    """
    pix = data.get("pix") or {}
    if not isinstance(pix, Mapping):
        raise reading.Unclear("pix must be an object")
    return Charge(
        status=models.Status(_one_of(models.Status, data, "status")),
        method=_one_of(models.Method, data, "method") if data.get("method") is not None else "",
        amount=reading.whole(data, "amount"),
        currency=reading.currency(data, "currency") or "BRL",
        captured=reading.whole(data, "captured"),
        refunded=reading.whole(data, "refunded"),
        ref=reading.text(data, "id", longest=100),
        key=reading.text(data, "key", longest=callbacks.KEY_LENGTH),
        pix_copy_paste=reading.text(pix, "copy_paste", longest=LONGEST_PIX_CODE),
        pix_expires_at=reading.moment(pix, "expires_at") if pix.get("expires_at") is not None else None,
    )


def _one_of(choices: type[db.TextChoices], data: Mapping[str, Any], name: str) -> str:
    value = reading.text(data, name, longest=16)
    if value not in choices.values:
        raise reading.Unclear(f"{name} must be {', '.join(choices.values)}")
    return value


def _charge(answer: Mapping[str, Any]) -> Charge:
    try:
        return read(answer)
    except reading.Unclear as error:
        # It may have been charged; what it came to must be asked again (U1).
        raise errors.Unknown(f"The bank's answer cannot be understood: {error}.") from error
