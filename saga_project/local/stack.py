"""The whole stack on one machine: `python -m saga_project.local.stack up [--verbose] | down | discard`.

PostgreSQL, Valkey, the sandbox of the outside world, the web server, workers for every queue, beat and
Flower, in the foreground of one terminal. Its state lies in RUN_DIR (`.run`); with another RUN_DIR and
other ports a second stack runs beside the first.
"""

import base64
import collections.abc
import contextlib
import dataclasses
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from typing import IO

from saga_project.local import runfile, servers, supervisor, terminal

HOST = "127.0.0.1"
"""Nothing here is meant for the network: it is plain HTTP, and the passwords lie in a file."""

PROCESSES = 2
"""How many steps the worker of a queue carries out at once. Every queue has a worker of its own, so that a
provider that is slow holds up its own queue and no other. Which queues there are, the declarations say."""

OTHER_PROCESSES = {"payments": 4, "sagas": 1, "webhooks": 1}
"""Where it is another number: payments has the slowest provider; the other two have little to do."""

PORTS = {"WEB_PORT": 8000, "FLOWER_PORT": 5555, "SANDBOX_PORT": 8899}

CONTRACT = (
    "WEB_URL",
    "API_TOKEN",
    "STAFF_TOKEN",
    "ADMIN_USER",
    "ADMIN_PASSWORD",
    "FLOWER_URL",
    "SANDBOX_URL",
    "DATABASE_URL",
    "BROKER_URL",
)
"""What `.run/env` promises to name; the rest in it is what `manage.py` needs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stack:
    """Where a stack keeps its state and where it listens."""

    run: pathlib.Path
    web_port: int
    flower_port: int
    sandbox_port: int

    def up(self, *, verbose: bool = False, while_open: IO[bytes] | None = None) -> int:
        """Start everything, watch over it until told to stop, stop everything.

        Args:
            verbose: whether the terminal shows all that the programs log, but for what the clock brings; else
                it shows how orders end and what goes wrong.
            while_open: the end of that stream says to stop, too: who holds its other end is gone.

        Returns:
            The exit code.
        """
        try:
            keeper = supervisor.Supervisor(self.run, choice=None if verbose else terminal.Choice())
        except supervisor.Taken as taken:
            print(taken, file=sys.stderr)
            return 1
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, keeper.ask_to_stop)
        if while_open:
            threading.Thread(target=_wait_for_end, args=[while_open, keeper], daemon=True).start()
        (self.run / "env").unlink(missing_ok=True)
        try:
            self._check_ports()
            self._start(keeper)
            keeper.watch()
        except supervisor.Stopped:
            pass
        except (supervisor.Failed, servers.NotStarted, servers.NoBinaries) as failure:
            keeper.say(f"Not started. {failure}")
            return 1
        finally:
            (self.run / "env").unlink(missing_ok=True)
            keeper.say("stopping")
            keeper.stop()
        keeper.say("stopped")
        return 0

    def down(self) -> int:
        """Stop the stack of this directory, or what a killed one left behind."""
        if not self._stop():
            print(f"nothing is running in {self.run}")
        return 0

    def discard(self) -> int:
        """Stop it and delete all its data."""
        self._stop()
        servers.Postgres(self.run / "postgres").discard()
        shutil.rmtree(self.run, ignore_errors=True)
        return 0

    def _stop(self) -> bool:
        told: list[str] = []

        def say(text: str) -> None:
            told.append(text)
            print(text)

        if not self.run.exists():
            return False
        supervisor.stop_supervisor(self.run, say=say)
        try:
            # So that nobody begins there meanwhile, whose processes would be taken for left behind.
            with supervisor.take(self.run):
                supervisor.stop_leftovers(self.run, say=say)
                (self.run / "env").unlink(missing_ok=True)
        except supervisor.Taken as taken:
            raise SystemExit(str(taken)) from None
        return bool(told)

    def _start(self, keeper: supervisor.Supervisor) -> None:
        own: dict[str, servers.Postgres | servers.Valkey] = {
            "DATABASE_URL": servers.Postgres(self.run / "postgres"),
            "BROKER_URL": servers.Valkey(self.run / "valkey"),
        }
        elsewhere = {
            name: url
            for name in own
            # A shell that sourced `.run/env` once still names ours; that is no other server.
            if (url := os.environ.get(name)) and url != own[name].url
        }
        keeper.start(*(_server(name, server) for name, server in own.items() if name not in elsewhere))
        env = self._environment({name: server.url for name, server in own.items()} | elsewhere)
        tokens, queues = self._prepare(keeper, env)
        env |= tokens
        keeper.start(self._sandbox(env))
        if os.geteuid() == 0:
            keeper.say("you are root, and so is every worker: do not run it so where it matters")
        keeper.start(
            self._web(env),
            *(self._worker(queue, env) for queue in queues),
            self._beat(env),
            self._flower(env),
        )
        runfile.write(self.run / "env", env)
        keeper.say(self._welcome(env))

    def _environment(self, servers_urls: dict[str, str]) -> dict[str, str]:
        """What the programs of this stack, and `manage.py` beside them, are told."""
        sandbox = f"http://{HOST}:{self.sandbox_port}"
        return {
            "WEB_URL": f"http://{HOST}:{self.web_port}",
            "FLOWER_URL": f"http://{HOST}:{self.flower_port}",
            "SANDBOX_URL": sandbox,
            **servers_urls,
            **secrets_of(self.run),
            "PAYMENTS_URL": f"{sandbox}/bank",
            "INVOICING_URL": f"{sandbox}/fiscal",
            "SHIPPING_URL": f"{sandbox}/carrier",
            # What is seen here is what production does ...
            "DEBUG": "0",
            # ... but for TLS, and for a merchant's endpoint, which a developer has on this very machine.
            "PLAIN_HTTP": "1",
            "WEBHOOKS_TO_PRIVATE_ADDRESSES": "1",
            "RUN_DIR": str(self.run),
        }

    def _prepare(
        self, keeper: supervisor.Supervisor, env: dict[str, str]
    ) -> tuple[dict[str, str], list[str]]:
        """Make the database ready; the tokens for the API, and the queues that need a worker."""
        keeper.say("preparing the database: schema, catalogue, accounts")
        told = json.loads(
            keeper.run_once(
                "prepare", [sys.executable, "-m", "saga_project.local.prepare"], env=os.environ | env
            )
        )
        _write_secrets(self.run, secrets_of(self.run) | told["tokens"])
        return told["tokens"], told["queues"]

    def _sandbox(self, env: dict[str, str]) -> supervisor.Program:
        (self.run / "sandbox").mkdir(mode=0o700, exist_ok=True)
        address = f"{env['SANDBOX_URL']}/healthz"
        return program(
            "sandbox",
            [
                "sandbox",
                "--port",
                str(self.sandbox_port),
                "--data",
                str(self.run / "sandbox"),
            ],
            env | {"WEBHOOK_TARGET": env["WEB_URL"]},
            ready=lambda _: answers(address),
        )

    def _web(self, env: dict[str, str]) -> supervisor.Program:
        return program(
            "web",
            [
                "saga_project.web",
                f"--host={HOST}",
                f"--port={self.web_port}",
                "--workers=2",
            ],
            env,
            ready=lambda _: answers(f"{env['WEB_URL']}/readyz"),
        )

    def _worker(self, queue: str, env: dict[str, str]) -> supervisor.Program:
        return celery(
            queue,
            [
                "worker",
                f"--queues={queue}",
                f"--concurrency={OTHER_PROCESSES.get(queue, PROCESSES)}",
                f"--hostname={queue}@{HOST}",
                "--loglevel=INFO",
                # Workers have nothing to tell each other; the rows know. Saves a second at the start.
                "--without-gossip",
                "--without-mingle",
            ],
            env,
            ready=lambda log: " ready." in log,
        )

    def _beat(self, env: dict[str, str]) -> supervisor.Program:
        return celery(
            "beat",
            ["beat", f"--schedule={self.run / 'beat-schedule'}", "--pidfile=", "--loglevel=INFO"],
            env,
            ready=lambda log: "beat: Starting" in log,
        )

    def _flower(self, env: dict[str, str]) -> supervisor.Program:
        return celery(
            "flower",
            [
                "flower",
                f"--address={HOST}",
                f"--port={self.flower_port}",
                # Adds the address of a saga's page to its tasks.
                f"--conf={runfile.ROOT / 'saga_project' / 'flowerconfig.py'}",
                # To look, not to touch: what may be done to a saga is done in the admin, with a reason.
                "--read_only=True",
                # Flower keeps its tasks in memory; 100,000, its default, is half a gigabyte.
                "--max_tasks=5000",
            ],
            env,
            ready=lambda _: answers(f"{env['FLOWER_URL']}/healthcheck"),
        )

    def _check_ports(self) -> None:
        taken = [
            f"port {port} is in use; choose another: {name}={port + 1} make up"
            for name, port in zip(PORTS, (self.web_port, self.flower_port, self.sandbox_port), strict=True)
            if not servers.is_free(port)
        ]
        if taken:
            raise supervisor.Failed("; ".join(taken))

    def _welcome(self, env: dict[str, str]) -> str:
        return f"""
