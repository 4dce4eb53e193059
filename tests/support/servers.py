"""A pytest plugin: real servers and a complete environment before Django reads its settings.

One PostgreSQL and one Valkey per test session, thrown away at its end. Under pytest-xdist the controller
starts them and the workers inherit them: each worker has its own test database, as pytest-django does
it, and its own numbered database in Valkey, so FLUSHDB is a worker's own business and FLUSHALL is not.
With `-m unit` no test needs a server, so none is started, and the environment names none that exists.
"""

import collections.abc
import os
import re

import pytest

from saga_project.local import throwaway

NO_SERVERS = throwaway.environment(
    place="", database_url="postgresql://nobody@127.0.0.1:9/none", broker_url="redis://127.0.0.1:9/0"
)

_keeper: throwaway.Keeper | None = None


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config,
) -> collections.abc.Generator[None, object, object]:
    # A wrapper, because pytest-django reads the settings in this very hook.
    global _keeper
    if early_config.known_args_namespace.markexpr == "unit":
        os.environ.update(NO_SERVERS)
    elif throwaway.MARK not in os.environ:
        _keeper = throwaway.Keeper()
        os.environ.update(_keeper.environment)
    if worker := re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", "")):
        # Valkey has 16 numbered databases; 0 is for sessions without workers.
        server, _, _ = os.environ["BROKER_URL"].rpartition("/")
        os.environ["BROKER_URL"] = f"{server}/{int(worker[1]) % 15 + 1}"
    return (yield)


def pytest_unconfigure() -> None:
    global _keeper
    if _keeper:
        _keeper.stop()
        for name in _keeper.environment:
            os.environ.pop(name, None)
        _keeper = None
