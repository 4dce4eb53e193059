"""What runs: the local stack's parts, each link between them led through the proxy.

| Program | What it is |
| --- | --- |
| postgres, valkey | the database and the broker, each with what it must not lose on a small disk of its own |
| proxy | every link between two parts |
| sandbox | the bank, the fiscal authority and the carrier |
| web | the web server, two processes |
| worker1, worker2 | a worker for all queues each |
| beat, beat2 | beat, and a second one that runs only while it is a fault |
"""

import json
import os
import pathlib
import shutil
import sys
import urllib.parse
from typing import Any

import httpx

from saga_project.local import maimed, runfile, servers, stack, supervisor
from saga_project.local.chaos import clocks, disks, proxy

HOST = stack.HOST

WORKERS = ("worker1", "worker2")

PROVIDERS = {"bank": "PAYMENTS_URL", "fiscal": "INVOICING_URL", "carrier": "SHIPPING_URL"}

LINKS = (
    "worker-db", "worker-broker", "web-db", "web-broker",
    *(f"worker-{provider}" for provider in PROVIDERS), "sandbox-web",
)  # fmt: skip

CONCURRENCY = 3
"""Processes of a worker."""

LIMITS = {
    # Callbacks are lost here; what they told is asked for soon.
    "PIX_LIMIT": "10m",
    "PIX_POLL": "5s",
    "DELIVERY_LIMIT": "10m",
    "DELIVERY_POLL": "5s",
    # One token is all customers here.
    "API_RATE": "1000",
    "API_BURST": "5000",
}

LOST_WAIT_S = 2.0

Json = dict[str, Any]