Ready. Ctrl-C stops all of it.

  API       {env["WEB_URL"]}/api/v1   Authorization: Token {env["API_TOKEN"]}
  Its docs  {env["WEB_URL"]}/api/docs
  Admin     {env["WEB_URL"]}/admin/   {env["ADMIN_USER"]} / {env["ADMIN_PASSWORD"]}
  Flower    {env["FLOWER_URL"]}
  Sandbox   {env["SANDBOX_URL"]}/books
  Logs      {self.run / "log"}   here you see how orders end, and what goes wrong

In another shell:  . {self.run / "env"}
"""


def from_environment() -> Stack:
    """The stack that RUN_DIR and the ports in the environment describe."""
    web, flower, sandbox = (_port(name, default) for name, default in PORTS.items())
    return Stack(run=runfile.RUN_DIR, web_port=web, flower_port=flower, sandbox_port=sandbox)


def _port(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise SystemExit(f"{name} is {value!r}; it must be a port between 1 and 65535.")
    return int(value)


def _server(variable: str, server: servers.Postgres | servers.Valkey) -> supervisor.Program:
    return supervisor.Program(
        name={"DATABASE_URL": "postgres", "BROKER_URL": "valkey"}[variable],
        launch=server.launch,
        ready=lambda _: server.answers(),
        stop=server.STOP,
    )


def celery(
    name: str,
    arguments: list[str],
    env: dict[str, str],
    ready: collections.abc.Callable[[str], bool],
    code: pathlib.Path = runfile.ROOT,
) -> supervisor.Program:
    """A program of Celery's on this project; the arguments are those of `program`."""
    # Quiet: no banner, which would list every task once for each worker.
    command = ["celery", "--app=saga_project", "--no-color", "--quiet", *arguments]
    return program(name, command, env, ready, code=code)


