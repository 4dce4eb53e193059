"""Every test is a unit test or an integration test, and a unit test needs nothing but Python."""

import os
import subprocess
import sys

import hypothesis
import pytest
import redis
from django.db import connection

from saga_project.local import runfile, throwaway


def test_every_test_of_this_session_has_one_of_the_two_markers(request):
    for item in request.session.items:
        markers = {marker.name for marker in item.iter_markers()} & {"unit", "integration"}
        assert len(markers) == 1, item.nodeid


def test_a_unit_test_that_asks_the_database_fails():
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        connection.cursor()


def test_a_unit_test_that_starts_a_process_fails():
    with pytest.raises(RuntimeError, match=r"subprocess\.Popen in a unit test: tests/test_markers"):
        subprocess.run([sys.executable, "--version"], check=True)


def test_a_unit_test_that_speaks_with_a_server_fails():
    with pytest.raises(RuntimeError, match=r"socket\.\w+ in a unit test"):
        redis.Redis(port=9).ping()


@pytest.mark.integration
def test_an_integration_test_may_start_a_process():
    subprocess.run([sys.executable, "--version"], check=True, capture_output=True)


@pytest.mark.integration
def test_for_unit_tests_no_server_is_started(tmp_path):
    (tmp_path / "test_around.py").write_text(
        "import os\n"
        "def test_no_server_is_named():\n"
        "    assert os.environ['SAGA_THROWAWAY'] == ''\n"
        "    assert 'nobody@' in os.environ['DATABASE_URL']\n"
    )
    told = {*throwaway.environment(place="", database_url="", broker_url=""), "PYTEST_XDIST_WORKER"}
    bare = {name: value for name, value in os.environ.items() if name not in told}

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", runfile.ROOT / "pyproject.toml", "-m", "unit", tmp_path],
        cwd=runfile.ROOT,
        env=bare,
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


@pytest.mark.integration
def test_what_is_thorough_runs_when_it_is_asked_for_and_else_is_counted_as_left_out(tmp_path):
    (tmp_path / "test_two.py").write_text(
        "import pytest\ndef test_quick(): pass\n@pytest.mark.thorough\ndef test_long(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", runfile.ROOT / "pyproject.toml", "-m", "unit", tmp_path]

    usual = subprocess.run(command, cwd=runfile.ROOT, capture_output=True, text=True)
    asked = subprocess.run([*command, "--thorough"], cwd=runfile.ROOT, capture_output=True, text=True)

    assert "1 passed, 1 deselected" in usual.stdout, usual.stdout + usual.stderr
    assert "2 passed" in asked.stdout, asked.stdout + asked.stderr


def test_no_test_fails_because_an_example_of_it_is_slow():
    assert hypothesis.settings().deadline is None
