"""A primary and its standby on this machine: PostgreSQL's streaming replication, synchronous where wanted.

Each node has a directory, an address of loopback and a port of its own, as if it were a host. It can die as a
host does (`kill`), the standby can take over (`promote`), and what was the primary comes back as the standby
(`rejoin`). Who decides that is the caller: in production that is Patroni, an operator, or the provider of the
database, and never this module.
"""

import collections.abc
import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import time
from typing import IO, Any, LiteralString

import psycopg
from psycopg import conninfo, sql

from saga_project.local import servers

PATIENCE_S = 60


class Node(servers.Postgres):
    """One PostgreSQL of a pair, reached by TCP with a password.

    Arguments:
        home: its directory; its data and its socket.
        name: what it calls itself to the other node (`application_name`); a plain word.
        address: the address of loopback that it listens on.
        port: the port; a free one unless given.
        password: of the role `saga`.
        durable: whether it waits for the disk. Without, it outlives its processes but no power cut.
        database: the name of the database.
    """

    def __init__(
        self,
        home: pathlib.Path,
        *,
        name: str,
        password: str,
        address: str = "127.0.0.1",
        port: int | None = None,
        durable: bool = True,
        database: str = "saga",
    ) -> None:
        super().__init__(home, durable=durable, database=database)
        self.name = name
        self.password = password
        self.address = address
        self.port = port or servers.free_port()

    @property
    def url(self) -> str:
        """To this node alone, whichever role it has."""
        return f"postgresql://saga:{self.password}@{self.address}:{self.port}/{self.database}"

    def settings(self) -> dict[str, str]:
        """As every server of the local stack, by TCP, and ready to be followed."""
        return super().settings() | {
            "listen_addresses": self.address,
            "port": str(self.port),
            "cluster_name": self.name,
            # What is committed has reached the standby; only then a failover loses nothing.
            "synchronous_commit": "on",
            "wal_level": "replica",
            "hot_standby": "on",
            # A standby that was away for a while finds what it missed.
            "wal_keep_size": "512MB",
            # How long until either side takes the other for dead.
            "wal_sender_timeout": "5s",
            "wal_receiver_timeout": "5s",
            "wal_retrieve_retry_interval": "200ms",
            # A page that reads on the standby may hold it up for so long.
            "max_standby_streaming_delay": "5s",
        }

    def answers(self) -> bool:
        """Whether it does now: a standby to reads, a primary to writes; that one makes the database."""
        try:
            if self.is_standby():
                return True
        except psycopg.OperationalError:
            return False
        return super().answers()

    def is_standby(self) -> bool:
        """Whether it replays what another one writes.

        Raises:
            psycopg.OperationalError: it does not answer.
        """
        return bool(self.ask("SELECT pg_is_in_recovery()")[0])

    def ask(self, statement: LiteralString, *parameters: Any) -> Any:
        """The first row that a statement gives; None for one that gives none.

        Raises:
            psycopg.OperationalError: it does not answer.
        """
        with psycopg.connect(self.url, dbname="postgres", connect_timeout=2, autocommit=True) as link:
            cursor = link.execute(statement, parameters)
            return cursor.fetchone() if cursor.description else None

    def configure(self, **settings: str) -> None:
        """Change settings for good, without a restart.

        Raises:
            psycopg.OperationalError: it does not answer.
        """
        with psycopg.connect(self.url, dbname="postgres", connect_timeout=2, autocommit=True) as link:
            for name, value in settings.items():
                link.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), value))
            link.execute("SELECT pg_reload_conf()")

    def kill(self) -> None:
        """End all of its processes at once, as a host that loses its power does."""
        if self.process is None:
            return
        # Stopped first, so that it has no further child; each of its children leads a session of its own.
        os.kill(self.process.pid, signal.SIGSTOP)
        for pid in [*_children(self.process.pid), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def copy_from(self, server: str, *, follow: bool = True) -> None:
        """Throw away what it has, and become a copy of a server.

        Arguments:
            server: its URL, with a role that may replicate.
            follow: whether this node is to be started as that one's standby; if not, it goes on by itself.

        Raises:
            NotStarted: `pg_basebackup` failed; the message ends with what it said.
        """
        binaries, data = self._binaries(), self._data()
        told = conninfo.conninfo_to_dict(server)
        shutil.rmtree(data, ignore_errors=True)
        made = subprocess.run(
            [
                binaries / "pg_basebackup",
                f"--pgdata={data}",
                f"--host={told['host']}",
                f"--port={told['port']}",
                f"--username={told['user']}",
                "--no-password",
                *(["--write-recovery-conf"] if follow else []),
                "--checkpoint=fast",
                "--wal-method=stream",
                *([] if self.durable else ["--no-sync"]),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**servers.plain_environment(), "PGPASSWORD": str(told.get("password", ""))},
            cwd="/",
            **servers.account(),
        )
        if made.returncode:
            shutil.rmtree(data, ignore_errors=True)
            raise servers.NotStarted(f"pg_basebackup failed:\n{made.stdout}{made.stderr}")
        if not follow:
            self._admit(binaries, data)

    def _create(self, binaries: pathlib.Path, data: pathlib.Path) -> None:
        super()._create(binaries, data)
        self._admit(binaries, data)

    def _admit(self, binaries: pathlib.Path, data: pathlib.Path) -> None:
        """Have it take the other node, and clients with the password."""
        # What a file and the command line say differently is complained of at each reload.
        file = data / "postgresql.conf"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not line.startswith("max_connections")))
        # By TCP with a password; the socket lies in a directory that only its owner enters.
        (data / "pg_hba.conf").write_text(
            "local all all trust\nhost all all all scram-sha-256\nhost replication all all scram-sha-256\n"
        )
        # The role has no password yet. A server that nobody can reach gives it one.
        told = sql.SQL("ALTER ROLE saga PASSWORD {}").format(self.password).as_string(None)
        subprocess.run(
            [binaries / "postgres", "--single", "-D", data, "postgres"],
            input=told.encode() + b"\n",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=servers.plain_environment(),
            cwd="/",
            check=True,
            **servers.account(),
        )


