"""docs/releases.md says what is supported as pip is told, and what is tried as `make matrix` tries it."""

import re
import tomllib

from saga_project import examinations
from saga_project.local import runfile
from tests import test_docs
from tests.distribution import matrix

NEEDED = {name: (needed, tried) for name, needed, tried in test_docs.table(
    runfile.ROOT / "docs/releases.md", "What is supported"
)}  # fmt: skip


def test_what_is_needed_is_what_pip_is_told() -> None:
    project = tomllib.loads((runfile.ROOT / "distribution/pyproject.toml").read_text())["project"]
    pinned = [*project["dependencies"], *project["optional-dependencies"]["celery"]]
    told = dict(one.lower().split(">=") for one in pinned)
    told["python"] = project["requires-python"].removeprefix(">=")
    named = {name.lower(): needed for name, (needed, _) in NEEDED.items()}

    assert told.keys() | {"postgresql", "broker"} == named.keys()
    assert {name: f"{oldest} or newer" for name, oldest in told.items()} == {
        name: named[name] for name in told
    }


def test_what_is_tried_is_what_the_matrix_has() -> None:
    for name, tried in (
        ("Python", {line.python for line in matrix.LINES}),
        ("Django", {line.django for line in matrix.LINES}),
        ("PostgreSQL", {line.postgres for line in matrix.LINES}),
        ("Broker", {line.carried for line in matrix.LINES}),
    ):
        assert set(NEEDED[name][1].split(", ")) == tried, name
    oldest = min(int(line.postgres) for line in matrix.LINES)
    assert NEEDED["PostgreSQL"][0] == f"{oldest} or newer"


def test_rabbitmqs_oldest_version_is_the_doctors() -> None:
    found = re.search(r"RabbitMQ (\S+) or newer", NEEDED["Broker"][0])

    assert found
    assert found[1] == ".".join(str(part) for part in examinations.OLDEST_RABBITMQ)
