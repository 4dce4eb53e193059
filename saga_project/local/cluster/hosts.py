"""What runs on which host, how it is started, and how they are told of each other.

| Hosts | What runs there |
| --- | --- |
| broker1, broker2, broker3 | RabbitMQ, one cluster with quorum queues |
| db1, db2 | PostgreSQL: the primary and its synchronous standby |
| pooler | PgBouncer, in transaction mode |
| web1, web2 | the web server |
| proxy | HAProxy before the two |
| worker1, worker2 | a worker for the services' queues, and one for the engine's |
| clock | beat |
| world | the sandbox: the bank, the fiscal authority and the carrier |
"""

import dataclasses
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from typing import IO, Any

from saga_project.local import (
    pgbouncer,
    rabbitmq,
    replication,
    runfile,
    servers,
    stack,
    supervisor,
)
from saga_project.local.cluster import network

DATABASES = ("db1", "db2")

WEB_PORT, PROXY_PORT, PROXY_ADMIN_PORT = 8000, 8080, 9999
POSTGRES_PORT, POOLER_PORT = 5432, 6432
SANDBOX_PORT = 8899

HAPROXY = "haproxy"

NET_TICK_S = 15
"""After how much silence a RabbitMQ node takes another for gone: a quarter of what it is by itself. Until
then what stands in a queue whose leader is out of reach stands still."""

SWEPT_WITHIN_S = 60.0

CONCURRENCY = {"services": 4, "engine": 2, "all": 4}
"""Processes of a host's workers."""

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """The project's code in one version: a directory."""

    name: str
    code: pathlib.Path


