"""Small disks of a run's own, which can be filled: tmpfs within a mount namespace.

The namespace is the run's (`enter`), so that nothing of the machine is changed, and the disks are gone with
the last process; what is to be read afterwards is moved off them before. It takes root; without it the faults
of full disks are left out.
"""

import ctypes
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

from saga_project.local import servers

INSIDE = "SAGA_CHAOS_INSIDE"
"""Set where the process is in a namespace of its own already."""

BALLAST = "ballast"

_MNT_DETACH = 2


class NotPossible(Exception):
    """Nothing can be mounted here. The message says why."""


def enter(arguments: list[str]) -> None:
    """Begin this Python process anew, with these arguments, in a mount namespace of its own.

    It keeps its process id. Returns where it is there already.

    Raises:
        NotPossible: there cannot be one.
    """
    if INSIDE in os.environ:
        return
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise NotPossible("it takes root on Linux to mount a small disk")
    if missing := [tool for tool in ("unshare", "mount") if not shutil.which(tool)]:
        raise NotPossible(f"no {' and no '.join(missing)} here (util-linux)")
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],  # noqa: S607
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        raise NotPossible(f"nothing may be mounted here ({tried.stderr.strip()})")
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--mount", sys.executable, *arguments])  # noqa: S606, S607 - no shell is wanted, and PATH is the caller's


def are_possible() -> bool:
    """Whether a small disk may be mounted: the process is in a namespace of its own."""
    return INSIDE in os.environ


class Disk:
    """A directory that is a disk of its own, with what lay in it before."""

    def __init__(self, place: pathlib.Path, megabytes: int, account: dict[str, Any]) -> None:
        """Mount it.

        Args:
            place: the directory.
            megabytes: how much fits on it.
            account: who it belongs to, as arguments of Popen.
        """
        self.place = place
        kept = place.with_name(f"{place.name}.kept")
        place.rename(kept)
        place.mkdir()
        owner = f",uid={account['user']},gid={account['group']}" if account else ""
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700{owner}", "none", place],  # noqa: S607
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise OSError(f"mount {place}: {done.stderr.strip()}")
        for entry in kept.iterdir():
            moved = shutil.move(entry, place / entry.name)
            if account:
                _give(pathlib.Path(moved), account)
        kept.rmdir()

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.place / BALLAST).open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12, 1):
                piece = b"\0" * size
                try:
                    while ballast.write(piece) == size:
                        pass
                except OSError:
                    continue

    def relieve(self) -> None:
        """Make room again."""
        (self.place / BALLAST).unlink(missing_ok=True)

    def move_off(self) -> None:
        """Take it away when nobody uses it any more; what was on it is in the directory then."""
        self.relieve()
        kept = self.place.with_name(f"{self.place.name}.kept")
        shutil.copytree(self.place, kept)
        for entry in self.place.rglob("*"):
            owner = entry.stat()
            os.chown(kept / entry.relative_to(self.place), owner.st_uid, owner.st_gid)
        owner = self.place.stat()
        self.unmount()
        self.place.rmdir()
        kept.rename(self.place)
        os.chown(self.place, owner.st_uid, owner.st_gid)

    def unmount(self) -> None:
        """Take it away with all that is on it; who still has a file of it open keeps that."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.umount2(os.fsencode(self.place), _MNT_DETACH)


def _give(path: pathlib.Path, account: dict[str, Any]) -> None:
    for one in (path, *(path.rglob("*") if path.is_dir() else ())):
        os.chown(one, account["user"], account["group"])


class Postgres(servers.Postgres):
    """One whose write-ahead log is on a small disk, and which asks for a new segment each time."""

    disk: Disk | None = None

    def settings(self) -> dict[str, str]:
        """What the server is told when it starts."""
        return super().settings() | {
            "wal_recycle": "off",
            "min_wal_size": "32MB",
            "max_wal_size": "160MB",
        }

    def _create(self, binaries: pathlib.Path, data: pathlib.Path) -> None:
        super()._create(binaries, data)
        if are_possible():
            self.disk = Disk(data / "pg_wal", 384, servers.account())

    def move_off(self) -> None:
        """Have all of it in its directory, for whoever reads it when this process is gone."""
        if self.disk:
            self.disk.move_off()
            self.disk = None

    def discard(self) -> None:
        """Delete the cluster and everything in it."""
        if self.disk:
            self.disk.unmount()
        super().discard()


class Valkey(servers.Valkey):
    """One whose files are on a small disk."""

    disk: Disk | None = None

    def launch(self, log: Any = None) -> "subprocess.Popen[bytes]":
        """As any Valkey; the disk is mounted the first time."""
        if are_possible() and self.disk is None:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.disk = Disk(self.home, 320, {})
        return super().launch(log)

    def move_off(self) -> None:
        """Have all of it in its directory, for whoever reads it when this process is gone."""
        if self.disk:
            self.disk.move_off()
            self.disk = None

    def discard(self) -> None:
        """Delete everything it kept."""
        if self.disk:
            self.disk.unmount()
        super().discard()
