"""Waiting for what happens by itself: for a condition and with a bound, never for a fixed time."""

import collections.abc
import time
from typing import TypeVar

T = TypeVar("T")


def until(come: collections.abc.Callable[[], T], what: str = "it", *, seconds: float = 60) -> T:
    """What `come` gives, once it gives something; fails with words when the time is over."""
    start = time.monotonic()
    while not (found := come()):
        waited = time.monotonic() - start
        assert waited < seconds, f"waited {seconds} s in vain: {what}"
        # To look often takes time from what is waited for.
        time.sleep(0.02 if waited < 0.5 else 0.05)
    return found
