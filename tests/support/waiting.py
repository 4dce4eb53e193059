"""Waiting for what happens by itself: for a condition and with a bound, never for a fixed time."""

import collections.abc
import time
from typing import TypeVar

T = TypeVar("T")


def until(come: collections.abc.Callable[[], T], what: str = "it", *, seconds: float = 60) -> T:
    """What `come` gives, once it gives something; fails with words when the time is over."""
    end = time.monotonic() + seconds
    while not (found := come()):
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)
    return found
