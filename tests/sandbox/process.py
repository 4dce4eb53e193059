"""A sandbox process of a test's own: started, killed, started again, and asked over HTTP."""

import base64
import collections.abc
import contextlib
import os
import pathlib
import sqlite3
import subprocess
import sys
import urllib.parse

import httpx

SECRET = "whsec_" + base64.b64encode(b"what the bank signs with").decode()
SECRETS = {
    "PAYMENTS_WEBHOOK_SECRETS": SECRET,
    "SHIPPING_WEBHOOK_SECRETS": "whsec_" + base64.b64encode(b"what the carrier signs with").decode(),
}
ROOT = pathlib.Path(__file__).resolve().parents[2]


class Sandbox:
    """One world: a folder for its books, and the process that serves it."""

    def __init__(self, data: pathlib.Path, **environment: str) -> None:
        self.data = data
        self.environment = environment
        self.port = 0

    def start(self) -> None:
        # Nothing of ours in its environment: an independent process needs neither settings nor database.
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sandbox",
                "--port",
                str(self.port),
                "--data",
                self.data,
            ],
            env={"PATH": os.environ["PATH"], "CARRIER_PACE_S": "0.02", **self.environment},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.startswith("Sandbox on http://"), f"the sandbox did not start: {line!r}"
        self.url = line.removeprefix("Sandbox on ").strip()
        # A restart takes the same port, as an outside world would.
        self.port = urllib.parse.urlsplit(self.url).port or 0
        self.client = httpx.Client(base_url=self.url, timeout=10, trust_env=False)

    def stop(self) -> int:
        self.process.terminate()
        return self._gone()

    def kill(self) -> int:
        self.process.kill()
        return self._gone()

    def hurry(self, what: str = "%") -> None:
        """Be killed, and after the restart find all that was planned overdue, in the order of planning."""
        self.kill()
        with contextlib.closing(sqlite3.connect(self.data / "books.sqlite3")) as books:
            books.execute("UPDATE agenda SET at = entry WHERE what LIKE ?", (what,))
            books.commit()
        self.start()

    def _gone(self) -> int:
        self.client.close()
        code = self.process.wait(10)
        assert self.process.stdout
        self.process.stdout.close()
        return code

    def books(self) -> dict:
        return self.client.get("/books").raise_for_status().json()

    def written(self, what: str, key: str) -> dict | None:
        """The one entry that the books have of a key, or None."""
        found = [entry for entry in self.books()[what] if entry["key"] == key]
        assert len(found) <= 1, found
        return found[0] if found else None

    def faults(self, **faults: object) -> None:
        self.client.post("/faults", json=faults).raise_for_status()


@contextlib.contextmanager
def running(data: pathlib.Path, **environment: str) -> collections.abc.Iterator[Sandbox]:
    world = Sandbox(data, **environment)
    world.start()
    try:
        yield world
    finally:
        if world.process.returncode is None:
            assert world.stop() == 0, "the sandbox did not end well"
