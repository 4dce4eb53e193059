"""The trace to which a request belongs, for the sagas that begin in it: the W3C's `traceparent`.

with engine.traced(request.headers.get("traceparent")):
    ...  # What begins here keeps it on its row.
"""

import contextlib
import contextvars
import re
from collections.abc import Iterator

PATTERN = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-.*)?"
)
"""Version, trace, span, flags (W3C Trace Context, level 1). Only a later version than 00 may have more."""

_current: contextvars.ContextVar[str | None] = contextvars.ContextVar("sagas_traceparent", default=None)


def valid(given: str | None) -> str | None:
    """The header as it is kept: its four fields; None if there is none, or it is not what the W3C defines."""
    found = PATTERN.fullmatch((given or "").strip())
    if found is None or (found["more"] and found[0].startswith("00")):
        return None
    return found[0][:55]


@contextlib.contextmanager
def traced(traceparent: str | None) -> Iterator[None]:
    """Have sagas that begin in the block keep this trace context, if it is valid; else none.

    Arguments:
        traceparent: the header of the request, as it came.
    """
    before = _current.set(valid(traceparent))
    try:
        yield
    finally:
        _current.reset(before)


def current() -> str | None:
    """The context of what begins now."""
    return _current.get()
