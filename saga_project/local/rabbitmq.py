"""RabbitMQ on one machine: a node, or a cluster of several, each with its own name, ports and directory.

The binaries are the system's (`make services` installs Debian's); how they are started is done here, so that
no service of the system is touched, nothing is left outside of the cluster's directory, and several clusters
run side by side, as root and as an ordinary user.
"""

import collections.abc
import contextlib
import dataclasses
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import time
from typing import IO, Any

import amqp

from saga_project.local import servers

DEBIAN = pathlib.Path("/usr/lib/rabbitmq/bin")
"""Where the scripts lie that run as whoever calls them. Those on the PATH become another user."""

START_S = 180.0
"""A node takes five seconds to start, and ten times as long where others want the processor too."""

FAREWELL_S = 10.0
"""How long a stopping node may take to hand over to the others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
    """Where a node runs."""

    address: str = "127.0.0.1"
    """The address it listens on, for clients and for other nodes; part of its name."""

    prefix: tuple[str, ...] = ()
    """What stands before each command that is run there: `ip netns exec NAME` for a network namespace."""


class Cluster:
    """Nodes that know each other. With one host it is a single broker.

    Args:
        home: the directory of everything that it keeps.
        hosts: one for each node; several may be the same.
        settings: lines of `rabbitmq.conf` beside those that are set here: `{"net_ticktime": 5}`.
    """

    def __init__(
        self,
        home: pathlib.Path,
        *,
        hosts: collections.abc.Sequence[Host] = (Host(),),
        settings: collections.abc.Mapping[str, object] | None = None,
    ) -> None:
        self.home = home
        self.settings = dict(settings or {})
        self.nodes = [Node(self, number, host) for number, host in enumerate(hosts, 1)]
        self._mappers: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """What BROKER_URL should say: every node's address."""
        return ";".join(node.url for node in self.nodes)

    def start(self, log: IO[bytes] | int | None = None, timeout_s: float = START_S) -> None:
        """Start every node and wait until each answers, as a member of the cluster.

        The first time the first node starts alone, for the others to find. Later all start at once, since one
        waits for those that stopped after it.
        """
        new = [node for node in self.nodes if not node.has_data]
        if new:
            new.pop(0).start(log, timeout_s)
        for node in self.nodes:
            if node.process is None:
                node.launch(log)
        for node in self.nodes:
            node.wait(log, timeout_s)

    def stop(self) -> None:
        """Stop all nodes, and what maps their names to ports; what they keep stays."""
        for node in self.nodes:
            node.ask_to_stop()
        for node in self.nodes:
            node.stop()
        for mapper in self._mappers.values():
            mapper.kill()
            mapper.wait()
        for prefix in self._mappers:
            # Where ours had died a node has started one that belongs to nobody.
            subprocess.run(
                [*prefix, _erlang("epmd"), "-kill"], env=self.environment(), capture_output=True, check=False
            )
        self._mappers.clear()

    def discard(self) -> None:
        """Delete everything that it kept."""
        shutil.rmtree(self.home, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """The environment for the programs of this cluster: nothing of RabbitMQ's own from around us."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        cookie = self.home / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)  # Erlang takes no other.
        around = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
        return around | {
            "HOME": str(self.home),
            "ERL_EPMD_PORT": self.kept("epmd-port", lambda: str(servers.free_port())),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_USE_LONGNAME": "true",
        }

    def kept(self, name: str, make: collections.abc.Callable[[], str]) -> str:
        """A value of this cluster's, made once."""
        path = self.home / name
        if not path.exists():
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(make())
        return path.read_text()

    def map_names(self, host: Host, log: IO[bytes] | int | None) -> subprocess.Popen[bytes]:
        """Have a port mapper run where the host is: one of our own, because Erlang's would outlive us."""
        running = self._mappers.get(host.prefix)
        if running is not None and running.poll() is None:
            return running
        environment = self.environment()
        self._mappers[host.prefix] = subprocess.Popen(
            [*host.prefix, _erlang("epmd"), "-port", environment["ERL_EPMD_PORT"]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
        if not host.prefix:
            _until(lambda: _listens("127.0.0.1", int(environment["ERL_EPMD_PORT"])), "epmd", 20)
        return self._mappers[host.prefix]


class Node:
    """One node of a cluster."""

    STOP = ("SIGTERM", "SIGKILL")

    def __init__(self, cluster: Cluster, number: int, host: Host) -> None:
        self.cluster = cluster
        self.host = host
        self.name = f"rabbit{number}@{host.address}"
        self.home = cluster.home / f"node-{number}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Where clients reach it; the same after each start."""
        return self._port("port")

    @property
    def url(self) -> str:
        """What BROKER_URL should say, for this node alone."""
        return f"amqp://saga:{self._password}@{self.host.address}:{self.port}//"

    @property
    def has_data(self) -> bool:
        """Whether it ran before."""
        return (self.home / "data" / self.name).exists()

    def start(self, log: IO[bytes] | int | None = None, timeout_s: float = START_S) -> None:
        """Launch it and wait until it answers."""
        self.launch(log)
        self.wait(log, timeout_s)

    def launch(self, log: IO[bytes] | int | None = None) -> subprocess.Popen[bytes]:
        """Begin to bring the node up; a new one joins those of the cluster that run by then.

        It is Erlang's own process that is returned: a signal to it reaches the broker, SIGSTOP and SIGKILL
        too.
        """
        self.cluster.map_names(self.host, log)
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.home / "plugins").write_text("[].\n")
        peers = self.cluster.nodes[: self.cluster.nodes.index(self) + 1]
        formation = "cluster_formation.classic_config.nodes"
        settings: dict[str, object] = {
            "listeners.tcp.1": f"{self.host.address}:{self.port}",
            "default_user": "saga",
            "default_pass": self._password,
            "loopback_users": "none",
            "cluster_formation.peer_discovery_backend": "classic_config",
            **{f"{formation}.{number}": peer.name for number, peer in enumerate(peers, 1)},
            # A node that sees no majority stops to serve, so that two halves never take different messages.
            "cluster_partition_handling": "pause_minority",
            # The log of the quorum queues takes half a gigabyte for each node otherwise.
            "raft.wal_max_size_bytes": 32 * 1024 * 1024,
            "log.console": "true",
            "log.console.level": "warning",
            "log.file": "false",
            **self.cluster.settings,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        configuration = self.home / "rabbitmq.conf"
        configuration.touch(mode=0o600)  # There is a password in it.
        configuration.write_text(lines)
        interface = self.host.address.replace(".", ",")
        self.process = subprocess.Popen(
            [*self.host.prefix, _script("rabbitmq-server"), "-noinput"],
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=self.cluster.environment()
            | {
                "RABBITMQ_NODENAME": self.name,
                "RABBITMQ_MNESIA_BASE": str(self.home / "data"),
                "RABBITMQ_LOG_BASE": str(self.home / "log"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "plugins"),
                "RABBITMQ_CONFIG_FILE": str(configuration),
                "RABBITMQ_PID_FILE": str(self.home / "pid"),
                "RABBITMQ_DIST_PORT": str(self._port("dist-port")),
                # The script becomes Erlang, instead of standing before it.
                "RABBITMQ_ALLOW_INPUT": "1",
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                    f"-kernel inet_dist_use_interface {{{interface}}} +S 2:2 +sbwt none"
                ),
            },
        )
        return self.process

    def wait(self, log: IO[bytes] | int | None = None, timeout_s: float = START_S) -> None:
        """Wait until it answers.

        Raises:
            NotStarted: it ended, or did not answer in so many seconds.
        """
        assert self.process is not None, "it was launched"
        process = self.process

        def answers() -> bool:
            if process.poll() is not None:
                raise servers.NotStarted(f"RabbitMQ {self.name} ended with {process.returncode}.{_tail(log)}")
            return self.answers()

        try:
            _until(answers, f"RabbitMQ {self.name}", timeout_s)
        except servers.NotStarted as error:
            self.kill()
            raise servers.NotStarted(f"{error}{_tail(log)}") from None

    def answers(self) -> bool:
        """Whether a client can log in now: a node says yes once it has joined its cluster."""
        if not _listens(self.host.address, self.port):
            return False  # Quietly: the client's library would log it.
        with contextlib.suppress(OSError, amqp.AMQPError), self.connect() as connection:
            return bool(connection.connected)
        return False

    def connect(self) -> amqp.Connection:
        """A connection of its own to this node, as the cluster's user."""
        connection = amqp.Connection(
            f"{self.host.address}:{self.port}",
            userid="saga",
            password=self._password,
            connect_timeout=2,
            read_timeout=5,
        )
        connection.connect()
        return connection

    def ask_to_stop(self) -> None:
        """Have it begin to stop, without waiting."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self, timeout_s: float = FAREWELL_S) -> None:
        """Stop it in order; what it keeps stays. One that does not stop in so many seconds is killed."""
        if self.process is None:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End it at once, with all that belongs to it, as when the power fails."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def control(self, *arguments: str, timeout_s: float = 60) -> str:
        """Run `rabbitmqctl` on it; what it prints. It takes seconds: an Erlang of its own starts.

        Raises:
            CalledProcessError: it failed; its `stderr` says why.
        """
        answer = subprocess.run(
            [*self.host.prefix, _script("rabbitmqctl"), "--quiet", "--longnames", "--node", self.name,
             *arguments],
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=timeout_s,
            env=self.cluster.environment()
            # It would name itself after this machine, and the other nodes look for it there to answer it.
            | {"RABBITMQ_CTL_ERL_ARGS": f"-name control-{secrets.token_hex(4)}@{self.host.address}"},
        )  # fmt: skip
        return answer.stdout

    def queues(self) -> list[dict[str, Any]]:
        """All its queues: `name`, `type`, `durable`, `exclusive`, `arguments`, `messages`, `members`."""
        columns = ("name", "type", "durable", "exclusive", "arguments", "messages", "members")
        found: list[dict[str, Any]] = json.loads(self.control("list_queues", "--formatter=json", *columns))
        return found

    @property
    def _password(self) -> str:
        return self.cluster.kept("password", lambda: secrets.token_urlsafe(24))

    def _port(self, name: str) -> int:
        return int(self.cluster.kept(f"{self.home.name}-{name}", lambda: str(_free_port(self.host.address))))


def check_binaries() -> None:
    """Make sure that RabbitMQ is installed.

    Raises:
        NoBinaries: it is not; the message says what to install.
    """
    _script("rabbitmq-server")
    _erlang("epmd")


def _script(name: str) -> pathlib.Path:
    places = [pathlib.Path(os.environ["RABBITMQ_BIN"])] if "RABBITMQ_BIN" in os.environ else [DEBIAN]
    for place in places:
        if os.access(place / name, os.X_OK):
            return place / name
    raise servers.NoBinaries(
        f"There is no {name} in {places[0]}. Install RabbitMQ (`make services`; Debian, Ubuntu: apt install"
        " rabbitmq-server), or set RABBITMQ_BIN to the directory of its scripts."
    )


def _erlang(name: str) -> pathlib.Path:
    if on_path := shutil.which(name):
        return pathlib.Path(on_path)
    for found in sorted(pathlib.Path("/usr/lib/erlang").glob(f"erts-*/bin/{name}"), reverse=True):
        return found
    raise servers.NoBinaries(f"There is no {name}, which comes with Erlang: install it (`make services`).")


def _free_port(address: str) -> int:
    with contextlib.suppress(OSError), socket.create_server((address, 0)) as listener:
        return int(listener.getsockname()[1])
    return servers.free_port()  # The address exists only in the host's own network namespace.


def _listens(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=2):
        return True
    return False


def _until(condition: collections.abc.Callable[[], bool], name: str, timeout_s: float) -> None:
    patience = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > patience:
            raise servers.NotStarted(f"{name} did not answer within {timeout_s:g} s.")
        time.sleep(0.05)


def _tail(log: IO[bytes] | int | None) -> str:
    name = getattr(log, "name", None)
    if not isinstance(name, str) or not pathlib.Path(name).exists():
        return ""
    return "\n" + "\n".join(pathlib.Path(name).read_text(errors="replace").splitlines()[-15:])
