"""`manage.py webhooks listen` in a process of its own."""

import collections.abc
import contextlib
import pathlib
import re
import signal
import subprocess
import sys

from saga_project.local import runfile
from tests.support import waiting


class Listener:
    """What it has printed so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", out: pathlib.Path, notes: pathlib.Path) -> None:
        self.process = process
        self._out = out
        self._notes = notes

    @property
    def lines(self) -> list[str]:
        return self._out.read_text().splitlines()

    @property
    def notes(self) -> str:
        return self._notes.read_text()

    @property
    def secret(self) -> str:
        return re.findall(r"whsec_\S+", self.notes)[0]


@contextlib.contextmanager
def listener(
    place: pathlib.Path, *arguments: str, environment: dict[str, str]
) -> collections.abc.Iterator[Listener]:
    """One that listens, until the end, when it is asked to stop as Ctrl-C does."""
    out, notes = place / "listener.out", place / "listener.err"
    with out.open("wb") as stdout, notes.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "webhooks", "listen", *arguments],
            cwd=runfile.ROOT,
            env=environment,
            stdout=stdout,
            stderr=stderr,
        )
    listening = Listener(process, out, notes)
    try:
        waiting.until(lambda: "Ready." in listening.notes or process.poll() is not None, "it listens")
        assert process.poll() is None, listening.notes
        yield listening
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
