"""Throw-away servers: `python -m saga_project.local.throwaway COMMAND ...` runs a command with its own.

The command finds an empty PostgreSQL, an empty Valkey and settings that are good for nothing but a test
in its environment. When it ends, however it ends, all of it is gone: the servers belong to a keeper, a
process that watches over a pipe whether its owner lives. `python -m saga_project.local.throwaway sh`
keeps the servers between runs of the tests, which then start a second earlier.
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from saga_project.local import runfile, servers

MARK = "SAGA_THROWAWAY"
"""Set where the environment already is a throw-away one; its value is the directory of the servers."""


class Keeper:
    """The process that holds the servers. They stop when it is told so, or when its owner is gone."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "saga_project.local.throwaway"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=runfile.ROOT,
            start_new_session=True,  # Ctrl-C reaches the owner; the keeper hears of it through the pipe.
        )
        assert self._process.stdout
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"The throw-away servers did not start (exit code {self._process.wait()}).")
        self.environment: dict[str, str] = json.loads(answer)

    def stop(self) -> None:
        """Stop the servers and delete what they kept."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


def environment(*, place: str, database_url: str, broker_url: str) -> dict[str, str]:
    """Every variable that the settings insist on, with values that open no door anywhere."""
    nobody = "http://127.0.0.1:9"  # The discard port: a test that calls a provider starts one.
    return {
        MARK: place,
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "SECRET_KEY": "a-key-for-tests-that-signs-nothing-of-worth-0123456789",
        "PAYMENTS_WEBHOOK_SECRETS": _signing_secret("the bank's"),
        "SHIPPING_WEBHOOK_SECRETS": _signing_secret("the carrier's"),
        "PLAIN_HTTP": "1",
        "PAYMENTS_URL": f"{nobody}/bank",
        "INVOICING_URL": f"{nobody}/fiscal",
        "SHIPPING_URL": f"{nobody}/carrier",
    }


def _signing_secret(whose: str) -> str:
    return "whsec_" + base64.b64encode(f"{whose} secret for tests, nothing else".encode()).decode()


def _keep() -> None:
    """Start the servers, tell the owner where they are, and hold them until the pipe closes."""
    owner, answer = sys.stdin, sys.stdout
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    place = pathlib.Path(tempfile.mkdtemp(prefix="saga-throwaway-"))
    place.chmod(0o711)  # PostgreSQL of root runs as another user, and must pass through.
    postgres = servers.Postgres(place / "postgres", durable=False)
    valkey = servers.Valkey(place / "valkey", durable=False)
    with contextlib.ExitStack() as undo, (place / "log").open("wb") as log:
        undo.callback(shutil.rmtree, place, ignore_errors=True)
        for server in (postgres, valkey):
            undo.callback(server.discard)
            undo.callback(server.stop)
            server.start(log)
        told = environment(place=str(place), database_url=postgres.url, broker_url=valkey.url)
        print(json.dumps(told), file=answer, flush=True)
        owner.read()


def _run(command: list[str]) -> int:
    """Run the command with servers of its own, or with those around it if there are some."""
    if MARK in os.environ:
        return _call(command)
    keeper = Keeper()
    try:
        return _call(command, **keeper.environment)
    finally:
        keeper.stop()


def _call(command: list[str], **more: str) -> int:
    """Run the command to its end; a signal to end us ends it too: it would be left without servers."""
    with subprocess.Popen(command, env={**os.environ, **more}) as child:
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        return child.wait()


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(_run(sys.argv[1:]))
    _keep()
