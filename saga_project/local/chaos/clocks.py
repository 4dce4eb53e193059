"""Clocks that jump: a program is told another time while it runs (`hook/sitecustomize.py`)."""

import contextlib
import os
import pathlib
import struct

HOOK = pathlib.Path(__file__).parent / "hook"

SIZE = struct.calcsize("d")


class Clock:
    """The clock of one program and its children."""

    def __init__(self, place: pathlib.Path, name: str) -> None:
        self.path = place / name

    def set(self, seconds: float) -> None:
        """Let it be so many seconds ahead, or with less than none behind."""
        self.path.parent.mkdir(exist_ok=True)
        # In place, for it is mapped into the memory of who goes by it.
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("d", seconds))

    def environment(self) -> dict[str, str]:
        """What a program is told that goes by it."""
        more = os.environ.get("PYTHONPATH")
        return {
            "PYTHONPATH": os.pathsep.join([str(HOOK), *([more] if more else [])]),
            "SAGA_CHAOS_CLOCK": str(self.path),
        }

    def is_gone_by(self, pid: int) -> bool:
        """Whether this process goes by it; not if it has ended meanwhile."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return str(self.path) in pathlib.Path(f"/proc/{pid}/maps").read_text()
        return False
