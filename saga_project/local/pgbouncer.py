"""PgBouncer on this machine: a pooler between the processes and PostgreSQL, from the system's package."""

import os
import pathlib
import secrets
import shutil
import subprocess
from typing import IO, Literal
from urllib import parse

import psycopg
from psycopg import conninfo

from saga_project.local import servers

Mode = Literal["session", "transaction", "statement"]


class PgBouncer:
    """One PgBouncer in a directory of its own, on loopback, for one database and one role with a password.

    Arguments:
        home: its directory.
        server: the URL of PostgreSQL behind it, of one host: PgBouncer does not ask which of several takes
            writes, so after a failover it is told (`point`). Where there is no password in it, clients have
            one all the same.
        address: the address of loopback that it listens on.
        port: the port; a free one unless given.
        mode: when a connection to the server is given to another client.
        size: connections to the server that all clients share.
    """

    STOP = ("SIGINT", "SIGKILL")
    """Gently, then not: SIGTERM is for a PgBouncer in a hurry only since 1.23."""

    def __init__(
        self,
        home: pathlib.Path,
        *,
        server: str,
        address: str = "127.0.0.1",
        port: int | None = None,
        mode: Mode = "transaction",
        size: int = 10,
    ) -> None:
        self.home = home
        self.server = server
        self.password = str(conninfo.conninfo_to_dict(server).get("password") or secrets.token_urlsafe(18))
        self.address = address
        self.port = port or servers.free_port()
        self.mode = mode
        self.size = size
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What DATABASE_URL should say."""
        told = conninfo.conninfo_to_dict(self.server)
        user, password = (parse.quote(str(part), safe="") for part in (told["user"], self.password))
        return f"postgresql://{user}:{password}@{self.address}:{self.port}/{told['dbname']}"

    def start(self, log: IO[bytes] | int | None = None, timeout_s: float = 20) -> None:
        """Launch it and wait until a statement comes through.

        Raises:
            NoBinaries: there is no PgBouncer on this machine.
            NotStarted: it did not come up.
        """
        servers.await_answer(self.answers, self.launch(log), "PgBouncer", log, timeout_s)

    def launch(self, log: IO[bytes] | int | None = None) -> subprocess.Popen[bytes]:
        """Begin to bring it up.

        Raises:
            NoBinaries: there is no PgBouncer on this machine.
        """
        binary = pgbouncer_binary()
        account = servers.account()
        room = servers.room(self.home, account)
        self._configure()
        self.process = subprocess.Popen(
            [binary, room / "pgbouncer.ini"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=servers.plain_environment(),
            cwd="/",
            **account,
        )
        return self.process

    def point(self, server: str) -> None:
        """After a failover: send everybody to another server, without a restart.

        Clients keep their connections; what they had under way with the old server has failed with it.

        Raises:
            psycopg.OperationalError: it does not answer.
        """
        self.server = server
        self._configure()
        with self._console() as console:
            console.execute("RELOAD")
            # Connections to the old server are dropped, also those that have not noticed that it is gone.
            console.execute("RECONNECT")

    def answers(self) -> bool:
        """Whether a statement comes through now."""
        try:
            with psycopg.connect(
                self.url, connect_timeout=2, autocommit=True, prepare_threshold=None
            ) as link:
                link.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, timeout_s: float = 5) -> None:
        """Stop it."""
        if self.process:
            servers.end(self.process, self.STOP, timeout_s)
            self.process = None

    def discard(self) -> None:
        """Delete everything it kept."""
        shutil.rmtree(self.home.resolve(), ignore_errors=True)
        if self.home.is_symlink():
            self.home.unlink()

    def _console(self) -> "psycopg.Connection[tuple[object, ...]]":
        # Its own database takes simple statements only, and no transaction.
        return psycopg.connect(
            self.url,
            dbname="pgbouncer",
            connect_timeout=2,
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
        )

    def _configure(self) -> None:
        told = conninfo.conninfo_to_dict(self.server)
        place = servers.room(self.home, servers.account())
        settings = {
            "listen_addr": self.address,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(place / "users"),
            "admin_users": str(told["user"]),
            "pool_mode": self.mode,
            "default_pool_size": str(self.size),
            "max_client_conn": "1000",
            # What a client asks of its session when it connects is left out, as most have it: the role's own
            # settings hold. Without this line PgBouncer before 1.20 refuses such clients.
            "ignore_startup_parameters": "options,extra_float_digits",
            # A server that is gone is asked for again soon, and a client told so instead of waiting.
            "server_login_retry": "1",
            "query_wait_timeout": "15",
            "server_connect_timeout": "2",
            # As the project's own connections: a server whose host is gone is noticed.
            "tcp_keepalive": "1",
            "log_connections": "0",
            "log_disconnections": "0",
            "log_stats": "0",
        }
        lines = [
            "[databases]",
            f"{told['dbname']} = host={told['host']} port={told['port']} dbname={told['dbname']}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        self._write("pgbouncer.ini", "\n".join(lines) + "\n")
        self._write("users", f'"{told["user"]}" "{self.password}"\n')

    def _write(self, name: str, text: str) -> None:
        """For its account alone: the password is among it."""
        account = servers.account()
        path = self.home / name
        servers.write_private(path, text)
        if account:
            os.chown(path, account["user"], account["group"])


def pgbouncer_binary() -> pathlib.Path:
    """PgBouncer's, from PATH or where Debian has it.

    Raises:
        NoBinaries: there is none.
    """
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise servers.NoBinaries(
            "No PgBouncer here. Install it: `make services`, or your system's package pgbouncer."
        )
    return pathlib.Path(found)