class World:
    """All of it."""

    def __init__(
        self,
        run: pathlib.Path,
        keeper: supervisor.Supervisor,
        *,
        second_beat: bool,
        without: str = "",
        longest_line: int = 0,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            run: a directory for what they keep.
            keeper: starts and stops the programs.
            second_beat: whether there is to be a second beat, too.
            without: the safeguard that web, workers and beat do without; none by default.
            longest_line: with so many orders in a line the shop takes no more; 0 for no such bound.
        """
        self.second_beat = second_beat
        self.without = without
        self.longest_line = longest_line
        self.run = run
        self.keeper = keeper
        self.postgres = disks.Postgres(run / "postgres")
        self.valkey = disks.Valkey(run / "valkey")
        self.ports = {name: servers.free_port() for name in ("web", "sandbox", *LINKS)}
        self.proxy = proxy.Control(run / "proxy")
        self.clocks = {
            name: clocks.Clock(run / "clocks", name) for name in ("web", *WORKERS, "beat", "beat2")
        }
        self.env: dict[str, str] = {}
        """What is told to who does not go by a link: `manage.py`."""
        self.queues: list[str] = []
        self.code = runfile.ROOT
        """The release that is started."""
        self.rates: dict[int, Json] = {}
        """Which random faults of the sandbox are on, by the number of the blow that wants them."""

    @property
    def shop_url(self) -> str:
        """Where the customers order."""
        return f"http://{HOST}:{self.ports['web']}"

    @property
    def sandbox_url(self) -> str:
        """Where a PIX is paid, and the providers' books are."""
        return f"http://{HOST}:{self.ports['sandbox']}"

    def start(self) -> None:
        """Start everything, and come back when it is ready.

        Raises:
            Failed, NotStarted, NoBinaries: something did not start.
            Stopped: somebody asked to stop.
        """
        for clock in self.clocks.values():
            clock.set(0)
        self.keeper.start(self.program("postgres"), self.program("valkey"))
        self.env = self._environment()
        self.keeper.say("preparing the database: schema, catalogue, accounts")
        told = json.loads(
            self.keeper.run_once(
                "prepare",
                [sys.executable, "-m", "saga_project.local.prepare"],
                env=os.environ | self.env,
            )
        )
        self.env |= told["tokens"]
        self.queues = told["queues"]
        proxy.write_links(
            self.run / "proxy",
            [proxy.Link(name=name, port=self.ports[name], leads_to=self._leads_to(name)) for name in LINKS],
        )
        self.keeper.start(self.program("proxy"), self.program("sandbox"))
        others = ["beat2"] if self.second_beat else []
        self.keeper.start(*(self.program(name) for name in ("web", *WORKERS, "beat", *others)))
        self.keeper.halt(*others, signals=("SIGKILL",))

    def program(self, name: str) -> supervisor.Program:
        """How one of them is started, of the release that is to be."""
        match name:
            case "postgres" | "valkey":
                server = self.postgres if name == "postgres" else self.valkey
                return supervisor.Program(
                    name=name, launch=server.launch, ready=lambda _: server.answers(), stop=server.STOP
                )
            case "proxy":
                module = ["saga_project.local.chaos.proxy", str(self.run / "proxy")]
                return stack.program(name, module, {}, ready=lambda log: "are whole" in log)
            case "sandbox":
                (self.run / "sandbox").mkdir(mode=0o700, exist_ok=True)
                module = [
                    "sandbox", f"--port={self.ports['sandbox']}", f"--data={self.run / 'sandbox'}",
                ]  # fmt: skip
                return stack.program(
                    name,
                    module,
                    self.env | {"WEBHOOK_TARGET": f"http://{HOST}:{self.ports['sandbox-web']}"},
                    ready=lambda _: stack.answers(f"{self.sandbox_url}/healthz"),
                )
            case "web":
                module = ["saga_project.web", f"--host={HOST}", f"--port={self.ports['web']}", "--workers=2"]
                return stack.program(
                    name,
                    module,
                    self._by_links("web", name),
                    ready=lambda _: stack.answers(f"{self.shop_url}/readyz"),
                    code=self.code,
                )
            case "beat" | "beat2":
                arguments = [
                    # What it sends is of no interest but here, where it shows that it does, and when.
                    "beat", f"--schedule={self.run / name}-schedule", "--pidfile=", "--loglevel=DEBUG",
                ]  # fmt: skip
                return stack.celery(
                    name,
                    arguments,
                    self._by_links("worker", name),
                    ready=lambda log: "beat: Starting" in log,
                    code=self.code,
                )
            case _:
                arguments = [
                    "worker", f"--queues={','.join(self.queues)}", f"--concurrency={CONCURRENCY}",
                    f"--hostname={name}@chaos", "--loglevel=INFO", "--without-gossip", "--without-mingle",
                    # How long a result of a dead child may still be under way.
                    "--", f"worker.lost_wait={LOST_WAIT_S}",
                ]  # fmt: skip
                return stack.celery(
                    name,
                    arguments,
                    self._by_links("worker", name),
                    ready=lambda log: " ready." in log,
                    code=self.code,
                )

    def pid(self, name: str) -> int | None:
        """The process of a program; None where it does not run now."""
        return supervisor.processes(self.run).get(name)

    def set_rates(self) -> None:
        """Have the sandbox fail as often as the blows that are on want it to, by the highest rate of each."""
        merged: Json = {}
        for wanted in self.rates.values():
            for name, value in wanted.items():
                merged[name] = max(merged.get(name, value), value)
        httpx.post(f"{self.sandbox_url}/faults", json=merged, timeout=5, trust_env=False).raise_for_status()

    def struck(self) -> dict[str, int]:
        """How often each random fault of the sandbox struck since its process began."""
        told: dict[str, int] = httpx.get(
            f"{self.sandbox_url}/faults/struck", timeout=5, trust_env=False
        ).json()
        return told

    def manage(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        """What a command of `manage.py` prints, of the release that is started.

        Raises:
            Failed: its exit code is none of these, or it has nothing to say but what went wrong.
        """
        return stack.manage(*arguments, code=self.code, env=self.env, codes=codes)

    def keep(self) -> None:
        """Leave what it kept where others can read it: two disks are gone with this process."""
        self.postgres.move_off()
        self.valkey.move_off()

    def discard(self) -> None:
        """Delete what it kept, but for the logs, the history and the report."""
        self.postgres.discard()
        self.valkey.discard()
        for name in ("sandbox", "proxy", "clocks", "release-2"):
            shutil.rmtree(self.run / name, ignore_errors=True)
        for path in self.run.glob("beat*-schedule*"):
            path.unlink()

    # --- Inside ----------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        return {
            "WEB_URL": self.shop_url,
            "SANDBOX_URL": self.sandbox_url,
            "DATABASE_URL": self.postgres.url,
            "BROKER_URL": self.valkey.url,
            **stack.secrets_of(self.run),
            **{
                variable: f"http://{HOST}:{self.ports[f'worker-{name}']}/{name}"
                for name, variable in PROVIDERS.items()
            },
            "DEBUG": "0",
            "PLAIN_HTTP": "1",
            "RUN_DIR": str(self.run),
            "SAGAS_LONGEST_LINE": str(self.longest_line),
            **LIMITS,
        }

    def _by_links(self, whose: str, name: str) -> dict[str, str]:
        """What a program is told that reaches the database and the broker by the proxy."""
        broker = urllib.parse.urlsplit(self.valkey.url)
        there = f"{HOST}:{self.ports[f'{whose}-broker']}"
        database = f"{HOST}:{self.ports[f'{whose}-db']}"
        return self.env | {
            "DATABASE_URL": f"postgresql://saga@{database}/saga?sslmode=disable&gssencmode=disable",
            "BROKER_URL": broker._replace(netloc=f":{broker.password}@{there}").geturl(),
            **self.clocks[name].environment(),
            **(maimed.environment(self.without) if self.without else {}),
        }

    def _leads_to(self, link: str) -> str:
        match link:
            case "worker-db" | "web-db":
                socket = urllib.parse.urlsplit(self.postgres.url).netloc.rpartition("@")[2].rpartition(":")[0]
                return f"{urllib.parse.unquote(socket)}/.s.PGSQL.5432"
            case "worker-broker" | "web-broker":
                broker = urllib.parse.urlsplit(self.valkey.url)
                return f"{broker.hostname}:{broker.port}"
            case "sandbox-web":
                return f"{HOST}:{self.ports['web']}"
            case _:
                return f"{HOST}:{self.ports['sandbox']}"
