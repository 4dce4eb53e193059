"""Servers and workers for a benchmark: each system has workers of its own, and only one's turn it is.

The workers of the others are stopped (SIGSTOP) meanwhile: a process that is stopped computes nothing and asks
nobody, so that it costs nothing but its memory. Whatever ends the benchmark ends all of it.
"""

import collections.abc
import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, Any

import psutil
import psycopg

from benchmarks import measuring

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKERS, CHILDREN = 2, 2
PATIENCE_S = 60
GOING_S = 10
"""How long a worker may take to go once it was asked to."""

SETTLES_S = 1
"""How long the last messages of a turn may take to be acknowledged."""

CELERY = [sys.executable, "-m", "celery"]


class Team:
    """The processes of one system."""

    def __init__(self, name: str, commands: list[list[str]], log: IO[bytes], **environment: str) -> None:
        """Start them.

        Arguments:
            name: of the system.
            commands: one for each process.
            log: where their output goes.
            environment: what they are told beside our own environment.
        """
        self.name = name
        self._commands = commands
        self._log = log
        self._environment = environment
        self._gone: list[int] = []
        self.running = True
        self.members = [self._start(command) for command in commands]

    def mains(self) -> list[psutil.Process]:
        """The processes that we started, as far as they live."""
        alive = []
        for member in self.members:
            with contextlib.suppress(psutil.NoSuchProcess):
                if member.poll() is None:
                    alive.append(psutil.Process(member.pid))
        return alive

    def children(self) -> list[psutil.Process]:
        """The children of these."""
        mains = self.mains()
        pids = {main.pid for main in mains}
        return [one for one in measuring.family(mains) if one.pid not in pids]

    def pause(self) -> None:
        """Stop them where they are: they compute nothing until they may go on."""
        if self.running:
            self._signal(signal.SIGSTOP)
            self.running = False

    def go_on(self) -> None:
        """Let them go on."""
        if not self.running:
            self._signal(signal.SIGCONT)
            self.running = True

    def kill(self, chance: random.Random, *, whole: bool | None = None) -> str:
        """Kill one of them with SIGKILL: a main process, or a child, whichever chance has it; which it was.

        A main process that was killed is started again at once, as whoever supervises it would; a child is
        replaced by its main process. With `whole` the children of the main process die with it.
        """
        places = [place for place, command in enumerate(self._commands) if "worker" in command]
        place = chance.choice(places)
        victim = self.members[place]
        children = psutil.Process(victim.pid).children()
        if whole is None and children and chance.random() < 0.5:
            with contextlib.suppress(psutil.NoSuchProcess):
                chance.choice(children).kill()
            return "a child"
        if whole:
            os.killpg(victim.pid, signal.SIGKILL)
        else:
            victim.kill()
        victim.wait()
        self._gone.append(victim.pid)
        self.members[place] = self._start(self._commands[place])
        return "a worker, children and all" if whole else "a main process"

    def end(self) -> None:
        """Ask them to go, and make those that do not."""
        self.go_on()
        for member in self.members:
            if member.poll() is None:
                member.terminate()
        until = time.monotonic() + GOING_S
        for member in self.members:
            with contextlib.suppress(subprocess.TimeoutExpired):
                member.wait(max(until - time.monotonic(), 0.1))
        # Children, too, that outlived a main process that was killed.
        for group in (*self._gone, *(member.pid for member in self.members)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for member in self.members:
            member.wait()

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            # Ctrl-C is ours to hear: it would reach those that are stopped, too, and when they go on.
            start_new_session=True,
        )

    def _signal(self, number: signal.Signals) -> None:
        # The main process first: one that goes on must not find its children silent.
        for process in (*self.mains(), *self.children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class Field:
    """The servers, and the teams that take turns."""

    def __init__(self, place: pathlib.Path, log: IO[bytes], servers: list[psutil.Process]) -> None:
        self.place = place
        self.log = log
        self.teams: dict[str, Team] = {}
        self.servers = servers
        """PostgreSQL's and the broker's main process, in this order."""

        self._undo = contextlib.ExitStack()
        self.looker = measuring.Looker(os.environ["DATABASE_URL"], os.environ["BROKER_URL"])

    def enlist(self, name: str, commands: list[list[str]], **environment: str) -> Team:
        """Start the processes of a system."""
        team = self.teams[name] = Team(name, commands, self.log, **environment)
        self._undo.callback(team.end)
        return team

    def cpu_s(self, *names: str) -> float:
        """What the processes of these teams and the servers have computed, but for those who look."""
        looks = measuring.cpu_s([psutil.Process(self.looker.pid)])
        mains = [main for name in names for main in self.teams[name].mains()]
        return measuring.cpu_s([*mains, *self.servers]) - looks

    @contextlib.contextmanager
    def turn(self, name: str, *more: str) -> collections.abc.Iterator[Team]:
        """Have only the processes of these teams go on, until the end of the turn; then none does.

        At its end they may acknowledge what they have done: one that is stopped with a message in its hands
        would find it handed out anew.
        """
        self.still()
        for one in (name, *more):
            self.teams[one].go_on()
        try:
            yield self.teams[name]
            until = time.monotonic() + SETTLES_S
            while self.looker.unacknowledged() and time.monotonic() < until:
                time.sleep(0.02)
        finally:
            self.still()

    def still(self) -> None:
        """Let nobody go on."""
        for team in self.teams.values():
            team.pause()

    def at_end(self, callback: collections.abc.Callable[[], object]) -> None:
        """Have this called when all is over."""
        self._undo.callback(callback)

    def close(self) -> None:
        """End everybody."""
        self._undo.close()
        self.looker.close()


def worker(app: str, name: str, *options: str, children: int = CHILDREN) -> list[str]:
    """The command of a Celery worker."""
    return [*CELERY, "-A", app, "worker", "-n", f"{name}@bench", "-c", str(children), "-l", "ERROR", *options]


@contextlib.contextmanager
def field(settings: str, prefix: str = "saga-bench-") -> collections.abc.Iterator[Field]:
    """A durable PostgreSQL that counts, and a Valkey; the environment names them, and these settings."""
    from saga_project.local import servers, throwaway

    place = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
    place.chmod(0o711)
    with contextlib.ExitStack() as undo, (place / "log").open("wb") as log:
        undo.callback(shutil.rmtree, place, ignore_errors=True)
        postgres = servers.Postgres(place / "postgres")
        valkey = servers.Valkey(place / "valkey", durable=False)
        for server in (postgres, valkey):
            undo.callback(server.discard)
            undo.callback(server.stop)
            server.start(log)
        os.environ.update(
            throwaway.environment(place=str(place), database_url=postgres.url, broker_url=valkey.url),
            DJANGO_SETTINGS_MODULE=settings,
        )
        os.environ.pop(throwaway.MARK)
        count_statements(postgres, log)
        mains = [server.process for server in (postgres, valkey)]
        opened = Field(place, log, [psutil.Process(main.pid) for main in mains if main])
        undo.callback(opened.close)
        # Once the end has begun, a second Ctrl-C must not leave half of it running.
        undo.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        try:
            yield opened
        except SystemExit:
            log.flush()
            tail = (place / "log").read_text(errors="replace").splitlines()[-15:]
            print("\n".join(["The last that the processes said:", *tail]), file=sys.stderr)
            raise


def count_statements(postgres: Any, log: Any) -> None:
    """Have a PostgreSQL count its statements, and know when each transaction was committed, from now on.

    It is started anew for that.
    """
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    postgres.stop()
    postgres.start(log)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")


def ready(field: Field, apps: collections.abc.Iterable[tuple[Any, int]]) -> None:
    """Wait until so many processes of the workers of each Celery application answer.

    Raises:
        SystemExit: they do not, or a process has ended.
    """

    def listening(app: Any) -> int:
        for team in field.teams.values():
            if any(member.poll() is not None for member in team.members):
                raise SystemExit(f"A process of {team.name} has ended.")
        replies = app.control.inspect(timeout=1).stats() or {}
        return sum(len(reply["pool"]["processes"]) for reply in replies.values())

    for app, wanted in apps:
        measuring.wait(
            lambda app=app, wanted=wanted: listening(app) >= wanted,
            "the workers did not start",
            seconds=PATIENCE_S,
        )
