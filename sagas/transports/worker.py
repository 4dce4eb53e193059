"""The worker of `sagas.transports.postgres`: processes that take from lines, and one above them that sweeps.

The process above makes the others and makes them anew when one dies; it runs the sweep, and writes down that
somebody listens. It carries out no step, so that a step which kills its process ends nothing else. What else
comes by the clock (the archive, bulk runs, traces) has a process of its own: it may wait for a collector that
is away, and the sweep may not. At SIGTERM each takes nothing new, and ends when the step that it is at is
recorded.
"""

import contextlib
import datetime
import functools
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import psycopg
from django.db import Error, close_old_connections, connections

from sagas import conf, database, engine, errors, housekeeping
from sagas.transports import carriage, postgres

logger = logging.getLogger("sagas")

LOOK_EVERY_S = 1.0
"""How often a worker looks into its lines though nobody told it to: a NOTIFY may be lost."""

AGAIN_S = 1.0
"""Before another process takes the place of one that died, or a database that is away is asked again."""


class Stopping:
    """Whether this process was told to end; one that is forked from it has this, and is told by itself."""

    def __init__(self) -> None:
        self.told = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)

    def _tell(self, signum: int, frame: FrameType | None) -> None:
        self.told = True


class Above:
    """The process above: it makes the others, sweeps, and says that its queues are served.

    Arguments:
        queues: those that are served.
        processes: how many carry out steps; 0 where another transport carries them.
        sweeps: whether it sweeps, and has one more process for what else comes by the clock.
        listens: the alias of the database connection on which NOTIFY is heard.
    """

    def __init__(self, queues: Sequence[str], *, processes: int, sweeps: bool, listens: str) -> None:
        self._queues, self._processes, self._sweeps, self._listens = queues, processes, sweeps, listens
        self._workers: set[int] = set()
        self._housekeepers: set[int] = set()
        self._next_at = 0.0

    def run(self) -> None:
        """Until it is told to end; then wait for the others."""
        stopping = self._stopping = Stopping()
        while not stopping.told:
            self._reap()
            if time.monotonic() >= self._next_at and self._make_who_is_missing():
                continue
            began = time.monotonic()
            _safely(self._keep_house)
            left_s = conf.sweep_every().total_seconds() - (time.monotonic() - began)
            _sleep(max(min(left_s, 1.0), 0.01), stopping)
        for child in self._workers | self._housekeepers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
        for child in self._workers | self._housekeepers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
        connections.close_all()

    def _keep_house(self) -> None:
        if self._processes:
            for queue in self._queues:
                engine.heard(queue, _name(os.getpid()))
        if self._sweeps:
            housekeeping.sweep()

    def _make_who_is_missing(self) -> bool:
        above = os.getpid()
        if len(self._workers) < self._processes:
            worker = Worker(self._queues, above=above, listens=self._listens, stopping=self._stopping)
            self._workers.add(_process(worker.run))
        elif self._sweeps and not self._housekeepers:
            self._housekeepers.add(_process(Housekeeper(above=above, stopping=self._stopping).run))
        else:
            return False
        return True

    def _reap(self) -> None:
        for child in self._workers | self._housekeepers:
            gone, status = os.waitpid(child, os.WNOHANG)
            if gone:
                self._workers.discard(child)
                self._housekeepers.discard(child)
                self._next_at = time.monotonic() + AGAIN_S
                logger.error("process %s ended with status %s: another takes its place", child, status)


class Housekeeper:
    """The process that does what comes by the clock beside the sweep, one thing after the other.

    Arguments:
        above: the process that made it; when that is gone, it ends.
        stopping: whether it was told to end.
    """

    def __init__(self, *, above: int, stopping: Stopping) -> None:
        self._above, self._stopping = above, stopping

    def run(self) -> None:
        """Until it is told to end, or the process above is gone."""
        duties = housekeeping.duties()
        due_at = [0.0] * len(duties)
        while not self._over:
            for number, duty in enumerate(duties):
                if time.monotonic() >= due_at[number] and not self._over:
                    due_at[number] = time.monotonic() + duty.every.total_seconds()
                    _safely(functools.partial(_do, duty))
            _sleep(min(max(min(due_at) - time.monotonic(), 0.01), 1.0), self._stopping)
        connections.close_all()

    @property
    def _over(self) -> bool:
        return self._stopping.told or os.getppid() != self._above


