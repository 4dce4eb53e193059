"""The engine's wheel, built once for whoever installs it."""

import pathlib

import pytest

from distribution import build


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel of this checkout."""
    return build.build(tmp_path_factory.mktemp("dist"))
