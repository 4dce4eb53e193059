"""Programs without a safeguard: only by settings of their own, and never by mistake."""

import os
import subprocess
import sys

import pytest

from saga_project import env, settings
from saga_project.local import maimed

pytestmark = pytest.mark.integration

SETTINGS = "saga_project.local.maimed.settings"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_program_with_these_settings_has_its_safeguard_taken_away_and_says_so() -> None:
    code = (
        "import django; django.setup()\n"
        "from sagas.engine import execution, parallel\n"
        "from sagas import engine\n"
        "print(parallel.is_free.__module__, execution._is_void(None, None), engine.sweep.__module__)"
    )

    done = run(code, **maimed.environment("fences"))

    assert done.stdout.split() == ["saga_project.local.maimed.ways", "False", "sagas.engine.sweeping"]
    assert "WITHOUT ITS FENCES" in done.stderr


@pytest.mark.parametrize("wrong", [{"PLAIN_HTTP": "0"}, {maimed.VARIABLE: "patience"}], ids=str)
def test_the_settings_refuse_to_load_elsewhere(wrong: dict[str, str]) -> None:
    done = run(f"import {SETTINGS}", **maimed.environment("fences") | wrong)

    assert done.returncode == 1
    assert "ImproperlyConfigured" in done.stderr


def test_no_setting_of_the_project_takes_one_away() -> None:
    assert maimed.VARIABLE not in env.VARIABLES
    assert not [app for app in settings.INSTALLED_APPS if "maimed" in app]


def test_an_unknown_safeguard_is_refused() -> None:
    with pytest.raises(KeyError):
        maimed.environment("patience")
