"""A process that dies at any point of its conversation with a provider, as nearly as one process can show it.

A gateway that inherits `Crashes` counts the points at which a kill -9 would matter: before each call,
and after it, when the provider has acted and nobody here has written it down.
"""

import collections.abc
import contextlib
import itertools
from typing import Any

from providers import client


class Crash(BaseException):
    """Not an Exception: no code of ours may catch it and tidy up, for the dead do not."""


class _Plan:
    points: collections.abc.Iterator[int] = itertools.count(1)
    fatal = 0


@contextlib.contextmanager
def at(point: int) -> collections.abc.Iterator[None]:
    """Die at the point with that number, counted from 1; 0 is never."""
    _Plan.points, _Plan.fatal = itertools.count(1), point
    try:
        yield
    finally:
        _Plan.fatal = 0


def was_met(point: int) -> bool:
    """Whether the last run came as far as that point."""
    return next(_Plan.points) > point


class _Provider(client.Provider):
    def call(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        _pass()
        answer = super().call(*args, **kwargs)
        _pass()
        return answer


class Crashes:
    """To be inherited before a room's HttpGateway."""

    def __init__(self) -> None:
        super().__init__()
        self._provider = _Provider(**vars(self._provider))


def _pass() -> None:
    if next(_Plan.points) == _Plan.fatal:
        raise Crash
