"""Messages that the shop sends to yours, signed by the Standard Webhooks scheme."""

import base64
import binascii
import dataclasses
import datetime
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from typing import Any

from saga_orders import decoding, errors, models

TOLERANCE = datetime.timedelta(minutes=5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MessageOrder:
    """The order that a message is about."""

    id: uuid.UUID
    number: str
    reference: str
    total: models.Money
    status: models.OrderStatus | None = None
    """Told where the message is about the order itself, and not about a step."""
    failure: models.Failure | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MessageStep:
    """The step that a message is about."""

    name: str
    from_: models.StepStatus | None
    status: models.StepStatus
    attempt: int | None
    message: str | None = None
    """What is waited for, where it waits."""
    error: models.StepError | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """What the shop told you."""

    id: str
    """The same for every attempt: keep those that you have seen, and do nothing twice."""
    type: str
    """Such as `order.fulfilled`."""
    timestamp: datetime.datetime
    sequence: int | None
    """Rises with each message about an order: ignore what says less than you know."""
    order: MessageOrder | None
    step: MessageStep | None
    data: Mapping[str, Any]
    """All that was told, as it came."""


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance: datetime.timedelta = TOLERANCE,
    now: datetime.datetime | None = None,
) -> Message:
    """The message, if the shop sent it, and sent it lately.

    Arguments:
        body: of the request, byte for byte as it came: not parsed and written anew.
        headers: of the request; the case of their names does not matter.
        secret: of your endpoint, `whsec_...`.
        tolerance: how long ago it may have been sent, or how far your clock may be behind.
        now: what your clock says; for tests.

    Raises:
        BadSignature: it is not genuine, or too old.
        ValueError: the secret is none.
    """
    found = {name.lower(): value for name, value in headers.items()}
    try:
        id_, sent_at, signatures = (found[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as missing:
        raise errors.BadSignature(f"the header {missing} is missing") from None
    _check_time(sent_at, now or datetime.datetime.now(datetime.UTC), tolerance)
    mac = hmac.new(_key(secret), f"{id_}.{sent_at}.".encode() + body, hashlib.sha256).digest()
    wanted = b"v1," + base64.b64encode(mac)
    # There are several for a day after the secret was changed. All are compared, so that time tells nothing.
    matches = [hmac.compare_digest(wanted, one.encode()) for one in signatures.split()]
    if not any(matches):
        raise errors.BadSignature(
            "no signature fits: is this the secret of the endpoint, and the body as it came?"
        )
    told = json.loads(body)
    return message({**told, "id": id_})


def message(told: Any, place: str = "") -> Message:
    """The message that was told, with its id; what it is about is taken out of its data.

    Raises:
        UnexpectedAnswer: it is none.
    """
    about = told.get("data") if isinstance(told, Mapping) else None
    if not isinstance(about, Mapping):
        raise errors.UnexpectedAnswer(f"{place}/data is missing")
    return decoding.decode(Message, {**told, "order": about.get("order"), "step": about.get("step")}, place)


def _check_time(sent_at: str, now: datetime.datetime, tolerance: datetime.timedelta) -> None:
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) < 12):
        raise errors.BadSignature("the header webhook-timestamp is no number")
    away = abs(now.timestamp() - int(sent_at))
    if away > tolerance.total_seconds():
        raise errors.BadSignature(f"it was signed {away:.0f} s from now: it is old, or a clock is wrong")


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError("the secret must be that of your endpoint: whsec_ and base64")
    return key
