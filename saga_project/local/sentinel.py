"""Valkey with a replica and three Sentinels on one machine: what fails over when the server dies."""

import collections.abc
import contextlib
import dataclasses
import pathlib
import secrets
import shutil
import signal
import subprocess
import time
from typing import IO

import redis

from saga_project.local import servers

QUORUM = 2
"""So many Sentinels must agree that the server is gone."""


@dataclasses.dataclass
class _Program:
    home: pathlib.Path
    port: int
    configuration: dict[str, object]
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def launch(self, log: IO[bytes] | int | None) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.home / "conf"
        # A Sentinel writes what it learns into its file; so does a server that Sentinel turns into a replica.
        if not path.exists():
            path.touch(mode=0o600)
            common = {"bind": "127.0.0.1", "port": self.port, "dir": f'"{self.home}"', "loglevel": "warning"}
            lines = (common | self.configuration).items()
            path.write_text("".join(f"{name} {value}\n" for name, value in lines))
        self.process = subprocess.Popen(
            [servers.valkey_binary(), path, *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self.process.kill()
            self.process.wait()
            self.process = None


class Guarded:
    """A server, a replica of it, and three Sentinels that make the one the other when it dies.

    Args:
        home: the directory of everything that they keep.
        down_after_s: how long the server may be silent before a Sentinel takes it for dead.
    """

    MASTER = "saga"

    def __init__(self, home: pathlib.Path, *, down_after_s: float = 3) -> None:
        self.home = home
        self.password = secrets.token_urlsafe(24)
        ports = _free_ports(5)
        server = {
            "requirepass": self.password,
            "primaryauth": self.password,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "repl-diskless-sync-delay": 0,
            "maxmemory-policy": "noeviction",
        }
        watch = f"sentinel {{}} {self.MASTER}"
        guard = {
            watch.format("monitor"): f"127.0.0.1 {ports[0]} {QUORUM}",
            watch.format("auth-pass"): self.password,
            watch.format("down-after-milliseconds"): int(down_after_s * 1000),
            watch.format("failover-timeout"): 10_000,
        }
        self.servers = [
            _Program(home / "server-1", ports[0], server),
            _Program(home / "server-2", ports[1], server | {"replicaof": f"127.0.0.1 {ports[0]}"}),
        ]
        self.sentinels = [
            _Program(home / f"sentinel-{number}", port, guard, ("--sentinel",))
            for number, port in enumerate(ports[2:], 1)
        ]

    @property
    def url(self) -> str:
        """What BROKER_URL should say; BROKER_SENTINEL_MASTER is `MASTER`."""
        return ";".join(f"sentinel://:{self.password}@127.0.0.1:{one.port}/0" for one in self.sentinels)

    def start(self, log: IO[bytes] | int | None = None, timeout_s: float = 60) -> None:
        """Start all, and wait until the replica follows and every Sentinel knows of all others."""
        for program in (*self.servers, *self.sentinels):
            program.launch(log)
        _until(lambda: self._replicas() == 1, "the replica follows", timeout_s)
        _until(lambda: all(map(self._knows_all, self.sentinels)), "the Sentinels know each other", timeout_s)

    def master(self) -> _Program:
        """The server that the Sentinels name now."""
        ports = [self._told(one) for one in self.sentinels]
        port = max(set(ports), key=ports.count)
        return next(server for server in self.servers if server.port == port)

    def kill_master(self) -> _Program:
        """Kill the server with SIGKILL; which it was."""
        victim = self.master()
        victim.end(signal.SIGKILL)
        return victim

    def stop(self) -> None:
        """Stop all of them."""
        for program in (*self.sentinels, *self.servers):
            program.end(signal.SIGTERM)

    def discard(self) -> None:
        """Delete everything that they kept."""
        shutil.rmtree(self.home, ignore_errors=True)

    def _told(self, sentinel: _Program) -> int:
        with redis.Redis(port=sentinel.port, socket_timeout=2) as client:
            return int(client.sentinel_get_master_addr_by_name(self.MASTER)[1])

    def _replicas(self) -> int:
        with (
            contextlib.suppress(redis.RedisError),
            redis.Redis(port=self.servers[1].port, password=self.password, socket_timeout=2) as client,
        ):
            return int(client.info("replication").get("master_link_status") == "up")
        return 0

    def _knows_all(self, sentinel: _Program) -> bool:
        with (
            contextlib.suppress(redis.RedisError),
            redis.Redis(port=sentinel.port, socket_timeout=2, decode_responses=True) as client,
        ):
            known = client.execute_command("SENTINEL", "MASTER", self.MASTER)
            if not isinstance(known, dict):
                known = dict(zip(known[::2], known[1::2], strict=True))
            told = {str(name): value for name, value in known.items()}
            others = len(self.sentinels) - 1
            return (int(told["num-slaves"]), int(told["num-other-sentinels"])) == (1, others)
        return False


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        port = servers.free_port()
        if port not in found:
            found.append(port)
    return found


def _until(condition: collections.abc.Callable[[], bool], what: str, timeout_s: float) -> None:
    patience = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > patience:
            raise servers.NotStarted(f"Valkey with Sentinels: after {timeout_s:g} s not yet: {what}.")
        time.sleep(0.05)
