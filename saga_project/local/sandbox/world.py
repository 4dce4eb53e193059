"""How this world is set up, and what a request is to it."""

import base64
import binascii
import collections.abc
import dataclasses
import math
import urllib.parse

from saga_project.local.sandbox import answers, books, faults


class Misconfigured(Exception):
    """A variable of the environment makes no sense, so the sandbox does not start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment decides."""

    webhook_target: str | None = None
    """Where callbacks go, without the path; None keeps them queued in the books."""
    webhook_secret: bytes = b""
    pix_autopay_after_s: float | None = None
    """After this a PIX charge pays itself; None leaves that to `POST /pix/{key}/pay`."""
    carrier_pace_s: float = 0.5
    """Between two events of a shipment: delivered about a second after it was booked."""
    fiscal_cancel_window_s: float = 24 * 60 * 60
    """How long the law lets an invoice be cancelled."""
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Everything a request may touch."""

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
    secret = environ.get("WEBHOOK_SECRET", "")
    if target is not None:
        _require_target(target)
    return Settings(
        webhook_target=target.rstrip("/") if target else None,
        webhook_secret=_secret(secret) if target or secret else b"",
        pix_autopay_after_s=_seconds(environ, "PIX_AUTOPAY_AFTER_S", None),
        carrier_pace_s=_seconds(environ, "CARRIER_PACE_S", 0.5) or 0.0,
        fiscal_cancel_window_s=_seconds(environ, "FISCAL_CANCEL_WINDOW_S", 24 * 60 * 60) or 0.0,
        seed=_seed(environ.get("SEED", "0")),
    )


def _require_target(target: str) -> None:
    parts = urllib.parse.urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misconfigured("WEBHOOK_TARGET must be an address such as http://127.0.0.1:8000.")


def _secret(secret: str) -> bytes:
    try:
        decoded = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        decoded = b""
    if not secret.startswith("whsec_") or not decoded:
        raise Misconfigured("WEBHOOK_SECRET must be whsec_ and the secret in base64.")
    return decoded


def _seconds(environ: collections.abc.Mapping[str, str], name: str, default: float | None) -> float | None:
    value = environ.get(name, "").strip()
    if not value:
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise Misconfigured(f"{name} must be a number of seconds, such as 0.5.")
    return seconds


def _seed(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise Misconfigured("SEED must be a whole number.") from None
