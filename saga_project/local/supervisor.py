"""Keeps a handful of programs running: start in order, watch, restart with back-off, stop in reverse.

What runs is written down in `processes.json` as it starts, so that after a `kill -9` of the supervisor
itself the next one finds what was left behind, and stops it before it begins.
"""

import collections.abc
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import IO, Any

GENTLY = ("SIGTERM", "SIGKILL")

HEALTHY_AFTER_S = 30
"""A program that ran this long starts again at once; one that ended sooner has to wait its turn."""

LONGEST_PAUSE_S = 15


class Failed(Exception):
    """A program did not become ready, and nothing can go on without it. The message is for the terminal."""


class Stopped(Exception):
    """Somebody asked to stop while the programs were still starting."""


class Taken(Exception):
    """Another supervisor is at work in this directory. The message names its process."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """One program: how to launch it, when it is ready, how to stop it."""

    name: str

    launch: collections.abc.Callable[[IO[bytes]], subprocess.Popen[bytes]]
    """Starts it as the leader of a session of its own, its output into the given file."""

    ready: collections.abc.Callable[[str], bool]
    """Asked again and again with what it has written since it was launched."""

    stop: tuple[str, ...] = GENTLY
    """Signals, one after the other, each with its share of patience."""

    patience_s: float = 120
    """Long, for a slow machine: a program that fails does so long before, by ending."""


@dataclasses.dataclass
class _Running:
    program: Program
    process: subprocess.Popen[bytes]
    launched_at: float
    log_start: int
    pause_s: float = 0.5
    due_at: float | None = None
    halted: bool = False
    """It was ended on purpose, and stays so until it is started again."""


class Supervisor:
    """Of the programs of one directory, `run`, of which it is the only one."""

    def __init__(
        self,
        run: pathlib.Path,
        *,
        verbose: bool = True,
        choice: collections.abc.Callable[[str, str], tuple[str, str] | None] | None = None,
    ) -> None:
        """Take the directory.

        Args:
            run: where the state and the logs are.
            verbose: whether the terminal shows anything of the programs' logs.
            choice: of a program's name and a line of it, what the terminal shows: a label and a text, or
                None for nothing. Without it every line is shown.

        Raises:
            Taken: another supervisor is at work there.
        """
        # First of all: what lies in a directory is not touched by who may not work there.
        self._lock = take(run)
        self.run = run
        self._logs = _Logs(run / "log", verbose=verbose, choice=choice)
        self._groups: list[list[_Running]] = []
        # Plain flags: a signal's handler that sets a threading.Event while the same thread is about to
        # wait for it never returns.
        self._stop_asked = False
        self._stop_asked_at = 0.0
        self._hurry = False
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        stop_leftovers(run, say=self.say)

    def say(self, text: str) -> None:
        """Tell the terminal something in the supervisor's own name."""
        self._logs.say("stack", text)

    def ask_to_stop(self, *_: object) -> None:
        """As a signal handler too: stop; and if asked again, do not wait for anybody."""
        now = time.monotonic()
        # Two signals at once are one wish: make passes on what the whole process group gets as well.
        self._hurry = self._stop_asked and now > self._stop_asked_at + 1
        self._stop_asked, self._stop_asked_at = True, self._stop_asked_at or now

    @property
    def stop_asked(self) -> bool:
        """Whether somebody has asked to stop."""
        return self._stop_asked

    def start(self, *programs: Program) -> None:
        """Launch them side by side, and come back when every one is ready."""
        group: list[_Running] = []
        self._groups.append(group)
        for program in programs:
            group.append(self._launch(program))
            self._record()
        for running in group:
            self._await(running)

    def run_once(self, name: str, command: list[str], env: dict[str, str]) -> str:
        """Run a command to its end, and give what it printed on its standard output."""
        with self._logs.open(name) as log:
            process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
            assert process.stdout
            output: list[bytes] = []
            reader = threading.Thread(target=output.extend, args=[process.stdout], daemon=True)
            reader.start()
            while process.poll() is None:
                if self._asked_within(0.05):
                    _stop(process, GENTLY, 5)
                    raise Stopped
            reader.join()
        if process.returncode:
            raise Failed(f"{name} failed ({_ending(process)}).{self._logs.tail(name)}")
        return b"".join(output).decode()

    def watch(self) -> None:
        """Restart what ends, until asked to stop; but for what was halted.

        A program that keeps ending is started less and less often, so that a broken one does not take
        the machine from the others.
        """
        while not self._asked_within(0.2):
            self.tend()

    def tend(self) -> None:
        """Look once at what runs: what `watch` does again and again."""
        now = time.monotonic()
        for running in self._all():
            if running.halted:
                continue
            if running.due_at is None and running.process.poll() is not None:
                now = time.monotonic()  # It may have ended since the last look at the clock.
                if now - running.launched_at > HEALTHY_AFTER_S:
                    running.pause_s = 0.5
                running.due_at = now + running.pause_s
                self.say(
                    f"{running.program.name} ended ({_ending(running.process)});"
                    f" again in {running.pause_s:g} s"
                )
                running.pause_s = min(running.pause_s * 2, LONGEST_PAUSE_S)
            elif running.due_at is not None and now >= running.due_at:
                self._relaunch(running, running.program)

    def halt(self, *names: str, signals: tuple[str, ...] = ()) -> None:
        """End these programs, side by side, and leave them ended until they are started again.

        Args:
            names: of programs.
            signals: in the place of those that a program's `stop` names.
        """
        chosen = [running for running in self._all() if running.program.name in names]
        for running in chosen:
            running.halted = True
        _side_by_side(lambda running: self._stop_one(running, signals), chosen)

    def start_again(self, *programs: Program) -> None:
        """Launch programs in the place of halted ones of their names; comes back when all are ready."""
        for running in self.launch_again(*programs):
            self._await(running)

    def launch_again(self, *programs: Program) -> list[_Running]:
        """As `start_again`, but comes back at once; what ends before it is ready is launched anew."""
        places = {running.program.name: running for running in self._all()}
        chosen = [places[program.name] for program in programs]
        for running, program in zip(chosen, programs, strict=True):
            self._relaunch(running, program)
        return chosen

    def stop(self) -> None:
        """Stop everything, the last started first, each group side by side; the directory is free then."""
        self._stop_asked = True
        for group in reversed(self._groups):
            _side_by_side(self._stop_one, group)
        self._groups.clear()
        self._record()
        self._logs.close()
        self._lock.close()

    def _all(self) -> list[_Running]:
        return [running for group in self._groups for running in group]

    def _relaunch(self, running: _Running, program: Program) -> None:
        _clear(running.process.pid)  # Children that it left behind do nobody's work.
        fresh = self._launch(program)
        running.program, running.process, running.log_start = program, fresh.process, fresh.log_start
        running.launched_at, running.due_at, running.halted = fresh.launched_at, None, False
        self._record()

    def _launch(self, program: Program) -> _Running:
        if self._stop_asked:
            raise Stopped
        with self._logs.open(program.name) as log:
            log_start = log.tell()
            return _Running(
                program=program,
                process=program.launch(log),
                launched_at=time.monotonic(),
                log_start=log_start,
            )

    def _await(self, running: _Running) -> None:
        name, process = running.program.name, running.process
        while not running.program.ready(self._logs.read(name, running.log_start)):
            if process.poll() is not None:
                raise Failed(f"{name} did not start ({_ending(process)}).{self._logs.tail(name)}")
            if time.monotonic() - running.launched_at > running.program.patience_s:
                raise Failed(
                    f"{name} was not ready within {running.program.patience_s:g} s.{self._logs.tail(name)}"
                )
            if self._asked_within(0.05):
                raise Stopped

    def _asked_within(self, seconds: float) -> bool:
        """Wait so long, and tell whether somebody has asked to stop."""
        time.sleep(0 if self._stop_asked else seconds)
        return self._stop_asked

    def _stop_one(self, running: _Running, signals: tuple[str, ...] = ()) -> None:
        _stop(running.process, signals or running.program.stop, 20, hurried=lambda: self._hurry)
        _clear(running.process.pid)

    def _record(self) -> None:
        """Write down what runs, whole or not at all."""
        rows = [
            {
                "name": running.program.name,
                "group": number,
                "pid": running.process.pid,
                "started": start_of(running.process.pid),
                "stop": running.program.stop,
            }
            for number, group in enumerate(self._groups)
            for running in group
        ]
        fresh = self.run / "processes.json.new"
        fresh.write_text(json.dumps(rows, indent=1))
        fresh.rename(self.run / "processes.json")


