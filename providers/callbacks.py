"""Callbacks that a provider signed, by the Standard Webhooks scheme, and how far they are believed.

A service says what is its own: the secrets, what the data means, and what was asked.
"""

import base64
import binascii
import dataclasses
import datetime
import hashlib
import hmac
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from providers import reading
from sagas import strictjson

Report = TypeVar("Report")

TOLERANCE = datetime.timedelta(minutes=5)
"""How far the sender's clock may be from ours; older ones may be replays of what somebody recorded."""

ID_LENGTH = 100
KEY_LENGTH = 100
KIND_LENGTH = 40
"""Longer ones fit no row; what could not be kept would be sent for ever."""

_SECONDS = re.compile(r"[0-9]{1,12}")


class BadCallback(Exception):
    """The callback is not from the provider, or too old, or cannot be understood. Nothing was recorded."""

    signed = True
    """Whether the provider sent it, so that it may be wrong but is no attack."""

    def __init__(self, message: str, *, id_: str = "") -> None:
        super().__init__(message)
        self.id = id_
        """By which it is known again if it is sent again; only of one that is signed."""


class Forged(BadCallback):
    """The callback is not signed by the provider, or was signed too long ago."""

    signed = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """What the provider reports: that `kind` happened to what we keyed with `key`."""

    id: str
    kind: str
    key: str
    occurred_at: datetime.datetime
    data: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Callback(Generic[Report]):
    """What a provider reports of one charge, parcel or the like, verified."""

    event_id: str
    kind: str
    key: str
    report: Report
    """What the provider says of it, as the service's gateway reads it."""
    facts: dict[str, Any]
    """What a saga that waits for it may take from that."""
    refused: str | None
    """Why what is waited for will not come; None if that is not what the provider says."""
    occurred_at: datetime.datetime | None = None
    """By the provider's clock; None where the provider was asked."""
    mismatch: str = ""
    """Where it differs from what was asked, with the figures; known once it is written down."""

    @property
    def source(self) -> str:
        """What the service's rows name as the source of what they learn from it."""
        return f"callback {self.event_id}"

    def believed(self, *, asked: bool, differs: str, otherwise: dict[str, Any]) -> "Callback[Report]":
        """The callback as far as it may be believed.

        One that differs from what was asked says where, and neither that what is waited for has come nor
        that it will not. Nor does one that comes before anything was asked: there is nothing yet to hold it
        against, and the provider will be asked.

        Arguments:
            asked: whether the service has asked for something that the report can be held against.
            differs: where it differs from that; empty where it agrees.
            otherwise: the facts in the place of those that are not believed.
        """
        if asked and not differs:
            return self
        return dataclasses.replace(self, facts=otherwise, refused=None, mismatch=differs)


def receive(
    *,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime.datetime,
    secrets: Sequence[str],
    understand: Callable[[Event], Callback[Report]],
    wanted: str,
) -> Callback[Report]:
    """The callback, if it is the provider's and the service understands it.

    Arguments:
        headers, body: as they came.
        now: the time that the callback's is compared with.
        secrets: what the provider may have signed it with.
        understand: the service's reading of the event; raises `reading.Unclear` where it makes no sense.
        wanted: the sentence that says what would make sense, without its full stop.

    Raises:
        BadCallback: it is not the provider's, or is too old, or makes no sense.
    """
    event = read(headers=headers, body=body, now=now, secrets=secrets)
    try:
        return understand(event)
    except reading.Unclear as error:
        raise BadCallback(f"{wanted}: {error}.", id_=event.id) from error


def read(*, headers: Mapping[str, str], body: bytes, now: datetime.datetime, secrets: Sequence[str]) -> Event:
    """The event in a callback.

    1. Nothing is parsed before the signature is known to be right, by any of the provider's secrets:
       while one is changed there are two.
    2. The signature covers id and time, so neither can be changed to pass for a fresh one.

    Raises:
        Forged: a wrong signature, or a time too far from `now`.
        BadCallback: a body without sense.
    """
    given = {name.lower(): value for name, value in headers.items()}
    id_, sent_at = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    expected = [sign(id_=id_, sent_at=sent_at, body=body, secret=secret) for secret in secrets]
    signatures = given.get("webhook-signature", "").split()
    # Bytes, because compare_digest refuses text that is not ASCII.
    matches = [
        hmac.compare_digest(one.encode(), signature.encode())
        for one, signature in itertools.product(expected, signatures)
    ]
    # A list: all are compared, and in constant time, so that the time taken tells nothing.
    if not any(matches):
        raise Forged("The signature is wrong or missing.")
    if not _SECONDS.fullmatch(sent_at) or abs(now.timestamp() - int(sent_at)) > TOLERANCE.total_seconds():
        raise Forged("The timestamp is too far from now.")
    if not 0 < len(id_) <= ID_LENGTH or not id_.isprintable():
        raise BadCallback(f"webhook-id must have 1 to {ID_LENGTH} printable characters.", id_=_digest(body))
    try:
        return _event(id_, body)
    except BadCallback as error:
        error.id = id_
        raise


def sign(*, id_: str, sent_at: str, body: bytes, secret: str) -> str:
    """The signature of a callback, as the header carries it: `v1,` and base64."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ValueError("A webhook secret is whsec_ and base64.") from error
    signed = b".".join([id_.encode(), sent_at.encode(), body])
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _digest(body: bytes) -> str:
    return f"sha256.{hashlib.sha256(body).hexdigest()}"


def _event(id_: str, body: bytes) -> Event:
    try:
        content = strictjson.loads(body)
        event = Event(
            id=id_,
            kind=content["type"],
            key=content["key"],
            occurred_at=datetime.datetime.fromisoformat(content["occurred_at"]),
            data=content["data"],
        )
    except strictjson.Refused as error:
        raise BadCallback(f"The body must be JSON that can be kept: {error}.") from None
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise BadCallback("The body must be JSON with type, key, occurred_at and data.") from error
    if not (isinstance(event.kind, str) and isinstance(event.key, str) and isinstance(event.data, dict)):
        raise BadCallback("type and key must be strings, data an object.")
    if not 0 < len(event.key) <= KEY_LENGTH or not event.key.isprintable():
        raise BadCallback(f"key must have 1 to {KEY_LENGTH} printable characters.")
    if not 0 < len(event.kind) <= KIND_LENGTH or not event.kind.isprintable():
        raise BadCallback(f"type must have 1 to {KIND_LENGTH} printable characters.")
    if event.occurred_at.tzinfo is None:
        raise BadCallback("occurred_at must have a time zone.")
    return event
