"""What the engine may do to a service's functions: call them in any order and number, and die (E1-E5)."""

import collections.abc
import concurrent.futures
import itertools
import threading
from typing import Any

import pytest
from django.db import connection

from tests.support import crashes

StepFunction = collections.abc.Callable[[], Any]

SCRIPTS = sorted(set(itertools.permutations(["do", "do", "undo", "undo"])))
PATIENCE = 20
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)


def every_script_and(fates: collections.abc.Collection[str]) -> pytest.MarkDecorator:
    """Arguments `script` and `fate`: each a few times, and all pairs by `make thorough`."""
    pairs = []
    for i, script in enumerate(SCRIPTS):
        for j, fate in enumerate(fates):
            later = () if (i + j) % 3 == 0 else (pytest.mark.thorough,)
            pairs.append(pytest.param(script, fate, id=f"{fate}-{' '.join(script)}", marks=later))
    return pytest.mark.parametrize(("script", "fate"), pairs)


def key(*parts: object) -> str:
    """A key as the engine makes them: one for each saga and step, here one for each run of a test."""
    return ".".join(str(part).replace(" ", "-") for part in parts)


def play(script: collections.abc.Iterable[str], *, do: StepFunction, undo: StepFunction, errors: Any) -> None:
    """Call the functions in that order, whatever comes of each; then undo until that goes well."""
    for word in script:
        attempt(do if word == "do" else undo, errors)
    settle(undo, errors)


def at_once(
    script: collections.abc.Iterable[str], *, do: StepFunction, undo: StepFunction, errors: Any
) -> None:
    """Call the functions all at once, each with a connection of its own; then undo until it goes well."""
    words = list(script)
    start = threading.Barrier(len(words))

    def call(word: str) -> None:
        try:
            start.wait()
            attempt(do if word == "do" else undo, errors)
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(len(words)) as callers:
        for done in [callers.submit(call, word) for word in words]:
            done.result()
    settle(undo, errors)


def attempt(function: StepFunction, errors: Any) -> bool:
    """Call it once; whether it went well."""
    try:
        function()
    except (errors.Refused, errors.Unavailable, errors.Unknown, crashes.Crash):
        return False
    return True


def settle(function: StepFunction, errors: Any) -> None:
    """Call it until it goes well, but not for ever."""
    assert any(attempt(function, errors) for _ in range(PATIENCE)), "it never went well"
