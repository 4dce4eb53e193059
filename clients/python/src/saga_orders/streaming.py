"""Server-sent events, put together from the bytes of a stream that may break anywhere."""

import json
from typing import Any

from saga_orders import decoding, errors, models


class Stream:
    """What is known of an order's events so far, over however many connections they came."""

    def __init__(self, after: str = "") -> None:
        self.last_id = after
        """Of the last event that was complete: what comes after it comes next."""
        self.retry_s = 2.0
        """How long to wait before coming back."""
        self.ended = False
        """Whether the last event was the order's end."""
        self._rest = b""
        self._fields: dict[str, str] = {}

    def connected(self) -> None:
        """Forget what had begun when the connection broke: it is sent again."""
        self._rest, self._fields = b"", {}

    def feed(self, piece: bytes) -> list[models.Event]:
        """The events that these bytes complete."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        found = (self._take(line.removesuffix(b"\r").decode()) for line in lines)
        return [event for event in found if event is not None]

    def _take(self, line: str) -> models.Event | None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            fields, self._fields = self._fields, {}
            return self._event(fields) if "data" in fields else None
        if name == "retry" and value.isascii() and value.isdigit():
            self.retry_s = int(value) / 1000
        elif name == "data" and "data" in self._fields:
            self._fields["data"] += f"\n{value}"
        elif name:  # A line that begins with a colon says that the connection lives.
            self._fields[name] = value
        return None

    def _event(self, fields: dict[str, str]) -> models.Event | None:
        try:
            data: Any = json.loads(fields["data"])
        except ValueError:
            raise errors.UnexpectedAnswer(f"the data of event {fields.get('id')!r} are no JSON") from None
        told = {"id": fields.get("id", "")} | (data if isinstance(data, dict) else {})
        event: models.Event
        match fields.get("event"):
            case "step":
                event = decoding.decode(models.StepEvent, told)
            case "order":
                event = decoding.decode(models.OrderEvent, told)
                self.ended = event.ended
            case _:
                return None  # Of a newer server.
        self.last_id = event.id
        return event
