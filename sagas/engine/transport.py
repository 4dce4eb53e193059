"""The messages that the engine wants sent, and the interface to what carries them.

The engine decides and knows no broker. What carries its messages is named by the setting
SAGAS_TRANSPORT (Celery by default) and may be replaced, as the simulator does, by anything that
loses, doubles and reorders them: the outcome is the same (D1, D3).
"""

import contextlib
import dataclasses
import datetime
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from django.core import exceptions
from django.db import transaction
from django.utils import module_loading

from sagas import conf
from sagas.declaration import states

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Message:
    """One step of a dispatch."""

    step: str
    queue: str
    remote: bool = False
    """Whether only a worker that serves the queue may carry it out: the queue is its provider's bulkhead."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dispatch:
    """Steps to be gone through in this order, while the saga is in this epoch."""

    saga_id: uuid.UUID
    epoch: int
    name: str
    direction: states.Direction
    messages: tuple[Message, ...]
    inline: bool = True
    """Whether a worker may go on with it in the task of the step before."""

    member: bool = False
    """Whether its only step is done at once with others, and the epoch is that step's own."""

    tried: int = 0
    """How often its first step was tried before, for people who watch the messages; it decides nothing."""


class NotSent(Exception):
    """It is not known to be sent, and who carries it has told why, once for many; the sweep sends it."""


class Transport(Protocol):
    """What carries the messages. Each may be lost, doubled, late or out of order."""

    def send(self, dispatch: Dispatch) -> None:
        """Send an instance through its next steps."""

    def send_many(self, dispatches: Sequence[Dispatch]) -> None:
        """Send many instances on, in their order: each as `send` does, in as few round trips as can be."""

    def compensate_late(self, signal_id: int, queue: str) -> None:
        """Have the effect that a late callback tells of undone again."""

    def probe(self, queue: str, sent_at: datetime.datetime) -> None:
        """Send a probe through a queue."""

    def backlog(self, *queues: str) -> int | None:
        """How many messages wait in these queues now, about; None if it never says: then none is full."""


_named: Transport | None = None
"""The one that the settings name, or that was put in its place."""

_others: list[Transport] = []
"""Those in use in its place; the last one is. Threads may leave off with theirs in any order."""


def current() -> Transport:
    """The transport in use.

    Raises:
        ImproperlyConfigured: the settings name none that can be used.
    """
    global _named
    if _others:
        return _others[-1]
    if _named is None:
        path = conf.transport()
        try:
            _named = module_loading.import_string(path)()
        except ImportError as error:
            raise exceptions.ImproperlyConfigured(
                f"SAGAS_TRANSPORT is {path!r}, which cannot be imported: {error}."
            ) from error
    return _named


def replace(other: Transport) -> None:
    """Have another transport carry the messages in the place of what the settings name, in this process."""
    global _named
    _named = other


@contextlib.contextmanager
def use(other: Transport) -> Iterator[None]:
    """Have another transport carry the messages, in this process and for this long."""
    _others.append(other)
    try:
        yield
    finally:
        _others.remove(other)


def after_commit(*dispatches: Dispatch) -> None:
    """Send these once the transaction has committed; a failure is logged, and the sweep sends them."""
    if len(dispatches) == 1:
        transaction.on_commit(lambda: send(dispatches[0]), robust=True)
    elif dispatches:
        transaction.on_commit(lambda: send_many(dispatches), robust=True)


def send(dispatch: Dispatch) -> None:
    """Send the dispatch now."""
    _try(lambda: current().send(dispatch), f"saga {dispatch.saga_id}, epoch {dispatch.epoch}")


def send_many(dispatches: Sequence[Dispatch]) -> None:
    """Send many now."""
    _try(lambda: current().send_many(dispatches), f"{len(dispatches)} sagas")


def send_late_compensation(signal_id: int, queue: str) -> None:
    """Have a late callback's compensation tried now."""
    _try(lambda: current().compensate_late(signal_id, queue), f"late compensation {signal_id}")


def send_probe(queue: str, sent_at: datetime.datetime) -> bool:
    """Send a probe now; says whether that went well, as far as anybody can know."""
    return _try(lambda: current().probe(queue, sent_at), f"probe of queue {queue}")


def backlog(*queues: str) -> int | None:
    """How many messages wait in queues now, about; 0 if that cannot be known now, None if it never can."""
    try:
        return current().backlog(*queues)
    except NotSent:
        return 0
    except Exception:
        logger.info("how many messages wait in %s cannot be known", ", ".join(queues), exc_info=True)
        return 0


def _try(publish: Callable[[], None], what: str) -> bool:
    """Publish, and go on if that fails: the row still says what is due, and the sweep publishes it (D1).

    Whatever a broker's client may raise counts as failure, and none of it proves that nothing was sent.
    """
    try:
        publish()
    except NotSent as why:
        logger.debug("%s: not sent, the sweep will: %s", what, why)
        return False
    except Exception:
        logger.warning("%s: could not publish; the sweep will", what, exc_info=True)
        return False
    return True
