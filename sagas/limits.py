"""The time that one call of a function may take, kept in a process that may be interrupted and ended.

The timer of the kernel raises at the next line of Python. A function that hangs in C has none: for it there
is the watchdog of `faulthandler`, a thread without Python, which writes down where the function hangs and
ends the process. Both are the standard library's.
"""

import contextlib
import datetime
import faulthandler
import signal
import time
from collections.abc import Iterator
from types import FrameType

from sagas import conf


class TimeIsUp(Exception):
    """The function took longer than its step's `timeout`."""


_raises: type[Exception] | None = None
"""What is raised into a function that takes too long; None where this process has neighbours in it."""


def hold(raises: type[Exception] = TimeIsUp) -> None:
    """Have limits hold in this process from now on; call it in its main thread.

    Arguments:
        raises: what is raised into a function whose time is over.
    """
    global _raises
    _raises = raises


@contextlib.contextmanager
def limited(longest: datetime.timedelta) -> Iterator[None]:
    """Hold what is called inside to that time: then raise into it, and a little later end the process.

    Raises:
        Exception: what `hold` was told, in the function, when its time is over.
    """
    if _raises is None:
        yield
        return
    if signal.getsignal(signal.SIGALRM) is not _too_long:
        signal.signal(signal.SIGALRM, _too_long)
    soft_s = longest.total_seconds()
    _watch(soft_s + conf.HARD_LIMIT_MARGIN_S)
    try:
        signal.setitimer(signal.ITIMER_REAL, soft_s)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


_watched_until: float | None = None

NEAR_ENOUGH_S = 1.0
"""A hard limit may come so much sooner: the watchdog costs more to set than all else here."""


def _watch(hard_s: float) -> None:
    """Have the watchdog end this process then, unless it will anyway, and not much sooner."""
    global _watched_until
    until = time.monotonic() + hard_s
    if _watched_until is None or not until - NEAR_ENOUGH_S <= _watched_until <= until:
        # The stream is named by its number, because Celery puts others in the place of Python's own.
        faulthandler.dump_traceback_later(hard_s, exit=True, file=2)
        _watched_until = until


def unlimited() -> None:
    """No limit holds any more: a message is at its end."""
    global _watched_until
    if _raises is not None and _watched_until is not None:
        try:
            # In case a soft limit ended just as its function did.
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            faulthandler.cancel_dump_traceback_later()
            _watched_until = None


def _too_long(signum: int, frame: FrameType | None) -> None:
    assert _raises is not None, "only where limits hold is there a timer"
    raise _raises
