"""The sandbox: its settings, what a request may touch, and what a request is."""

import base64
import binascii
import collections.abc
import dataclasses
import re
import urllib.parse
from typing import Any

from sandbox import answers, books, faults


class Misconfigured(Exception):
    """A variable of the environment makes no sense, so the sandbox does not start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the variables of the environment say."""

    webhook_target: str | None = None
    """Where callbacks go, without the path; None keeps them queued in the books."""
    payments_webhook_secrets: bytes = b""
    """What the bank signs its callbacks with: of several, the newest."""
    shipping_webhook_secrets: bytes = b""
    """What the carrier signs with; another, so that neither can speak for the other."""
    webhook_retry_after_s: tuple[float, ...] = (0.5, 1, 2, 4, 6, 8, 8)
    """Eight tries in about thirty seconds; who was away longer has to ask."""
    pix_autopay_after_s: float | None = None
    """After this a PIX charge pays itself; None leaves that to `POST /pix/{key}/pay`."""
    carrier_pace_s: float = 0.5
    """Between two events of a shipment: delivered about a second after it was booked."""
    fiscal_cancel_window_s: float = 24 * 60 * 60
    """How long the law lets an invoice be cancelled."""
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sandbox:
    """Everything that a request may touch."""

    books: books.Books
    faults: faults.Faults
    settings: Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked: the key from the path, the body, and the header that names a refund."""

    key: str
    body: answers.Json
    idempotency_key: str | None


def read_settings(environ: collections.abc.Mapping[str, str]) -> Settings:
    """The settings of the environment; raises Misconfigured rather than guess."""
    target = environ.get("WEBHOOK_TARGET") or None
    given: dict[str, Any] = {
        "webhook_target": _target(target) if target else None,
        "payments_webhook_secrets": _newest(environ, "PAYMENTS_WEBHOOK_SECRETS", target),
        "shipping_webhook_secrets": _newest(environ, "SHIPPING_WEBHOOK_SECRETS", target),
        "webhook_retry_after_s": _delays(environ.get("WEBHOOK_RETRY_AFTER_S", "")),
        "pix_autopay_after_s": _seconds(environ, "PIX_AUTOPAY_AFTER_S"),
        "carrier_pace_s": _seconds(environ, "CARRIER_PACE_S"),
        "fiscal_cancel_window_s": _seconds(environ, "FISCAL_CANCEL_WINDOW_S"),
        "seed": _seed(environ.get("SEED", "")),
    }
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _target(target: str) -> str:
    parts = urllib.parse.urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misconfigured("WEBHOOK_TARGET must be an address such as http://127.0.0.1:8000.")
    return target.rstrip("/")


def _newest(environ: collections.abc.Mapping[str, str], name: str, target: str | None) -> bytes | None:
    """The first of the secrets, which are separated by commas; needed where callbacks are sent."""
    value = environ.get(name, "")
    if not value and not target:
        return None
    secret = value.partition(",")[0].strip()
    try:
        decoded = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        decoded = b""
    if not secret.startswith("whsec_") or not decoded:
        raise Misconfigured(f"{name} must be whsec_ and the secret in base64.")
    return decoded


def _delays(value: str) -> tuple[float, ...] | None:
    if not value:
        return None
    delays = [delay for part in value.split(",") if (delay := _number(part)) is not None]
    if len(delays) != len(value.split(",")):
        raise Misconfigured("WEBHOOK_RETRY_AFTER_S must be seconds with commas between, such as 0.5,1,2.")
    return tuple(delays)


def _seconds(environ: collections.abc.Mapping[str, str], name: str) -> float | None:
    value = environ.get(name, "")
    if not value:
        return None
    seconds = _number(value)
    if seconds is None:
        raise Misconfigured(f"{name} must be a number of seconds, such as 0.5.")
    return seconds


def _seed(value: str) -> int | None:
    if value and not re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
        raise Misconfigured("SEED must be a whole number of up to 18 digits.")
    return int(value) if value else None


def _number(value: str) -> float | None:
    """A number that is no less than nothing; None where it is none."""
    return float(value) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value.strip(), re.ASCII) else None
