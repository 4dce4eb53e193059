"""Following a saga as it moves: one LISTEN connection per process, and rows as the only truth.

A notification says "look again" and no more, so one that is lost, late or doubled changes nothing: whoever
follows reads the rows after each, and now and then without one.
"""

import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection

from orders import models

logger = logging.getLogger(__name__)

CHANNEL = "orders"
TICK_S = 1.0
"""How long the listener outlives the last who follows; no statement is sent for it."""

RECONNECT_S = 1.0
"""How long the listener waits before it connects again; twice as long after each time in vain."""

LONGEST_RECONNECT_S = 30.0
MISSED_BEATS = 4
"""A process that has not said so for so many heartbeats does not follow any more."""


class Full(Exception):
    """This process follows as many sagas at once as it can."""


class Greedy(Full):
    """One caller follows as many at once as leaves room for others."""


class Watch:
    """One who follows one saga."""

    def __init__(self, saga_id: uuid.UUID, caller_id: int) -> None:
        self.saga_id = saga_id
        self.caller_id = caller_id
        self._news = threading.Event()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for news, a heartbeat long or less; whether there was some.

        Read after it: what comes meanwhile is news again. Look anyway when there was none.
        """
        beat = settings.FOLLOWERS_HEARTBEAT.total_seconds()
        came = self._news.wait(beat if seconds is None else min(beat, seconds))
        self._news.clear()
        return came

    def tell(self) -> None:
        """There is news, or there may be."""
        self._news.set()


class Hub:
    """Tells those who follow a saga, in this process, that it moved."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[uuid.UUID, set[Watch]] = {}
        self._listener: threading.Thread | None = None
        self._process = uuid.uuid4()
        self._listening = threading.Event()

    @contextlib.contextmanager
    def watch(self, saga_id: uuid.UUID, *, caller_id: int) -> Iterator[Watch]:
        """Follow a saga, for that user, for as long as the block lasts.

        1. The listener is there, and the row that asks for notifications is committed, before the block
           reads anything: whatever is written after that read is notified.
        2. An event whose trigger ran before that row was seen, and which commits after the read, is not;
           it is found by looking again.

        Raises:
            Full: too many follow already.
            Greedy: too many of them are the caller's.
        """
        watch = Watch(saga_id, caller_id)
        with self._lock:
            here = self._all()
            if len(here) >= settings.FOLLOWERS_PER_PROCESS:
                raise Full
            if [one.caller_id for one in here].count(caller_id) >= settings.FOLLOWERS_PER_CALLER:
                raise Greedy
            self._watches.setdefault(saga_id, set()).add(watch)
            self._start()
        try:
            self._listening.wait(timeout=RECONNECT_S)
            self.renew(saga_id)
            yield watch
        finally:
            with self._lock:
                self._watches[saga_id].discard(watch)
                alone = not self._watches[saga_id]
                if alone:
                    del self._watches[saga_id]
            if alone:
                self._forget(saga_id)

    def renew(self, saga_id: uuid.UUID) -> None:
        """Say that this process follows the saga, for a while."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO orders_follower (saga_id, process, until)"
                " VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s))"
                " ON CONFLICT (saga_id, process) DO UPDATE SET until = excluded.until",
                [saga_id, self._process, MISSED_BEATS * settings.FOLLOWERS_HEARTBEAT.total_seconds()],
            )

    def _forget(self, saga_id: uuid.UUID) -> None:
        try:
            models.Follower.objects.filter(saga_id=saga_id, process=self._process).delete()
        except Exception:
            # It runs out by itself; what matters is that the stream ends.
            logger.warning("could not say that nobody follows saga %s any more", saga_id, exc_info=True)

    def _start(self) -> None:
        if self._listener is None or not self._listener.is_alive():
            self._listener = threading.Thread(target=self._listen, name="orders-listener", daemon=True)
            self._listener.start()

    def _listen(self) -> None:
        """Listen for as long as anybody follows; whoever is cut off tells everyone to look again.

        Whatever goes wrong, it connects again: without it streams would be told of nothing.
        """
        pause_s = RECONNECT_S
        while True:
            try:
                with psycopg.connect(**_parameters(), autocommit=True) as link:
                    link.execute(f"LISTEN {CHANNEL}")
                    self._listening.set()
                    pause_s = RECONNECT_S
                    # What was notified while nobody listened is found by looking.
                    self._tell_all()
                    while not self._deserted():
                        for notice in link.notifies(timeout=TICK_S, stop_after=100):
                            self._hear(notice.payload)
                return
            except Exception:
                if self._deserted():
                    return
                logger.warning(
                    "lost the connection that listens; connecting again in %g s", pause_s, exc_info=True
                )
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_RECONNECT_S)
            finally:
                self._listening.clear()

    def _deserted(self) -> bool:
        """Whether nobody follows any more; then the next one needs a new listener."""
        with self._lock:
            if not self._watches:
                self._listener = None
            return not self._watches

    def _hear(self, payload: str) -> None:
        """Tell those who follow the saga that the notification names; it may name none."""
        try:
            saga_id = uuid.UUID(payload)
        except ValueError:
            logger.warning("a notification that names no saga was left alone: %.100r", payload)
            return
        self._tell(saga_id)

    def _tell(self, saga_id: uuid.UUID) -> None:
        with self._lock:
            watches = list(self._watches.get(saga_id, ()))
        for watch in watches:
            watch.tell()

    def _tell_all(self) -> None:
        with self._lock:
            watches = self._all()
        for watch in watches:
            watch.tell()

    def _all(self) -> list[Watch]:
        return [watch for group in self._watches.values() for watch in group]


hub = Hub()
# A child of a process that listened has none of its threads.
os.register_at_fork(after_in_child=hub.__init__)  # type: ignore[misc]


def _parameters() -> dict[str, Any]:
    """As Django connects, without what is Django's own; past a pooler, which would forget the LISTEN."""
    if settings.DATABASE_DIRECT is not None:
        return dict(settings.DATABASE_DIRECT)
    parameters = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    return dict(parameters)
