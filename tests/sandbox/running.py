"""The outside world of a test: a sandbox process with books of its own, spoken to over HTTP."""

import collections.abc
import contextlib
import os
import pathlib
import subprocess
import sys
from typing import Any

import httpx


class Sandbox:
    """A running sandbox: where it is, and what its books say."""

    def __init__(self, url: str) -> None:
        self.url = url
        # Without what HTTPS needs, which takes longer to read than an answer.
        one_each = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=url, verify=False, trust_env=False, limits=one_each)

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self.http.post(path, json=body or {})
        answer.raise_for_status()
        return dict(answer.json())

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.put(path, json=body)
        answer.raise_for_status()
        return dict(answer.json())

    def books(self) -> dict[str, list[dict[str, Any]]]:
        answer = self.http.get("/books")
        answer.raise_for_status()
        return dict(answer.json())

    def charge(self, key: str) -> dict[str, Any] | None:
        return self._row("charges", key)

    def invoice(self, key: str) -> dict[str, Any] | None:
        return self._row("invoices", key)

    def shipment(self, key: str) -> dict[str, Any] | None:
        return self._row("shipments", key)

    def _row(self, book: str, key: str) -> dict[str, Any] | None:
        return next((row for row in self.books()[book] if row["key"] == key), None)

    def point(self, settings: Any) -> None:
        """Let the services speak with this sandbox."""
        settings.PAYMENTS_URL = f"{self.url}/bank"
        settings.INVOICING_URL = f"{self.url}/fiscal"
        settings.SHIPPING_URL = f"{self.url}/carrier"


@contextlib.contextmanager
def run(data: pathlib.Path, **environment: str) -> collections.abc.Iterator[Sandbox]:
    """A sandbox on a free port, with its books in `data`, stopped at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--port", "0", "--data", str(data)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        # The line comes when it listens; none comes when it could not start.
        line = process.stdout.readline()
        assert "http://" in line, "the sandbox did not start; its output says why"
        sandbox = Sandbox(line.split()[-1])
        with sandbox.http:
            yield sandbox
    finally:
        process.terminate()
        process.wait(10)
