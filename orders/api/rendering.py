"""JSON out: one spelling, so that an answer that is kept and one that is made anew are equal."""

import datetime
import json
import uuid
from typing import Any

from rest_framework import renderers


def dumps(value: Any) -> bytes:
    """The value as compact JSON in UTF-8."""
    return json.dumps(value, default=_plain, separators=(",", ":"), ensure_ascii=False).encode()


def instant(at: datetime.datetime | None) -> str | None:
    """A time as the API writes it: UTC, to the microsecond, with a Z."""
    if at is None:
        return None
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class JSON(renderers.BaseRenderer):
    """Renders with `dumps`."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        """The body; empty where there is nothing to say."""
        return b"" if data is None else dumps(data)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return instant(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")
