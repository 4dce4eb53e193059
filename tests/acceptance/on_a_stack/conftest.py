"""The whole stack, as `make up` starts it: one for all tests here, which leave each other's orders alone."""

import collections.abc
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import pytest

from saga_project.local import runfile, servers
from tests.support import waiting

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope="package")
def stack() -> collections.abc.Iterator[dict[str, str]]:
    """Everything, on ports and in a directory of its own; what is yielded is its environment."""
    run = pathlib.Path(tempfile.mkdtemp(prefix="saga-stack-"))
    run.chmod(0o711)  # PostgreSQL of root runs as another user, and must pass through.
    ports = {name: str(servers.free_port()) for name in ("WEB_PORT", "FLOWER_PORT", "SANDBOX_PORT")}
    known = {"PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH"}
    environment = {name: value for name, value in os.environ.items() if name in known}
    environment |= ports | {"RUN_DIR": str(run), "CARRIER_PACE_S": "0.2"}
    with (run / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "saga_project.local.stack", "up"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        waiting.until(
            lambda: process.poll() is not None or (run / "env").exists(),
            "the stack is up",
            seconds=120,
        )
        assert process.poll() is None, (run / "output").read_text()[-4000:]
        yield environment | runfile.read(run / "env")
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        if process.poll() is None:
            process.kill()
        subprocess.run(
            [sys.executable, "-m", "saga_project.local.stack", "discard"],
            cwd=ROOT,
            env=environment,
            check=False,
        )
