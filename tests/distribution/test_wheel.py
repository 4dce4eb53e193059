"""The engine and its console as a wheel: it has what it should, and in a bare project the page is true."""

import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile

import pytest

from saga_project.local import runfile, servers
from tests.distribution import walk

pytestmark = pytest.mark.integration


def test_it_has_the_whole_package_and_nothing_of_the_shop(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "sagas"],
        cwd=runfile.ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip

    assert inside == {
        name for name in tracked
        if not name.startswith("sagas/console/api/") and (runfile.ROOT / name).exists()
    }  # fmt: skip
    assert {"sagas/py.typed", "sagas/console/locale/pt_BR/LC_MESSAGES/django.mo"} <= inside


def test_its_requirements_have_no_upper_bounds_and_its_version_is_the_repositorys(wheel):
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith("/METADATA")]
        told = file.read(name).decode()
    required = re.findall(r"^Requires-(?:Dist|Python): (.*)$", told, re.MULTILINE)
    project = tomllib.loads((runfile.ROOT / "pyproject.toml").read_text())["project"]

    assert len(required) >= 4
    assert [one for one in required if "celery" in one and "extra ==" not in one] == []
    assert [one for one in required if re.search("<|==|~=", one.partition(";")[0])] == []
    assert f"\nVersion: {project['version']}\n" in told


@pytest.fixture
def postgres():
    """A server for the walk alone: the page says how its database is called."""
    with tempfile.TemporaryDirectory(prefix="sagas-walk-") as folder:
        place = pathlib.Path(folder)
        place.chmod(0o711)  # PostgreSQL of root runs as another user, and must pass through.
        server = servers.Postgres(place / "server", durable=False, database="postgres")
        with (place / "log").open("wb") as log:
            server.start(log)
            try:
                yield server.url
            finally:
                server.stop()
                server.discard()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "way",
    [
        "Valkey",
        "no broker",
        # On Django 6, and on RabbitMQ, `make matrix` follows it.
        pytest.param("django.tasks on Django 5.2", marks=pytest.mark.thorough),
    ],
)
def test_whoever_follows_the_page_has_a_saga_its_console_and_its_recovery(
    wheel, tmp_path, valkey, postgres, way
):
    """In an interpreter that has what is installed for the tests, and not this checkout."""
    path = [str(tmp_path / "site"), sysconfig.get_path("purelib")]
    with walk.follow(
        wheel, tmp_path, way=way, python=sys._base_executable, path=path, database=postgres,
        broker=os.environ["BROKER_URL"] if way == "Valkey" else "",
    ) as project:  # fmt: skip
        print(f"{way}: the page took {project.seconds:.0f} s")
        found = project.run("python -c 'import sagas; print(sagas.__file__)'")
        assert found.strip() == str(tmp_path / "site" / "sagas" / "__init__.py")
        missing = project.run("python -c 'import importlib.util as u; print(u.find_spec(\"saga_project\"))'")
        assert missing.strip() == "None"
        project.run("python -c 'import celery'", code=0 if way == "Valkey" else 1)

        assert project.state("trip-1") == "compensated"
        bookings = project.rows("SELECT what FROM trips_booking WHERE NOT cancelled ORDER BY what")
        assert bookings == [("Aurora",), ("LA 3054",)]
        attempts = project.rows(
            "SELECT s.attempts FROM sagas_step s JOIN sagas_saga g ON g.id = s.saga_id"
            " WHERE g.key = 'trip-2' ORDER BY s.position"
        )
        assert attempts == [(1,), (1,)]

        # The tests' server forgets what it was told, and a new project is not made for production: no more.
        letter = json.loads(project.run("python manage.py doctor --json", code=1))
        found = {finding["id"] for finding in letter["findings"]}
        assert {id for id in found if not id.startswith("security.")} == {"sagas.D002"}
        assert letter["left_out"] == []

        page = walk.page_of(project, "trip-1")
        assert page.status_code == 200
        assert {"book-hotel", "book-flight", "sagas/console.css"} <= set(
            re.findall(r"book-hotel|book-flight|sagas/console\.css", page.text)
        )
        assert "Compensated" in page.text
