"""`.run/env`: what is written is read back, by us and by a shell."""

import stat
import subprocess

import pytest

from saga_project.local import runfile

PAIRS = {
    "WEB_URL": "http://127.0.0.1:8000",
    "DATABASE_URL": "postgresql://saga@%2Ftmp%2Fsocket:5432/saga?application_name=a b",
    "ADMIN_PASSWORD": 'it\'s "quoted" $HOME `id` #5',
    "EMPTY": "",
}


def test_what_is_written_is_read_back(tmp_path):
    runfile.write(tmp_path / "env", PAIRS)

    assert runfile.read(tmp_path / "env") == PAIRS


@pytest.mark.integration
def test_a_shell_reads_the_same(tmp_path):
    runfile.write(tmp_path / "env", PAIRS)
    show = ". ./env && printf '%s\\n' " + " ".join(f'"${name}"' for name in PAIRS)

    told = subprocess.run(["/bin/sh", "-c", show], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert told.stdout.splitlines() == list(PAIRS.values())


def test_it_is_for_its_owner_alone(tmp_path):
    runfile.write(tmp_path / "env", PAIRS)
    runfile.write(tmp_path / "env", PAIRS)

    assert stat.S_IMODE((tmp_path / "env").stat().st_mode) == 0o600
