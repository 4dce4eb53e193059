"""What has to be done again and again, whoever carries the messages: the sweep, and what goes with it.

With Celery each of these is a task that beat sends (`sagas.tasks`, and `sagas.console.tasks`); on another
transport `manage.py saga_worker` does them.
"""

import dataclasses
import datetime
import logging
import time
from collections.abc import Callable

from django.db import Error

from sagas import conf, database, engine, eventlog, models, tracing
from sagas.engine import archive as archiver
from sagas.engine import sweeping

logger = logging.getLogger("sagas")

FOLD_EVERY_S = 1.0
_fold_at = 0.0


def sweep() -> None:
    """Send on what is due, batch by batch; for no longer than half the time until the next tick.

    So there is never more than one of them for long, and what else its worker has to do goes on beside it.
    """
    until = time.monotonic() + conf.sweep_every().total_seconds() / 2
    while engine.sweep() >= sweeping.BATCH and time.monotonic() < until:
        pass
    _fold(until)
    _log_events(until)


def archive() -> None:
    """Move sagas that ended long ago into the archive, for a while; and let go of what is older still."""
    after, keep = conf.archive_after(), conf.archive_keep()
    if after is not None:
        archiver.run(older_than=after)
    if keep is not None:
        archiver.forget(before=(models.database_now() - keep).date())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Duty:
    """What is done by the clock beside the sweep, in a process that may wait for it."""

    do: Callable[[], object]
    every: datetime.timedelta


_added: list[Duty] = []


def add(do: Callable[[], object], *, every: datetime.timedelta) -> None:
    """Have something done by the clock where no beat sends a task for it.

    Arguments:
        do: may be called by several processes at once, and again after one that was killed amid it.
        every: how long after its beginning it comes again.
    """
    duty = Duty(do=do, every=every)
    if duty not in _added:
        _added.append(duty)


def duties() -> list[Duty]:
    """The archive, the traces where they are wanted, and what apps have added."""
    own = [Duty(do=archive, every=conf.ARCHIVE_EVERY)]
    if tracing.on():
        own.append(Duty(do=tracing.run, every=conf.TRACES_EVERY))
    return [*own, *_added]


def _fold(until: float) -> None:
    """Have the metrics say what happened since; what stands in their way is no reason not to sweep."""
    global _fold_at
    if time.monotonic() < _fold_at:
        return
    _fold_at = time.monotonic() + FOLD_EVERY_S
    try:
        engine.fold_metrics(until=until)
    except Error as error:
        if not database.is_passing(error):
            raise
        logger.warning("the metrics will be folded another time: %s", error)
        database.let_go(error)


def _log_events(until: float) -> None:
    """Tell what happened since, where that is wanted. Another sweep may do so at this moment."""
    if not eventlog.on():
        return
    try:
        eventlog.run(until=until)
    except Error as error:
        if not database.is_passing(error):
            raise
        logger.warning("the events will be logged another time: %s", error)
        database.let_go(error)
