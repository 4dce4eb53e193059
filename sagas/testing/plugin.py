"""The pytest plugin `sagas`: the trials of your sagas, and transactional tests that can be cleared away.

With the engine installed as a wheel pytest finds it by itself; else name it: `-p sagas.testing.plugin`. It
needs pytest-django.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # The settings may not be there yet when pytest imports its plugins.
    from sagas.testing.trials import Trial


@pytest.fixture(scope="session", autouse=True)
def _sagas_may_be_emptied() -> Iterator[None]:
    """Have tables that refuse to be emptied look away when a transactional test is over.

    The engine's events refuse it, and Django's class would fail there: what `cases.SagaTestCase` does for its
    own tests is done here for those of pytest-django.
    """
    from django.apps import apps

    if not (apps.ready and apps.is_installed("sagas")):
        yield
        return
    from django.test import TransactionTestCase

    from sagas.testing import cases

    teardown = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined] # The stubs have only what is public.

    def quietly(case: Any) -> Any:
        if isinstance(case, cases.SagaTestCase):
            return teardown(case)
        with cases.nobody_refuses():
            return teardown(case)

    TransactionTestCase._fixture_teardown = quietly  # type: ignore[attr-defined] # As above.
    try:
        yield
    finally:
        TransactionTestCase._fixture_teardown = teardown  # type: ignore[attr-defined] # As above.


@pytest.fixture
def trial(request: pytest.FixtureRequest, transactional_db: None) -> "Trial":
    """One trial of a saga: what `sagas.testing.trials.of` and `verbs` have a test run for."""
    if not hasattr(request, "param"):
        raise pytest.UsageError(
            "The fixture `trial` needs @trials.of(...) or @trials.verbs(...) above the test."
        )
    found: Trial = request.param
    return found
