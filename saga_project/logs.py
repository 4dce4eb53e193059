"""How log records look: a line for people (`LOG_FORMAT=line`), or an object on a line (`json`).

JSON says what is named here and nothing else of what a record carries, so that no library puts personal data
into it by the way; the message is what it is in the other form.
"""

import contextvars
import datetime
import json
import logging
from typing import Any

FIELDS = (
    "request_id", "task", "task_id",
    # An event of a saga's (`sagas.eventlog`), or an order that ends.
    "event", "event_id", "at", "saga", "saga_id", "key", "step", "attempt", "before", "state", "failure",
    "clock", "order", "trace_id",
    # A request (`saga_project.middleware.AccessLog`).
    "method", "path", "status", "seconds",
)  # fmt: skip
"""What a record may carry beside its message; what it does not is left out."""

_task: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("task", default=None)


def at_work(name: str, task_id: str) -> None:
    """From here on what this thread logs is of that task; see `saga_project.celery`."""
    _task.set({"task": name, "task_id": task_id})


def at_rest() -> None:
    """The task has ended."""
    _task.set(None)


class Json(logging.Formatter):
    """One object on a line: `time` (UTC, as RFC 3339), `level`, `logger`, `message`, and those of FIELDS."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line of JSON. A traceback is one string in `error`."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        told: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **(_task.get() or {}),
        }
        for name in FIELDS:
            value = getattr(record, name, None)
            if isinstance(value, str | int | float) and value not in ("", "-"):
                told[name] = value
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


TICKS: set[str] = {"sagas.probe-returned"}
"""Tasks that come by the clock; `saga_project.celery` adds those of its schedule."""


class TicksAreDetails(logging.Filter):
    """That a tick was sent, came and went well is of level DEBUG: else nobody would see what happens."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass, unless it is of a tick and details are not wanted."""
        if record.levelno != logging.INFO or not self._is_ticks(record):
            return True
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return logging.getLogger().isEnabledFor(logging.DEBUG)

    def _is_ticks(self, record: logging.LogRecord) -> bool:
        if record.name == "celery.beat":
            return str(record.msg).startswith("Scheduler: Sending due task")
        # Celery gives what its message is made of as one mapping.
        return isinstance(record.args, dict) and record.args.get("name") in TICKS
