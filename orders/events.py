"""Following a saga as it moves: one LISTEN connection per process, and rows as the only truth.

A notification says "look again" and no more, so one that is lost, late or doubled changes nothing: whoever
follows reads the rows after each, and the process looks for all of them now and then without one.

Those who follow wait on an event loop and cost no thread. What has to be asked for all of them at every
heartbeat is asked by one thread, in three statements, however many they are.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection
from django.db.models import Max, Q, QuerySet

from api import tokens
from orders import models
from sagas import models as saga_models

logger = logging.getLogger(__name__)

CHANNEL = "orders"
TICK_S = 1.0
"""How long the listener outlives the last who follows; no statement is sent for it."""

RECONNECT_S = 1.0
LONGEST_RECONNECT_S = 15.0
MISSED_BEATS = 4
"""A process that has not said so for so many heartbeats does not follow any more."""


class Full(Exception):
    """This process follows as many sagas at once as it can."""


class Greedy(Full):
    """One caller follows as many at once as leaves room for others."""


class Watch:
    """One who follows one saga: told from any thread, waiting on an event loop."""

    def __init__(self, saga_id: uuid.UUID, *, caller_id: int, token_id: int) -> None:
        self.saga_id = saga_id
        self.caller_id = caller_id
        self.token_id = token_id
        self.seen = 0
        """The id of the last event that was read: nobody is told of those before it."""
        self.over = False
        """Whether to stop: the token was revoked, or the process is about to end."""
        self._told = False
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def wait(self, seconds: float) -> bool:
        """Wait for news, but no longer than so; whether there was some.

        Read after it: what comes meanwhile is news again.
        """
        # In this order, and the other way round in `tell`: one of the two sees what the other did.
        self._loop = asyncio.get_running_loop()
        if self._told:
            self._news.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        came = self._news.is_set()
        self._told = False
        self._news.clear()
        return came

    def tell(self) -> None:
        """There is news, or there may be."""
        self._told = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop has ended, and so has whoever waited.
                self._loop.call_soon_threadsafe(self._news.set)


class Hub:
    """Tells those who follow a saga, in this process, that it moved."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[uuid.UUID, set[Watch]] = {}
        self._left: set[uuid.UUID] = set()
        self._listener: threading.Thread | None = None
        self._process = uuid.uuid4()
        self._listening = threading.Event()

    @contextlib.contextmanager
    def watch(self, saga_id: uuid.UUID, *, caller_id: int, token_id: int) -> Iterator[Watch]:
        """Follow a saga, for that user and by that token, for as long as the block lasts.

        1. The listener is there, and the row that asks for notifications is committed, before the block
           reads anything: whatever is written after that read is notified.
        2. An event whose trigger ran before that row was seen, and which commits after the read, is not;
           it is found by looking again.

        Raises:
            Full: too many follow already.
            Greedy: too many of them are the caller's.
        """
        watch = Watch(saga_id, caller_id=caller_id, token_id=token_id)
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
            self._renew([saga_id])
            yield watch
        finally:
            with self._lock:
                self._watches[saga_id].discard(watch)
                if not self._watches[saga_id]:
                    del self._watches[saga_id]
                    self._left.add(saga_id)

    def dismiss(self) -> None:
        """Have everybody stop: this process is about to end, and another will serve them."""
        with self._lock:
            watches = self._all()
        for watch in watches:
            watch.over = True
            watch.tell()

    def _start(self) -> None:
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, name="orders-listener", daemon=True)
            self._listener.start()

    def _listen(self) -> None:
        """Listen for as long as anybody follows; whoever was cut off looks again for everyone.

        Whatever goes wrong here is put in the log and tried again after a pause: without a listener nobody
        who follows would hear of anything.
        """
        pause = RECONNECT_S
        while not self._deserted():
            try:
                with psycopg.connect(**_parameters(), autocommit=True) as link:
                    link.execute(f"LISTEN {CHANNEL}")
                    self._listening.set()
                    # What was notified while nobody listened is found by looking.
                    next_look = time.monotonic()
                    while not self._deserted():
                        if time.monotonic() >= next_look:
                            self._look()
                            next_look = time.monotonic() + settings.FOLLOWERS_HEARTBEAT.total_seconds()
                            pause = RECONNECT_S
                        left = max(0.01, next_look - time.monotonic())
                        for notice in link.notifies(timeout=min(TICK_S, left), stop_after=100):
                            self._hear(notice.payload)
                        self._forget()
            except Exception:
                logger.warning("could not listen; again in %g s", pause, exc_info=True)
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_RECONNECT_S)
            finally:
                self._listening.clear()
                connection.close()

    def _deserted(self) -> bool:
        """Whether nobody follows any more; then the next one needs a new listener."""
        with self._lock:
            deserted = not self._watches and not self._left
            if deserted:
                self._listener = None
            return deserted

    def _hear(self, payload: str) -> None:
        """Tell those who follow the saga that a notification names."""
        try:
            saga_id = uuid.UUID(payload)
        except ValueError:
            # Anybody who may connect to the database may notify.
            logger.warning("heard a notification that names no saga: %.80r", payload)
            return
        with self._lock:
            watches = list(self._watches.get(saga_id, ()))
        for watch in watches:
            watch.tell()

    def _look(self) -> None:
        """For all who follow: say that this process does, and tell those whose saga or token has changed."""
        with self._lock:
            watches = self._all()
        saga_ids = {watch.saga_id for watch in watches}
        self._renew(saga_ids)
        live = tokens.live({watch.token_id for watch in watches})
        newest = dict(told().filter(saga_id__in=saga_ids).values_list("saga_id").annotate(Max("pk")))
        # It is a while until the next look; until then the connection is of more use to others.
        connection.close()
        for watch in watches:
            watch.over = watch.over or watch.token_id not in live
            if watch.over or newest.get(watch.saga_id, 0) > watch.seen:
                watch.tell()

    def _renew(self, saga_ids: Iterable[uuid.UUID]) -> None:
        """Say that this process follows these sagas, for a while."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO orders_follower (saga_id, process, until)"
                " SELECT saga_id, %s, clock_timestamp() + make_interval(secs => %s)"
                " FROM unnest(%s::uuid[]) saga_id"
                " ON CONFLICT (saga_id, process) DO UPDATE SET until = excluded.until",
                [
                    self._process,
                    MISSED_BEATS * settings.FOLLOWERS_HEARTBEAT.total_seconds(),
                    list(saga_ids),
                ],
            )

    def _forget(self) -> None:
        """Say that nobody here follows those sagas any more that everybody has left."""
        with self._lock:
            left, self._left = self._left, set()
        if not left:
            return
        models.Follower.objects.filter(saga_id__in=left, process=self._process).delete()
        with self._lock:
            back = left & set(self._watches)
        # Who came back meanwhile may have had the row deleted that it had just written.
        if back:
            self._renew(back)
        connection.close()

    def _all(self) -> list[Watch]:
        return [watch for group in self._watches.values() for watch in group]


NOT_TOLD = ("step.planned", "step.skipped")
"""What is no news: a step that an order was never to have. One that an operator skips is another kind."""


def told() -> QuerySet[saga_models.Event]:
    """The events that those who follow are told of: the transitions."""
    # A closing that was written by version 0.1.0 names no state.
    transitions = ~Q(to_state="") | Q(kind=models.CLOSING)
    return saga_models.Event.objects.filter(transitions).exclude(kind__in=NOT_TOLD)


def is_told(event: saga_models.Event) -> bool:
    """Whether that is one of them."""
    transition = event.to_state != "" or event.kind == models.CLOSING
    return transition and event.kind not in NOT_TOLD


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