FIRST = Release(name="1", code=runfile.ROOT)
"""What is in this checkout."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """How many hosts there are of what."""

    brokers: tuple[str, ...] = ("broker1", "broker2", "broker3")
    webs: tuple[str, ...] = ("web1", "web2")
    workers: tuple[str, ...] = ("worker1", "worker2")
    groups: tuple[str, ...] = ("services", "engine")
    """What a worker host runs: a worker for the queues of the services, and one for the engine's; or one for
    `all`."""


WHOLE = Shape()
SMALL = Shape(brokers=("broker1",), workers=("worker1",), groups=("all",))
"""What starts in a third of the time, for tests: a fault of a broker or of a worker host stops it."""


class Cluster:
    """All hosts, and what runs on them."""

    def __init__(
        self,
        run: pathlib.Path,
        keeper: supervisor.Supervisor,
        net: network.Network,
        shape: Shape = WHOLE,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            run: a directory for what they keep.
            keeper: starts and stops the programs.
            net: where the hosts are to be.
            shape: how many there are to be.
        """
        self.shape = shape
        self.run = run
        self.keeper = keeper
        self.net = net
        names = (
            *shape.brokers, *DATABASES, "pooler", *shape.webs, "proxy", *shape.workers, "clock", "world",
        )  # fmt: skip
        self.hosts = {host.name: host for host in net.add(*names)}
        self.rabbit = rabbitmq.Cluster(
            run / "rabbitmq",
            hosts=[
                rabbitmq.Host(address=self.hosts[name].address, prefix=("ip", "netns", "exec", name))
                for name in shape.brokers
            ],
            settings={"net_ticktime": NET_TICK_S},
        )
        self.pair = replication.Pair(
            run / "postgres",
            addresses=(self.hosts["db1"].address, self.hosts["db2"].address),
            ports=(POSTGRES_PORT, POSTGRES_PORT),
        )
        self.pooler = pgbouncer.PgBouncer(
            run / "pgbouncer",
            server=self.pair.primary.url,
            address=self.hosts["pooler"].address,
            port=POOLER_PORT,
            size=30,
        )
        self.env: dict[str, str] = {}
        self.queues: dict[str, list[str]] = {}
        self.release = dict.fromkeys((*shape.webs, *shape.workers, "clock"), FIRST)
        """Which code runs where."""

    # --- Starting --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything, in the order in which one needs the other."""
        rabbitmq.check_binaries()
        pgbouncer.pgbouncer_binary()
        _haproxy_binary()
        say = self.keeper.say
        say("starting RabbitMQ, PostgreSQL and PgBouncer")
        # The first broker alone: the others join what they find. The database meanwhile.
        first, *others = self.shape.brokers
        self.keeper.start(*(self._names_of(name) for name in self.shape.brokers))
        self.keeper.start(self.broker(first), self.database("db1"))
        self.pair.standby.copy_from(self.pair.primary.url)
        self.keeper.start(*(self.broker(name) for name in others), self.database("db2"))
        self.follow()
        self.keeper.start(self._pooler())
        self.env = self._environment()
        self._prepare()
        self.keeper.start(self._sandbox())
        say("starting web servers, workers and beat")
        self.keeper.start(
            *(self.web(name) for name in self.shape.webs),
            *(worker for name in self.shape.workers for worker in self.workers(name)),
            self.beat(),
        )
        self.keeper.start(self._proxy())
        self._await_sweep()

    @property
    def shop_url(self) -> str:
        """Where clients reach the shop."""
        return f"http://{self.hosts['proxy'].address}:{PROXY_PORT}"

    @property
    def sandbox_url(self) -> str:
        """Where the providers are."""
        return f"http://{self.hosts['world'].address}:{SANDBOX_PORT}"

    def follow(self) -> None:
        """The standby has what the primary has; commits wait for it from now on."""
        self.pair.standby.configure(synchronous_standby_names="")
        self.pair.primary.configure(synchronous_standby_names=f"FIRST 1 ({self.pair.standby.name})")
        self.pair.await_standby()

    def on(self, host: str, program: supervisor.Program) -> supervisor.Program:
        """The program, on that host."""

        def launch(log: IO[bytes]) -> subprocess.Popen[bytes]:
            with self.hosts[host].inside():
                return program.launch(log)

        return dataclasses.replace(program, launch=launch)

    def broker(self, name: str) -> supervisor.Program:
        """RabbitMQ on this host."""
        node = self.rabbit.nodes[self.shape.brokers.index(name)]
        return self.on(
            name,
            supervisor.Program(
                name=name,
                launch=node.launch,
                ready=lambda _: node.answers(),
                stop=node.STOP,
                patience_s=rabbitmq.START_S,
            ),
        )

    def _names_of(self, name: str) -> supervisor.Program:
        """What tells the ports of Erlang's nodes on this host."""
        node = self.rabbit.nodes[self.shape.brokers.index(name)]

        def launch(log: IO[bytes]) -> subprocess.Popen[bytes]:
            return self.rabbit.map_names(node.host, log)

        return supervisor.Program(name=f"{name}-names", launch=launch, ready=lambda _: True)

    def node_of(self, name: str) -> replication.Node:
        """PostgreSQL on this host, whichever role it has."""
        return self.pair.nodes[DATABASES.index(name)]

    def database(self, name: str) -> supervisor.Program:
        """PostgreSQL on this host."""
        node = self.node_of(name)
        return self.on(
            name,
            supervisor.Program(name=name, launch=node.launch, ready=lambda _: node.answers(), stop=node.STOP),
        )

    def host_of(self, node: replication.Node) -> str:
        """The name of the host on which this PostgreSQL is."""
        return DATABASES[self.pair.nodes.index(node)]

    def web(self, name: str) -> supervisor.Program:
        """The web server on this host."""
        address = f"http://{self.hosts[name].address}:{WEB_PORT}/readyz"
        return self.on(
            name,
            stack.program(
                name,
                ["saga_project.web", "--host=0.0.0.0", f"--port={WEB_PORT}", "--workers=1"],
                self.env,
                ready=lambda _: stack.answers(address),
                code=self.release[name].code,
            ),
        )

    def workers(self, name: str) -> list[supervisor.Program]:
        """The two workers of this host: one for the queues of the services, one for the engine's."""
        return [
            self.on(
                name,
                stack.celery(
                    f"{name}-{group}",
                    [
                        "worker",
                        f"--queues={','.join(queues)}",
                        f"--concurrency={CONCURRENCY[group]}",
                        f"--hostname={group}@{name}",
                        "--loglevel=INFO",
                        "--without-gossip",
                        "--without-mingle",
                    ],
                    self.env,
                    ready=lambda log: " ready." in log,
                    code=self.release[name].code,
                ),
            )
            for group, queues in self.queues.items()
        ]

    def beat(self) -> supervisor.Program:
        """The clock that sends what comes by the clock."""
        return self.on(
            "clock",
            stack.celery(
                "clock",
                ["beat", f"--schedule={self.run / 'beat-schedule'}", "--pidfile=", "--loglevel=INFO"],
                self.env,
                ready=lambda log: "beat: Starting" in log,
                code=self.release["clock"].code,
            ),
        )

    def names_on(self, host: str) -> list[str]:
        """The programs on a host."""
        return [f"{host}-{group}" for group in self.queues] if host in self.shape.workers else [host]

    # --- Telling ---------------------------------------------------------------------------------

    def proxy_command(self, command: str) -> str:
        """What HAProxy answers to a command of its operator's."""
        address = (self.hosts["proxy"].address, PROXY_ADMIN_PORT)
        with socket.create_connection(address, timeout=5) as link:
            link.sendall(command.encode() + b"\n")
            link.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: link.recv(65536), b"")).decode()

    def sessions_at(self, web: str) -> int:
        """How many requests HAProxy has at this web host."""
        return int(self._told_of(web)["scur"])

    def is_served_by(self, web: str) -> bool:
        """Whether HAProxy sends requests to this web host: it is to, and the host answered its check."""
        return self._told_of(web)["status"].startswith("UP")

    def _told_of(self, web: str) -> dict[str, str]:
        head, *rows = self.proxy_command("show stat").splitlines()
        columns = head.removeprefix("# ").split(",")
        found = (dict(zip(columns, row.split(","), strict=False)) for row in rows)
        return next(row for row in found if row["pxname"] == "shop" and row["svname"] == web)

    def manage(self, *arguments: str, release: Release = FIRST, codes: tuple[int, ...] = (0,)) -> str:
        """What a command of `manage.py` prints; it goes past the pooler.

        Raises:
            Failed: its exit code is none of these, or it has nothing to say but what went wrong.
        """
        return stack.manage(*arguments, code=release.code, env=self.env, codes=codes)

    # --- Inside ----------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        sandbox = self.sandbox_url
        names = [host.address for host in self.hosts.values()]
        return {
            "BROKER_URL": self.rabbit.url,
            "DATABASE_URL": self.pooler.url,
            "DATABASE_TRANSACTION_POOLING": "1",
            "DATABASE_DIRECT_URL": self.pair.url,
            "WEB_URL": self.shop_url,
            "SANDBOX_URL": sandbox,
            **stack.secrets_of(self.run),
            "PAYMENTS_URL": f"{sandbox}/bank",
            "INVOICING_URL": f"{sandbox}/fiscal",
            "SHIPPING_URL": f"{sandbox}/carrier",
            "DEBUG": "0",
            "PLAIN_HTTP": "1",
            "ALLOWED_HOSTS": ",".join(["localhost", *names, *self.hosts]),
            "RUN_DIR": str(self.run),
        }

    def _prepare(self) -> None:
        self.keeper.say("preparing the database: schema, catalogue, accounts")
        told = json.loads(
            self.keeper.run_once(
                "prepare",
                [sys.executable, "-m", "saga_project.local.prepare"],
                env=os.environ | self.env,
            )
        )
        self.env |= told["tokens"]
        engine = [name for name in told["queues"] if name.startswith(("sagas", "webhooks"))]
        queues = {
            "services": [name for name in told["queues"] if name not in engine],
            "engine": engine,
            "all": told["queues"],
        }
        self.queues = {group: queues[group] for group in self.shape.groups}
        for name, value in ROLE_LIMITS.items():
            # A pooler shares sessions, so they have the role's limits.
            self.pair.primary.ask(f"ALTER ROLE saga SET {name} = '{value}'")

    def _await_sweep(self) -> None:
        """Wait for the first sweep: what is slow because it has just started is no fault's doing."""
        patience = time.monotonic() + SWEPT_WITHIN_S
        while _readiness(self.shop_url) != "ok":
            if self.keeper.stop_asked:
                raise supervisor.Stopped
            if time.monotonic() > patience:
                raise supervisor.Failed(f"{self.shop_url}/readyz is not ok within {SWEPT_WITHIN_S:g} s.")
            time.sleep(0.2)

    def _pooler(self) -> supervisor.Program:
        return self.on(
            "pooler",
            supervisor.Program(
                name="pooler",
                launch=self.pooler.launch,
                ready=lambda _: self.pooler.answers(),
                stop=self.pooler.STOP,
            ),
        )

    def _sandbox(self) -> supervisor.Program:
        (self.run / "sandbox").mkdir(mode=0o700, exist_ok=True)
        command = ["sandbox", "--host=0.0.0.0", f"--port={SANDBOX_PORT}", f"--data={self.run / 'sandbox'}"]
        address = f"{self.sandbox_url}/healthz"
        return self.on(
            "world",
            stack.program(
                "world",
                command,
                self.env | {"WEBHOOK_TARGET": self.shop_url},
                ready=lambda _: stack.answers(address),
            ),
        )

    def _proxy(self) -> supervisor.Program:
        place = self.run / "proxy"
        place.mkdir(mode=0o700, exist_ok=True)
        servers_ = "\n".join(
            f"    server {name} {self.hosts[name].address}:{WEB_PORT} check" for name in self.shape.webs
        )
        here = self.hosts["proxy"].address
        (place / "haproxy.cfg").write_text(
            HAPROXY_CONFIGURATION.format(
                here=here, port=PROXY_PORT, admin_port=PROXY_ADMIN_PORT, servers=servers_
            )
        )

        def launch(log: IO[bytes]) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [_haproxy_binary(), "-db", "-f", place / "haproxy.cfg"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        return self.on(
            "proxy",
            supervisor.Program(
                name="proxy",
                launch=launch,
                ready=lambda _: stack.answers(f"{self.shop_url}/livez"),
            ),
        )


ROLE_LIMITS = {
    "lock_timeout": "2s",
    "statement_timeout": "20s",
    "idle_in_transaction_session_timeout": "15s",
}

HAPROXY_CONFIGURATION = """\
global
    stats socket ipv4@{here}:{admin_port} level admin
    # Whatever is said on the two sides of it, HAProxy itself is patient at its end.
    hard-stop-after 10s
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout queue 5s
    # A machine that is busy is not one that hangs.
    timeout check 4s
    # A host that does not take a connection is passed over; what was sent is never sent twice by the proxy:
    # that is the client's to do, under its key.
    retries 2
    option redispatch 1
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost
    http-check expect status 200
    default-server inter 1s fall 3 rise 1
frontend door
    bind {here}:{port}
    default_backend shop
backend shop
    balance roundrobin
{servers}
"""


def _readiness(url: str) -> str:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310 - ours
            return str(json.load(answer)["status"])
    except OSError:
        return "unreachable"


def _haproxy_binary() -> pathlib.Path:
    # Debian has it where the PATH of an ordinary user does not lead.
    found = shutil.which(HAPROXY) or shutil.which(f"/usr/sbin/{HAPROXY}")
    if found is None:
        raise servers.NoBinaries(
            "No HAProxy here. Install it: `make services`, or your system's package haproxy."
        )
    return pathlib.Path(found)