class Pair:
    """A primary and its standby.

    Arguments:
        home: a directory for both.
        addresses: the nodes' addresses of loopback, the first primary's first.
        ports: their ports; free ones unless given.
        synchronous: whether a commit waits until the standby has it on its disk.
        durable: as a node's.
        database: the name of the database.
    """

    def __init__(
        self,
        home: pathlib.Path,
        *,
        addresses: tuple[str, str] = ("127.0.0.1", "127.0.0.1"),
        ports: tuple[int, int] | None = None,
        synchronous: bool = True,
        durable: bool = True,
        database: str = "saga",
    ) -> None:
        self.synchronous = synchronous
        password = secrets.token_urlsafe(18)
        self.nodes = tuple(
            Node(
                home / name,
                name=name,
                password=password,
                address=address,
                port=port,
                durable=durable,
                database=database,
            )
            for name, address, port in zip(("alpha", "beta"), addresses, ports or (None, None), strict=True)
        )
        self.primary, self.standby = self.nodes
        self._log: IO[bytes] | int | None = None

    @property
    def url(self) -> str:
        """To both, for DATABASE_URL: a client chooses by `target_session_attrs`."""
        first = self.nodes[0]
        hosts = ",".join(f"{node.address}:{node.port}" for node in self.nodes)
        return f"postgresql://saga:{first.password}@{hosts}/{first.database}"

    def start(self, log: IO[bytes] | int | None = None) -> None:
        """Start the primary, copy it, and start the standby; returns when what is committed reaches both.

        Arguments:
            log: where both write, also after they were started again.
        """
        self._log = log
        self.primary.start(log)
        self.rejoin()

    def rejoin(self) -> None:
        """Make the node that is down a copy of the primary, and start it as its standby.

        What it had and the primary never got is thrown away with the rest: nobody was told that it was
        committed.

        Raises:
            NotStarted: it could not be copied, does not start, or does not follow.
        """
        self.standby.copy_from(self.primary.url)
        self.standby.start(self._log)
        # The copy has the primary's settings, too: whom a primary waits for is no standby's business.
        self.standby.configure(synchronous_standby_names="")
        if self.synchronous:
            self.primary.configure(synchronous_standby_names=f"FIRST 1 ({self.standby.name})")
        self.await_standby()

    def kill_primary(self) -> None:
        """The primary's host is gone."""
        self.primary.kill()

    def promote(self) -> None:
        """The standby becomes the primary; the other node is down until it rejoins.

        It waits for nobody with its commits meanwhile: there is nobody. To let it wait would be to stop.

        Raises:
            NotStarted: it did not take over.
        """
        if not self.standby.ask("SELECT pg_promote(true, %s)", PATIENCE_S)[0]:
            raise servers.NotStarted(f"{self.standby.name} was not promoted within {PATIENCE_S} s.")
        self.primary, self.standby = self.standby, self.primary

    def await_standby(self) -> None:
        """Wait until the standby has all that is committed by now, and commits wait for it where they shall.

        Raises:
            NotStarted: it did not follow in time.
        """
        wanted = "sync" if self.synchronous else "async"
        patience = time.monotonic() + PATIENCE_S
        while True:
            followers = self.primary.ask(
                "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
                " AND application_name = %s AND sync_state = %s AND replay_lsn >= pg_current_wal_flush_lsn()",
                self.standby.name,
                wanted,
            )
            if followers[0]:
                return
            if time.monotonic() > patience:
                raise servers.NotStarted(f"{self.standby.name} does not follow {self.primary.name}.")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop both, the standby first: a synchronous primary would wait for it."""
        for node in (self.standby, self.primary):
            node.stop()

    def discard(self) -> None:
        """Delete both with everything in them."""
        for node in self.nodes:
            node.discard()


def _children(pid: int) -> collections.abc.Iterator[int]:
    """All processes whose parent that is."""
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name is in brackets and may hold anything; behind it come the state and the parent.
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(status.parent.name)
