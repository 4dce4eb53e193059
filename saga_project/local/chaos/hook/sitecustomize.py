"""Python runs this before anything else in a process whose PYTHONPATH leads here: its clock may be wrong.

SAGA_CHAOS_CLOCK names a file of eight bytes: by how many seconds the clock is ahead. All that asks Python for
the time is told so at once, in this process and in those that it forks; what measures how much time has
passed (the monotonic clock) stays right, as on a machine whose clock is set. libfaketime would do it for
every program, but time.sleep of Python 3.11 fails under it.
"""

import ctypes
import datetime
import gc
import mmap
import os
import struct
import time
from collections.abc import Callable
from typing import Any


def _mapped(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)


def _go_by(ahead: mmap.mmap) -> None:
    right, right_ns, local, universal = time.time, time.time_ns, time.localtime, time.gmtime

    def skew() -> float:
        return float(struct.unpack("d", ahead[:8])[0])

    # No plain functions: logging has time.localtime as an attribute of a class, of which a function would
    # become a method.
    wrong: dict[str, Callable[..., Any]] = {
        "time": lambda: right() + skew(),
        "time_ns": lambda: right_ns() + int(skew() * 1e9),
        "localtime": lambda seconds=None: local(time.time() if seconds is None else seconds),
        "gmtime": lambda seconds=None: universal(time.time() if seconds is None else seconds),
    }
    for name, function in wrong.items():
        setattr(time, name, _Call(function))
    _replace(
        datetime.datetime,
        now=lambda cls, tz=None: cls.fromtimestamp(time.time(), tz),
        today=lambda cls: cls.fromtimestamp(time.time()),
        utcnow=lambda cls: cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None),
    )
    _replace(datetime.date, today=lambda cls: cls.fromtimestamp(time.time()))


class _Call:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


def _replace(kind: type, **methods: Callable[..., Any]) -> None:
    """Give a class of C's other class methods: it stays itself to whoever compares, pickles or inherits."""
    (members,) = (found for found in gc.get_referents(kind.__dict__) if isinstance(found, dict))
    members |= {name: classmethod(method) for name, method in methods.items()}
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


if path := os.environ.get("SAGA_CHAOS_CLOCK"):
    _go_by(_mapped(path))
