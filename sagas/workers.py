"""What the workers say of themselves when they are asked: a command of Celery's remote control, and who asks.

It is answered by a worker's main process, which must not speak with the database: its children are forked
from it. `sagas.tasks` registers it; this module can be imported where there is no Celery.
"""

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Iterator
from typing import Any

from sagas import conf
from sagas.declaration import registry

COMMAND = "sagas_worker"
"""The `manage.py` command that is a worker without Celery."""

PATIENCE = datetime.timedelta(seconds=2)
"""How long after an answer the next one is waited for."""

_SEPARATOR = "\x06\x16"
"""Between the three parts in which kombu keeps on Redis and Valkey that a queue is bound."""

Declared = dict[tuple[str, int], str]
"""Fingerprints of declared sagas by name and version."""


class BrokerAway(Exception):
    """The broker does not answer. The message says what the driver says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker that answered."""

    name: str
    queues: frozenset[str]
    ahead: datetime.timedelta
    """By how much its clock is ahead of this host's at least; zero where its answer was too slow to tell."""

    children: int
    prefetch: int
    """How many messages it takes before one is done; zero for any number."""

    declared: Declared

    understood: bool
    """Whether it knew the question: an engine from before 0.5 does not, and all but its name is unknown."""


def tell(state: Any) -> dict[str, Any]:
    """Queues, clock, settings and declarations of this worker."""
    consumer = state.consumer
    taken = consumer.task_consumer.queues if consumer.task_consumer else []
    children = consumer.controller.concurrency
    # Then Celery itself takes no more than it has processes, on Redis and Valkey; elsewhere it ignores that.
    takes_none_ahead = (
        state.app.conf.worker_disable_prefetch and consumer.connection.transport.driver_type == "redis"
    )
    return {
        "time": time.time(),
        "queues": [queue.name for queue in taken],
        "children": children,
        "prefetch": children if takes_none_ahead or not consumer.qos else consumer.qos.value,
        "declared": [[saga.name, saga.version, saga.fingerprint] for saga in registry.everything()],
    }


def declared() -> Declared:
    """What this process has."""
    return {(saga.name, saga.version): saga.fingerprint for saga in registry.everything()}


def queues() -> list[str]:
    """Every queue that needs a worker, as sagas, tasks and the schedule name them.

    1. The queues of the steps of every declared saga: those of the services.
    2. The engine's own.
    3. Those that another task is bound to, or that the schedule sends a task to.
    """
    app = conf.celery_app()
    app.autodiscover_tasks(force=True)
    bound = [getattr(task, "queue", None) for task in app.tasks.values()]
    scheduled = [entry.get("options", {}).get("queue") for entry in app.conf.beat_schedule.values()]
    named = [name for name in (*bound, *scheduled) if name]
    return sorted({*registry.queues(), conf.ENGINE_QUEUE, *named})


@contextlib.contextmanager
def connected() -> Iterator[Any]:
    """A connection of kombu's to the broker.

    Raises:
        BrokerAway: it does not answer.
    """
    from celery.exceptions import OperationalError

    with conf.celery_app().connection_for_write() as connection:
        try:
            # Each address once.
            connection.ensure_connection(max_retries=max(len(connection.alt), 1), interval_start=0)
        except (OperationalError, OSError) as error:
            raise BrokerAway(str(error)) from error
        yield connection


def ask(connection: Any, patience: datetime.timedelta = PATIENCE) -> list[Worker]:
    """Every worker that answers.

    Arguments:
        connection: to the broker.
        patience: how long after an answer the next one is waited for.
    """
    found: list[Worker] = []
    sent_at = time.time()

    def note(answer: dict[str, Any]) -> None:
        arrived_at = time.time()
        found.extend(_read(name, told, sent_at, arrived_at) for name, told in answer.items())

    conf.celery_app().control.broadcast(
        COMMAND, reply=True, timeout=patience.total_seconds(), callback=note, connection=connection
    )
    return sorted(found, key=lambda worker: worker.name)


def waiting(connection: Any, names: set[str]) -> dict[str, int]:
    """How many messages lie in queues that nobody names, as far as the broker can be asked.

    Redis and Valkey tell every queue that was ever bound; of RabbitMQ only names can be asked after.

    Arguments:
        connection: to the broker.
        names: those to be asked after; a queue that is not there has none.
    """
    channel = connection.default_channel
    if not hasattr(channel, "conn_or_acquire"):
        return {name: count for name in sorted(names) if (count := _count(connection, name))}
    with channel.conn_or_acquire() as client:
        names = names | _bound(channel, client)
        return {
            name: count
            for name in sorted(names)
            if client.type(name) == b"list" and (count := client.llen(name))
        }


def _bound(channel: Any, client: Any) -> set[str]:
    """The queues of messages on Redis or Valkey; those of remote control and events come and go."""
    found = set[str]()
    for key in client.scan_iter(match=channel.keyprefix_queue % "*"):
        if key.endswith((b"pidbox", b"celeryev")):
            continue
        found |= {member.decode().rpartition(_SEPARATOR)[2] for member in client.smembers(key)}
    return found


def _count(connection: Any, name: str) -> int:
    # A channel for each: the broker closes the one on which it refuses something.
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(name, passive=True).message_count)
        except connection.channel_errors as error:
            if getattr(error, "code", None) != 404:
                raise
            return 0


def _read(name: str, told: dict[str, Any], sent_at: float, arrived_at: float) -> Worker:
    if "queues" not in told:
        return Worker(
            name=name, queues=frozenset(), ahead=datetime.timedelta(0), children=0, prefetch=0,
            declared={}, understood=False,
        )  # fmt: skip
    at = told["time"]
    # It looked at its clock between these two moments: only what lies outside of them is the clock's.
    ahead = at - arrived_at if at > arrived_at else min(at - sent_at, 0)
    return Worker(
        name=name,
        queues=frozenset(told["queues"]),
        ahead=datetime.timedelta(seconds=ahead),
        children=told["children"],
        prefetch=told["prefetch"],
        declared={(saga, version): fingerprint for saga, version, fingerprint in told["declared"]},
        understood=True,
    )
