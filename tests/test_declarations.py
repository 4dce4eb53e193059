"""What a test declares is known to no other."""

import subprocess
import sys

import pytest

from saga_project.local import runfile
from sagas.declaration import registry
from tests.sagas.sample_app import saga as toys

DECLARE = """
import pytest
from sagas.declaration import registry
from tests.sagas.sample_app import saga as toys

MODULES, TESTS = (toys.saga("toy-declared-for-" + what, toys.local("a")) for what in ("a-module", "a-test"))

@pytest.fixture(scope="module")
def module():
    return registry.add(MODULES)

def test_in_which_the_module_declares(module):
    registry.add(TESTS)
    assert registry.versions(TESTS.name)

def test_behind_it(module):
    assert registry.versions(MODULES.name)
    assert not registry.versions(TESTS.name)
"""

LOOK = """
from sagas.declaration import registry

def test_of_another_module():
    assert not [saga for saga in registry.everything() if "declared-for" in saga.name]
    assert registry.versions("toy-local")
"""


@pytest.fixture(scope="class")
def known_around():
    """Compare what is declared before the fixtures of a test with what is after them."""
    known = dict(registry._sagas)
    yield
    assert registry._sagas == known


class TestWhatATestDeclares:
    def test_is_forgotten_after_it(self, known_around):
        declared = registry.add(toys.saga("toy-soon-forgotten", toys.local("a")))

        assert registry.get(declared.name, 1) is declared

    def test_is_forgotten_though_it_replaced_the_registry(self, known_around, monkeypatch):
        monkeypatch.setattr(registry, "_sagas", {})
        registry.add(toys.saga("toy-soon-forgotten", toys.local("b")))


@pytest.mark.integration
def test_what_a_module_declares_is_known_to_its_tests_and_to_no_other_module(tmp_path):
    (tmp_path / "test_a.py").write_text(DECLARE)
    (tmp_path / "test_b.py").write_text(LOOK)
    command = [sys.executable, "-m", "pytest", "-c", runfile.ROOT / "pyproject.toml", "-m", "unit", tmp_path]

    ran = subprocess.run(command, cwd=runfile.ROOT, capture_output=True, text=True)

    assert "3 passed" in ran.stdout, ran.stdout + ran.stderr
