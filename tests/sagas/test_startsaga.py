"""`startsaga` writes an app that runs as it stands, in any project that has the engine."""

import os
import pathlib
import subprocess
import sys
import uuid

import pytest
from django.core.management import CommandError, call_command

from saga_project.local import runfile
from tests.sagas.test_own_project import APP, CELERY, CONFIGURED, SETTINGS


class Project:
    """A project's folder, and its `manage.py`."""

    def __init__(self, folder: pathlib.Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment | {
            "PYTHONPATH": os.pathsep.join([str(folder), str(runfile.ROOT)]),
            "DJANGO_SETTINGS_MODULE": "shop.settings",
        }
        (folder / "shop").mkdir()
        (folder / "shop" / "__init__.py").touch()
        (folder / "shop" / "celery.py").write_text(CELERY + CONFIGURED)
        self.install()

    def install(self, *apps: str) -> None:
        # The database of its tests gets a name of its own: others may run theirs at the same time.
        database = f'DATABASES["default"]["NAME"] = "shop_{uuid.uuid4().hex}"\n'
        more = f"INSTALLED_APPS += {list(apps)!r}\n"
        (self.folder / "shop" / "settings.py").write_text(SETTINGS + APP + "\n" + database + more)

    def manage(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "django", *command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def project(tmp_path: pathlib.Path, environment: dict[str, str]) -> Project:
    return Project(tmp_path, environment)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("arguments", "app", "saga"),
    [
        (["trips", "book-hotel", "book-flight"], "trips", "trip"),
        pytest.param(["trips"], "trips", "trip", marks=pytest.mark.thorough),
        (
            ["payouts", "send-money", "--directory", "shop/payouts", "--saga", "pay-out"],
            "shop.payouts",
            "pay-out",
        ),
    ],
)
def test_what_it_writes_passes_its_own_tests_and_has_its_migration(
    project: Project, arguments: list[str], app: str, saga: str
) -> None:
    written = project.manage("startsaga", *arguments)
    assert written.returncode == 0, written.stderr
    assert f'Add "{app}" to INSTALLED_APPS' in written.stdout
    assert f"manage.py test {app}" in written.stdout
    project.install(app)

    checked = project.manage("check", "--fail-level", "WARNING")
    assert (checked.returncode, checked.stderr) == (0, "")
    migrated = project.manage("makemigrations", "--check", "--dry-run", app.rpartition(".")[2])
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    tested = project.manage("test", app)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "Ran 5 tests" in tested.stderr
    listed = project.manage("shell", "-c", "from sagas.declaration import registry; print(*registry._sagas)")
    assert f"'{saga}'" in listed.stdout


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        (["Book Hotel"], "no name for a step"),
        (["book-hotel", "book-hotel"], "same name"),
        (["book-class"], "Python cannot have"),
        (["book-2"], "Python cannot have"),
        (["cancel"], "would hide"),
        (["turn-key"], "would hide"),
        (["x" * 41], "at most 40"),
    ],
)
def test_a_step_that_would_be_no_function_is_refused_and_nothing_is_written(
    tmp_path: pathlib.Path, steps: list[str], why: str
) -> None:
    with pytest.raises(CommandError, match=why):
        call_command("startsaga", "trips", *steps, directory=str(tmp_path / "trips"))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["orders", "my-trips", "json"])
def test_an_app_whose_name_is_taken_or_none_is_refused(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(CommandError):
        call_command("startsaga", name, directory=str(tmp_path / "new"))

    assert not list(tmp_path.rglob("*.py"))


def test_an_app_that_is_there_is_not_written_over(tmp_path: pathlib.Path) -> None:
    call_command("startsaga", "trips", "book-hotel", directory=str(tmp_path / "trips"), verbosity=0)
    services = tmp_path / "trips" / "services.py"
    services.write_text("mine = True\n")

    with pytest.raises(CommandError, match="already exists"):
        call_command("startsaga", "trips", "book-hotel", directory=str(tmp_path / "trips"), verbosity=0)

    assert services.read_text() == "mine = True\n"
