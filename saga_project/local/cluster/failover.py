"""Who decides that the primary is gone: a witness that looks at it, and lets the standby take over.

In production this is Patroni, or the provider of the database. This one has no rival and no quorum, which a
drill of one machine does not need: it alone may promote, and the old primary comes back as a standby only.
"""

import collections.abc
import threading
import time

import psycopg

from saga_project.local import pgbouncer, replication

LOOK_EVERY_S = 0.5
PATIENCE = 3
"""Looks in a row that must fail; each gives up after two seconds."""


class Witness:
    """Looks at a pair's primary; when it is gone, promotes the standby and points the pooler at it."""

    def __init__(
        self,
        pair: replication.Pair,
        pooler: pgbouncer.PgBouncer,
        say: collections.abc.Callable[[str], None],
    ) -> None:
        self._pair = pair
        self._pooler = pooler
        self._say = say
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="witness")
        self._failure: BaseException | None = None
        self.failovers = 0
        self.asleep = False
        """While the standby is away there is nobody to promote."""

    def begin(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def check(self) -> None:
        """Raise what ended it, if something did."""
        if self._failure is not None:
            raise self._failure

    def _look(self) -> None:
        try:
            missed = 0
            while not self._stopped.wait(LOOK_EVERY_S):
                missed = 0 if self.asleep or self._answers() else missed + 1
                if missed == PATIENCE:
                    self._fail_over()
                    missed = 0
        except BaseException as failure:
            self._failure = failure

    def _answers(self) -> bool:
        try:
            self._pair.primary.ask("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _fail_over(self) -> None:
        began = time.monotonic()
        old = self._pair.primary.name
        self._pair.promote()
        self._pooler.point(self._pair.primary.url)
        self.asleep = True
        self.failovers += 1
        seconds = time.monotonic() - began
        self._say(f"{old} does not answer: {self._pair.primary.name} is the primary, in {seconds:.1f} s")