def take(run: pathlib.Path) -> IO[str]:
    """Have a directory for oneself, until the file that is returned is closed or this process ends.

    Raises:
        Taken: a supervisor is at work there. Nothing was touched.
    """
    run.mkdir(parents=True, exist_ok=True)
    lock = (run / "supervisor.pid").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with lock:
            lock.seek(0)
            pid = lock.read()
        raise Taken(f"A stack is already running in {run} (process {pid}); `make down` stops it.") from None
    return lock


def processes(run: pathlib.Path) -> dict[str, int]:
    """What a supervisor started in this directory and still runs: process ids by name."""
    return {
        row["name"]: row["pid"]
        for row in _recorded(run)
        if row["started"] and start_of(row["pid"]) == row["started"]
    }


def stop_leftovers(run: pathlib.Path, *, say: collections.abc.Callable[[str], None]) -> None:
    """Stop what a supervisor that was killed left behind, the last started first, side by side.

    A process counts as left behind if its id and its start time are those written down; a process id
    alone may belong to somebody else by now.
    """
    rows = _recorded(run)
    for group in sorted({row["group"] for row in rows}, reverse=True):
        _side_by_side(lambda row: _stop_leftover(row, say), [row for row in rows if row["group"] == group])
    (run / "processes.json").unlink(missing_ok=True)


