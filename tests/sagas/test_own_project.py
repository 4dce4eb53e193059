"""What `manage.py` says in a project of one's own, which has nothing but the engine."""

import os
import subprocess
import sys

import pytest

from saga_project.local import runfile

SETTINGS = """
import os
from psycopg import conninfo
told = conninfo.conninfo_to_dict(os.environ["DATABASE_URL"])
SECRET_KEY = "x" * 50
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "sagas"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": told["dbname"], "USER": told["user"], "PASSWORD": told.get("password", ""),
    "HOST": told["host"], "PORT": told["port"],
}}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
CELERY = """
import celery
app = celery.Celery("shop")
"""
SCHEDULE = 'app.conf.beat_schedule = {"sweep": {"task": "sagas.sweep", "schedule": 1.0}}'
PERIODIC = """
@app.on_after_finalize.connect
def periodic(sender, **_):
    sender.add_periodic_task(1.0, sender.signature("sagas.sweep"))
"""
APP = 'SAGAS_CELERY_APP = "shop.celery.app"'


@pytest.fixture
def check(tmp_path, environment):
    """Runs `django-admin check` with what is added to the settings and to the Celery application."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()

    def run(*, settings="", celery=""):
        (tmp_path / "shop" / "settings.py").write_text(SETTINGS + settings)
        (tmp_path / "shop" / "celery.py").write_text(CELERY + celery)
        place = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(runfile.ROOT)])}
        return subprocess.run(
            [sys.executable, "-m", "django", "check", "--fail-level", "WARNING"],
            cwd=tmp_path,
            env=environment | place | {"DJANGO_SETTINGS_MODULE": "shop.settings"},
            capture_output=True,
            text=True,
        )

    return run


def test_without_a_celery_application_no_process_starts_and_the_line_to_write_is_said(check):
    said = check()

    assert said.returncode != 0
    assert "ImproperlyConfigured" in said.stderr
    assert "sagas.E012: SAGAS_CELERY_APP is not set. Name your Celery application" in said.stderr
    assert f"such as {APP}." in said.stderr


def test_without_a_scheduled_sweep_the_line_to_add_is_said(check):
    said = check(settings=APP)

    assert said.returncode != 0
    assert "(sagas.W002) Nothing in the beat_schedule of shop starts the sweep" in said.stderr
    assert 'Add "sweep": {"task": "sagas.sweep", "schedule": 1.0} to its beat_schedule' in said.stderr


@pytest.mark.parametrize("celery", [SCHEDULE, PERIODIC])
def test_that_line_and_the_name_of_the_application_are_all_that_it_needs(check, celery):
    said = check(settings=APP, celery=celery)

    guide = (runfile.ROOT / "docs" / "writing-a-saga.md").read_text()
    assert APP in guide
    assert SCHEDULE in guide
    assert (said.returncode, said.stderr) == (0, "")