def _do(duty: housekeeping.Duty) -> None:
    """Do it; a bug in it must not keep the others from being done."""
    close_old_connections()
    try:
        duty.do()
    except (Error, errors.LostRace):
        raise
    except Exception:
        logger.exception("%s.%s failed", duty.do.__module__, duty.do.__name__)


class Worker:
    """One process that carries out steps, one after the other.

    Arguments:
        queues: those that it takes from, in turn.
        above: the process that made it; when that is gone, it ends.
        listens: the alias of the database connection on which NOTIFY is heard.
        stopping: whether it was told to end.
    """

    def __init__(self, queues: Sequence[str], *, above: int, listens: str, stopping: Stopping) -> None:
        self._queues = list(queues)
        self._above = above
        self._listens, self._stopping = listens, stopping
        self._name = ""
        self._ear: Any = None
        self._heard: list[dict[str, Any]] = []

    def run(self) -> None:
        """Until it is told to end, or the process above is gone."""
        self._name = _name(os.getpid())
        while not self._over:
            if not _safely(self._turn):
                self._deafen()
        self._deafen()
        connections.close_all()

    @property
    def _over(self) -> bool:
        return self._stopping.told or os.getppid() != self._above

    def _turn(self) -> None:
        """Do all that there is to do; then wait until somebody says that there is more, or for a while."""
        close_old_connections()
        self._listen()
        busy = True
        while busy and not self._over:
            self._hear(0.0)
            busy = self._said() or self._from_lines()
        if not self._over:
            self._hear(LOOK_EVERY_S)

    def _from_lines(self) -> bool:
        """Take one saga of each line, and carry it; says whether there was any."""
        found = False
        for queue in self._queues:
            for dispatch in [] if self._over else engine.take(queue, 1):
                found = True
                carriage.carry_out(dispatch, worker=self._name, queues=self._queues)
        return found

    def _said(self) -> bool:
        """Do what stands in the notifications themselves."""
        heard, self._heard = self._heard, []
        for said in heard:
            queue = said.get("queue")
            if queue not in self._queues:
                continue
            if "dispatch" in said:
                dispatch = carriage.of_json(said["dispatch"])
                carriage.carry_out(dispatch, worker=self._name, queues=self._queues)
            elif "signal_id" in said:
                engine.compensate_late(said["signal_id"])
            elif "probe" in said:
                at = datetime.datetime.fromisoformat(said["probe"])
                engine.probe_returned(queue, at, self._name, carried_on=True)
        return bool(heard)

    def _listen(self) -> None:
        if self._ear is None:
            self._ear = connections[self._listens].copy()
            with self._ear.cursor() as cursor:
                cursor.execute(f"LISTEN {postgres.CHANNEL}")

    def _hear(self, patience_s: float) -> None:
        """Take in what was said; wait for it for so long if nothing was."""
        for said in self._ear.connection.notifies(timeout=patience_s, stop_after=1 if patience_s else None):
            self._heard.append(json.loads(said.payload))

    def _deafen(self) -> None:
        if self._ear is not None:
            with contextlib.suppress(Error):  # It is given up, whether or not the server still hears that.
                self._ear.close()
            self._ear = None


def _process(run: Callable[[], None]) -> int:
    """Have this run by a process of its own; its number."""
    connections.close_all()  # The other must not inherit this process's.
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        run()
        code = 0
    except Exception:
        logger.exception("a process of the worker ends with a bug")
    finally:
        os._exit(code)  # What the process above has open is not this one's to close.


def _safely(do: Callable[[], None]) -> bool:
    """Do it; a database that is away is asked again a little later.

    An error of the system, or of a statement, may be over by then as well. But that is no database which is
    away, and nobody is to look for it there: where it comes from is logged.
    """
    try:
        do()
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        logger.warning("the connection that listens is gone: %s", error)
    except (Error, errors.LostRace, psycopg.Error, OSError) as error:
        if isinstance(error, errors.LostRace) or database.is_passing(error):
            logger.warning("the database is away, or another was first: %s", error)
        else:
            logger.exception("what the worker does again and again failed")
    else:
        return True
    connections.close_all()
    time.sleep(AGAIN_S)
    return False


def _sleep(seconds: float, stopping: Stopping) -> None:
    until = time.monotonic() + seconds
    while not stopping.told and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))


def _name(process: int) -> str:
    return f"saga-worker@{socket.gethostname()}.{process}"
