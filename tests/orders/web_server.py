"""The API on a real server, as the local stack runs it, on a port and a database of the test's."""

import collections.abc
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from typing import IO, Any

import httpx

from tests.orders.conftest import Api
from tests.support import waiting

PATIENCE_S = 60
"""Between two heartbeats of the shared server: whatever comes sooner was brought by a notification."""


class Web:
    """A running server."""

    def __init__(self, url: str, process: subprocess.Popen[str], log: list[str]) -> None:
        self.url = url
        self.process = process
        self.log = log

    def client(self, api: Api, **headers: str) -> httpx.Client:
        """A client with that member's token."""
        authorization = {"Authorization": f"Token {api.secret}"}
        return httpx.Client(
            base_url=f"{self.url}/api/v1", headers=authorization | headers, timeout=30, verify=False
        )

    def kill(self) -> None:
        """SIGKILL to the master and every worker at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@contextlib.contextmanager
def running(environment: dict[str, str], *, workers: int = 2, **more: str) -> collections.abc.Iterator[Web]:
    """A server on a free port, stopped at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "saga_project.web", "--port=0", f"--workers={workers}"],
        env=environment | {"PYTHONUNBUFFERED": "1"} | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    log: list[str] = []
    assert process.stdout
    reader = threading.Thread(target=_collect, args=[process.stdout, log], daemon=True)
    reader.start()
    try:
        url = waiting.until(lambda: _address(log), "the server listens")
        waiting.until(lambda: _answers(f"{url}/livez"), "the server answers")
        yield Web(url, process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def messages(lines: collections.abc.Iterator[str]) -> collections.abc.Iterator[dict[str, Any]]:
    """What a stream of server-sent events says, read as the standard says."""
    message: dict[str, Any] = {}
    for line in lines:
        if not line:
            if "data" in message:
                yield message | {"data": json.loads(message["data"])}
            message = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            message[name] = value


def _collect(stream: IO[str], log: list[str]) -> None:
    log.extend(stream)


def _address(log: list[str]) -> str:
    found = [match[1] for line in list(log) if (match := re.search(r"running on (http://\S+)", line))]
    return found[0] if found else ""


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2, verify=False).status_code == 200
    return False
