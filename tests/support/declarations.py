"""A pytest plugin: what a test declares is forgotten after it, and after a module what its fixtures declare.

Else another test in the same process would meet a saga that it does not know, or one of the same name that is
not the same. A fixture of a whole package, or of the session, declares nothing.
"""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _declarations_of_the_module() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        _take_back(patch)
        yield


@pytest.fixture(autouse=True)
def declarations(_declarations_of_the_module: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test declares is forgotten after it."""
    # By the test's own patches: one that replaces the registry as well is taken back before this one.
    _take_back(monkeypatch)


def _take_back(patch: pytest.MonkeyPatch) -> None:
    from sagas.declaration import registry  # It needs Django's settings.

    patch.setattr(registry, "_sagas", dict(registry._sagas))
