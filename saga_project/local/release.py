"""The next release of this project, for the drill that rolls it out: this one with a new version of the saga.

A copy of the code in which the order's saga has version 3, with more patience for its providers. Version 2
stays in it under which live orders end, as version 1 does in version 2: what an engineer would commit.
"""

import os
import pathlib
import shutil
import subprocess
import sys

from saga_project.local import runfile, throwaway

LEFT_OUT = ("docs", "tests", "clients", "benchmarks", "examples", "staticfiles", "__pycache__", ".*")
"""What a host does not need to run the project."""

VERSION = 3

CHANGES = {
    "saga_v2.py": (
        ("from orders.saga_v1 import ORDER_FULFILMENT_V1  # noqa: F401 - its live orders end under it\n", ""),
        ("ORDER_FULFILMENT = Saga(", "ORDER_FULFILMENT_V2 = Saga("),
    ),
    "saga.py": (
        (
            "from orders.saga_v1 import ORDER_FULFILMENT_V1  # noqa: F401 - its live orders end under it\n",
            "from orders.saga_v1 import ORDER_FULFILMENT_V1  # noqa: F401 - its live orders end under it\n"
            "from orders.saga_v2 import ORDER_FULFILMENT_V2  # noqa: F401 - the same\n",
        ),
        ("    version=2,\n", f"    version={VERSION},\n"),
        ("attempts=5)", "attempts=6)"),
    ),
}
"""By file: what is replaced by what."""


class NotMade(Exception):
    """The declaration does not read as it did when the next release was thought of: see CHANGES."""


def make(place: pathlib.Path) -> pathlib.Path:
    """Write the next release into that directory.

    Raises:
        NotMade: the declaration of the order's saga has changed, or cannot be locked.
    """
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(runfile.ROOT, place, ignore=shutil.ignore_patterns(*LEFT_OUT))
    declared = (runfile.ROOT / "orders" / "saga.py").read_text()
    for name, changes in CHANGES.items():
        (place / "orders" / name).write_text(changed(declared, changes))
    _lock(place)
    return place


def _lock(place: pathlib.Path) -> None:
    """Have the new version in orders/saga.lock, as an engineer would; no server is asked."""
    nowhere = throwaway.environment(
        place="", database_url="postgresql://nobody@127.0.0.1:9/none", broker_url="redis://127.0.0.1:9/0"
    )
    settings = {"DJANGO_SETTINGS_MODULE": "saga_project.settings"}
    done = subprocess.run(
        [sys.executable, "manage.py", "saga", "lock"],
        cwd=place,
        env=os.environ | nowhere | settings,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise NotMade(f"manage.py saga lock in {place} failed:\n{done.stderr}")


def changed(text: str, changes: tuple[tuple[str, str], ...]) -> str:
    """The text with each of these replaced, each of which is in it once.

    Raises:
        NotMade: one is not.
    """
    for before, after in changes:
        if text.count(before) != 1:
            raise NotMade(
                f"orders/saga.py has {before!r} {text.count(before)} times, not once; see {__name__}."
            )
        text = text.replace(before, after)
    return text
