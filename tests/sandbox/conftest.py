import collections.abc
import itertools
import pathlib

import pytest

from tests.sandbox import process

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> collections.abc.Iterator[process.Sandbox]:
    """One sandbox for many tests, each with keys of its own."""
    with process.running(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture
def key() -> str:
    return f"0199c2e0-0000-7000-8000-{next(_numbers):012}.take-payment"


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder for the books of a world of the test's own."""
    return tmp_path / "data"
