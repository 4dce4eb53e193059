"""A pytest plugin: each test is marked `unit` or `integration`; what is marked `thorough` waits to be asked.

- `integration`: it uses the database, or one of the fixtures in `PARTS`. A test that starts a process or
  opens a socket without such a fixture carries the marker itself.
- `unit`: all others. pytest-django keeps them from the database, `_keep_inside` from processes and sockets.

A test that is marked `thorough` runs with `--thorough` (`make thorough`) and is left out else: it shows in
full what a quicker one shows a part of.
"""

import sys
from typing import Any

import pytest

PARTS = {"django_db_setup", "sandbox", "world", "receiver", "valkey", "stack", "place", "chromium"}
"""Fixtures that are, or start, a database, a server or a process; `db` and its like use the first."""

WAYS_OUT = {
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen",
    "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto",
}  # fmt: skip
"""Python's audit events for a process that is started and for a socket that is used."""

_unit_test = ""
"""The unit test that runs now."""


def kind(item: pytest.Item) -> str:
    """Which of the two a test is."""
    if item.get_closest_marker("integration") or item.get_closest_marker("django_db"):
        return "integration"
    fixtures = set(getattr(item, "fixturenames", ()))
    return "integration" if PARTS & fixtures else "unit"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough", action="store_true", help="Also the tests that `make test` has no time for."
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Any:
    # Around the others, because `-m` selects in this hook, and pytest-django sorts.
    for item in items:
        item.add_marker(kind(item))
    if not config.getoption("--thorough"):
        later = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=later)
        items[:] = [item for item in items if item not in later]
    result = yield
    items.sort(key=_turn)
    return result


def _turn(item: pytest.Item) -> int:
    """What takes long by itself comes first, and unit tests last, so that processes end at the same time."""
    if item.get_closest_marker("unit"):
        return 2
    uses = item.get_closest_marker("django_db") or "django_db_setup" in getattr(item, "fixturenames", ())
    return 1 if uses else 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    global _unit_test
    _unit_test = item.nodeid if kind(item) == "unit" else ""
    try:
        return (yield)
    finally:
        _unit_test = ""


def _keep_inside(event: str, arguments: tuple[Any, ...]) -> None:
    if event in WAYS_OUT and _unit_test:
        raise RuntimeError(f"{event} in a unit test: {_unit_test} wants pytest.mark.integration.")


sys.addaudithook(_keep_inside)
