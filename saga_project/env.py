"""Strict readers of the environment: what is set must make sense, or the process does not start.

Every variable is read here and nowhere else, and leaves an entry in `VARIABLES`, from which
docs/configuration.md is tested.
"""

import base64
import binascii
import dataclasses
import datetime
import itertools
import os
import re

from django.core import exceptions

VARIABLES: dict[str, "Variable"] = {}

SECRET_BYTES = 24
"""What Standard Webhooks asks for; less could be guessed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variable:
    """One environment variable, as docs/configuration.md lists it."""

    name: str
    kind: str
    default: str | None
    """None where there is none: the process refuses to start without it."""


def text(name: str, default: str | None = None) -> str:
    """A string; without a default it must be set."""
    VARIABLES[name] = Variable(name=name, kind="text", default=default)
    value = os.environ.get(name, default)
    # Empty is as good as missing: a secret of nothing is known to everybody.
    if value is None or (default is None and not value.strip()):
        raise exceptions.ImproperlyConfigured(
            f"{name} is not set. Start the local stack with `make up`, which sets it, or set it in the"
            " environment; see docs/configuration.md."
        )
    return value


def signing_secrets(name: str) -> list[str]:
    """Secrets of Standard Webhooks, separated by commas: `whsec_` and the base64 of 24 bytes or more.

    At least one must be set. Several are one secret that is being changed: the newest first.
    """
    secrets = [secret.strip() for secret in text(name).split(",")]
    if not all(_is_signing_secret(secret) for secret in secrets):
        # Without the value, which may be the right one with a slip in it.
        raise exceptions.ImproperlyConfigured(
            f"{name} must be whsec_ and the base64 of {SECRET_BYTES} bytes or more; several, the newest"
            " first, are separated by commas."
        )
    return secrets


def _is_signing_secret(secret: str) -> bool:
    try:
        length = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except binascii.Error:
        return False
    return secret.startswith("whsec_") and length >= SECRET_BYTES


def apart(**secrets: list[str]) -> None:
    """Refuse to start with a secret that two senders share: each could then sign as the other.

    Raises:
        ImproperlyConfigured: two of the variables, by whose names they are given, have one in common.
    """
    for (name, some), (other, more) in itertools.combinations(secrets.items(), 2):
        if set(some) & set(more):
            raise exceptions.ImproperlyConfigured(
                f"{name} and {other} have a secret in common; each sender needs its own."
            )


def boolean(name: str, default: bool) -> bool:
    """`1`, `true`, `0` or `false`; anything else is refused."""
    value = _read(name, "boolean", str(int(default))).lower()
    if value not in ("1", "true", "0", "false"):
        raise _refused(name, value, "1, true, 0 or false")
    return value in ("1", "true")


def choice(name: str, default: str, *, among: tuple[str, ...]) -> str:
    """One of a few words; anything else is refused."""
    value = _read(name, "word", default)
    if value not in among:
        raise _refused(name, value, f"{', '.join(among[:-1])} or {among[-1]}")
    return value


def integer(name: str, default: int, *, least: int = 1) -> int:
    """A whole number, not smaller than `least`."""
    value = _read(name, "integer", str(default))
    if not re.fullmatch(r"-?\d{1,9}", value, re.ASCII) or int(value) < least:
        raise _refused(name, value, f"a whole number, {least} or more")
    return int(value)


def duration(name: str, default: str) -> datetime.timedelta:
    """A length of time such as `250ms`, `90s`, `15m`, `2h` or `10d`."""
    units = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    value = _read(name, "duration", default)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value)
    if not match:
        raise _refused(name, value, "a number with a unit, such as 250ms, 90s, 15m, 2h or 10d")
    return datetime.timedelta(**{units[match[2]]: float(match[1])})


def amounts(name: str, default: str) -> dict[str, int]:
    """Minor units of currencies, each once, such as `BRL:1000000,USD:200000`; empty where the variable is."""
    value = _read(name, "amounts", default)
    pairs = [pair.strip() for pair in value.split(",") if pair.strip()]
    matches = [re.fullmatch(r"([A-Z]{3}):(\d{1,15})", pair, re.ASCII) for pair in pairs]
    found = {match[1]: int(match[2]) for match in matches if match}
    if len(found) < len(pairs):
        raise _refused(name, value, "currencies with minor units, each once, such as BRL:1000000,USD:200000")
    return found


def words(name: str, default: str) -> list[str]:
    """A list of words separated by commas; empty where the variable is."""
    return [word.strip() for word in _read(name, "words", default).split(",") if word.strip()]


def _read(name: str, kind: str, default: str) -> str:
    VARIABLES[name] = Variable(name=name, kind=kind, default=default)
    return os.environ.get(name, default).strip()


def _refused(name: str, value: str, wanted: str) -> exceptions.ImproperlyConfigured:
    return exceptions.ImproperlyConfigured(f"{name} is {value!r}; it must be {wanted}.")
