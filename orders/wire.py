"""JSON as this room writes it: one spelling, so that what is kept and what is made anew are equal."""

import datetime
import json
import uuid
from typing import Any


def dumps(value: Any) -> bytes:
    """The value as compact JSON in UTF-8."""
    return json.dumps(value, default=_plain, separators=(",", ":"), ensure_ascii=False).encode()


def instant(at: datetime.datetime | None) -> str | None:
    """A time as the API writes it: UTC, to the microsecond, with a Z."""
    if at is None:
        return None
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return instant(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")