def stop_supervisor(run: pathlib.Path, *, say: collections.abc.Callable[[str], None]) -> bool:
    """Ask the supervisor of this directory to stop, and wait; false where none is at work."""
    path = run / "supervisor.pid"
    if not path.exists():
        return False
    with path.open("a+") as lock:
        if _locks(lock):
            return False
        lock.seek(0)
        pid = int(lock.read())
        say(f"stopping the stack of process {pid}")
        os.kill(pid, signal.SIGTERM)
        if not _wait_for(lambda: _locks(lock), 90):
            os.kill(pid, signal.SIGKILL)
            _wait_for(lambda: _locks(lock), 10)
    return True


def start_of(pid: int) -> str | None:
    """When the process started, as the kernel tells it; None where there is none, or only its ashes."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except ProcessLookupError:
        return None  # It ended while this read of it.
    except FileNotFoundError:
        if pathlib.Path("/proc/self/stat").exists():
            return None
    # Without /proc (macOS): to the second, which is enough beside the id.
    told = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return told.stdout.strip() or None


class _Logs:
    """One file per program, and all of them on the terminal, each line under its program's name.

    The programs write into files rather than into a pipe of ours, so that nobody who outlives the
    supervisor chokes on a pipe that nobody reads.
    """

    COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)

    def __init__(
        self,
        place: pathlib.Path,
        *,
        verbose: bool,
        choice: collections.abc.Callable[[str, str], tuple[str, str] | None] | None,
    ) -> None:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._place = place
        self._fresh = False
        self._verbose = verbose
        self._choice = choice or (lambda name, line: (name, line))
        self._partly = choice is not None
        self._colourful = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._read_to: dict[str, int] = {}
        self._pen = threading.Lock()
        self._closed = threading.Event()
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()

    def open(self, name: str) -> IO[bytes]:
        if not self._fresh:
            # Not before something is started: a start that is refused leaves the logs of the last run.
            for old in self._place.glob("*.log"):
                old.replace(old.with_suffix(".log.old"))
            self._fresh = True
        log = self._path(name).open("ab")
        self._read_to.setdefault(name, 0)  # Now that there is something that the follower can read.
        return log

    def read(self, name: str, start: int) -> str:
        with self._path(name).open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def tail(self, name: str) -> str:
        """The end of its log, for those who have not just seen it on the terminal."""
        lines = [] if self._verbose and not self._partly else self.read(name, 0).splitlines()[-20:]
        return "\n".join([f" Its log is {self._path(name)}.", *lines])

    def say(self, name: str, text: str) -> None:
        with self._pen:
            for line in text.splitlines():
                self._print(name, line)

    def close(self) -> None:
        self._closed.set()
        self._follower.join()

    def _path(self, name: str) -> pathlib.Path:
        return self._place / f"{name}.log"

    def _follow(self) -> None:
        while not self._closed.wait(0.1):
            self._show_new()
        self._show_new()

    def _show_new(self) -> None:
        if not self._verbose:
            return
        for name in list(self._read_to):
            with self._path(name).open("rb") as log:
                log.seek(self._read_to[name])
                whole, _, _ = log.read().rpartition(b"\n")
            if whole:
                self._read_to[name] += len(whole) + 1
                for line in whole.decode(errors="replace").splitlines():
                    if (shown := self._choice(name, line)) is not None:
                        self.say(*shown)

    def _print(self, name: str, line: str) -> None:
        label = f"{name:<13} |"
        if self._colourful:
            colour = self.COLOURS[list(self._read_to).index(name) % 10] if name in self._read_to else 1
            label = f"\033[{colour}m{label}\033[0m"
        try:
            print(label, line, flush=True)
        except OSError:
            # A window that was closed, a pipe that nobody reads: no reason to die before what runs is
            # stopped. The files have it all.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _recorded(run: pathlib.Path) -> list[dict[str, Any]]:
    path = run / "processes.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return rows


def _stop(
    process: subprocess.Popen[bytes],
    signals: tuple[str, ...],
    patience_s: float,
    hurried: collections.abc.Callable[[], bool] = lambda: False,
) -> None:
    for name in signals:
        if process.poll() is None:
            process.send_signal(signal.Signals[name])
            _wait_for(lambda: process.poll() is not None or hurried(), patience_s)
    process.wait()


def _stop_leftover(row: dict[str, Any], say: collections.abc.Callable[[str], None]) -> None:
    pid, alive = row["pid"], start_of(row["pid"])
    if alive and alive == row["started"]:
        say(f"stopping {row['name']} (process {pid}), left behind by an earlier run")
        for name in row["stop"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.Signals[name])
            if _wait_for(lambda: start_of(pid) != row["started"], 10):
                break
    if alive in (None, row["started"]):
        _clear(pid)


def _side_by_side(work: collections.abc.Callable[[Any], None], items: collections.abc.Iterable[Any]) -> None:
    threads = [threading.Thread(target=work, args=[item]) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _clear(group: int) -> None:
    """End what is left of a process group whose leader is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _ending(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _wait_for(come: collections.abc.Callable[[], bool], timeout_s: float) -> bool:
    patience = time.monotonic() + timeout_s
    while not come():
        if time.monotonic() > patience:
            return False
        time.sleep(0.05)
    return True


def _locks(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True