def program(
    name: str,
    module: list[str],
    env: dict[str, str],
    ready: collections.abc.Callable[[str], bool],
    code: pathlib.Path = runfile.ROOT,
) -> supervisor.Program:
    """A program that is a Python module.

    Arguments:
        name: of the program.
        module: the module and its arguments.
        env: what it is told beside our own environment.
        ready: of what it has written, whether it is ready.
        code: the directory of the code; another one is another release.
    """

    def launch(log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=code,
            env=os.environ | env | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    return supervisor.Program(name=name, launch=launch, ready=ready)


def secrets_of(run: pathlib.Path) -> dict[str, str]:
    """The secrets of this stack, made once and kept for its owner alone."""
    path = run / "secrets"
    kept = runfile.read(path) if path.exists() else {}
    wanted = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "PAYMENTS_WEBHOOK_SECRETS": f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "SHIPPING_WEBHOOK_SECRETS": f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "ADMIN_USER": "admin",
        "ADMIN_PASSWORD": secrets.token_urlsafe(12),
    }
    if not wanted.keys() <= kept.keys():
        # A stack of an older version lacks those that came since.
        _write_secrets(run, wanted | kept)
    return runfile.read(path)


def _write_secrets(run: pathlib.Path, pairs: dict[str, str]) -> None:
    runfile.write(run / "secrets", pairs)


def answers(url: str) -> bool:
    """Whether this address answers 200 now."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - ours
        return bool(answer.status == 200)
    return False


def _wait_for_end(stream: IO[bytes], keeper: supervisor.Supervisor) -> None:
    stream.read()
    keeper.ask_to_stop()


def main(arguments: list[str]) -> int:
    """Run the command that the arguments name; the exit code."""
    match arguments:
        case ["up"]:
            return from_environment().up()
        case ["up", "--verbose"]:
            return from_environment().up(verbose=True)
        case ["up", "--while-open"]:
            return from_environment().up(while_open=sys.stdin.buffer)
        case ["down"]:
            return from_environment().down()
        case ["discard"]:
            return from_environment().discard()
    print(__doc__, file=sys.stderr)
    return 2


def manage(
    *arguments: str, code: pathlib.Path, env: collections.abc.Mapping[str, str], codes: tuple[int, ...] = (0,)
) -> str:
    """What a command of `manage.py` prints.

    Args:
        arguments: the command and what it is told.
        code: the release that is asked.
        env: what it finds in its environment beside what is there.
        codes: the exit codes that are no failure.

    Raises:
        Failed: its exit code is none of these, or it has nothing to say but what went wrong.
    """
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=code,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode not in codes or (done.returncode and not done.stdout):
        raise supervisor.Failed(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
