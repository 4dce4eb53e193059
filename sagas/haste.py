"""How a process that answers people sends its messages: no request waits longer than half a second for it.

What was begun is committed by then, and the sweep sends what was not sent. To find out that a broker is in
trouble takes seconds: a node of RabbitMQ that is cut off from the others is there and does not answer, so the
message, the next node's connection and its declarations each take their time. A thread of its own does all
that, and the request waits for it only so long; while the broker is known to be in trouble, not at all.
"""

import contextvars
import dataclasses
import datetime
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TypeVar

import amqp
import celery
from celery.exceptions import OperationalError

from sagas.celery import hasty
from sagas.engine import transport

try:
    from redis import RedisError
except ImportError:  # Who has RabbitMQ does without.

    class RedisError(Exception):  # type: ignore[no-redef]
        """Raised by nobody."""


logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
"""What sending gives."""

WAIT_S = 0.5
"""How long a request waits until its message is sent. Sending goes on without it, and mostly ends well."""

LEFT_ALONE_S = 2.0
"""How long what did not take a message is left alone; then one message tries for all."""

SAID_EVERY_S = 60.0
"""The same trouble is told so often at most."""

TROUBLE = (OperationalError, amqp.AMQPError, amqp.exceptions.MessageNacked, RedisError, OSError)
"""What a broker's client raises where the broker is at fault; anything else is a bug of ours."""


def explain(queue: str, reason: str) -> str:
    """What to say of a queue that RabbitMQ has in another way than this application declares it."""
    return (
        f"It is there, and is not as the Celery application declares it. Stop the workers, delete it"
        f" (`rabbitmqctl delete_queue {queue}`), and start them again: the sweep sends again what was in it."
        f" RabbitMQ says: {reason}"
    )


def publish_in_haste(
    app: "celery.Celery", *, threads: int = 4, explain: Callable[[str, str], str] = explain
) -> None:
    """From now on, and for the rest of its life, this process sends so: call it in `wsgi.py` or `asgi.py`.

    Workers must not: they wait for messages on the same kind of connection, a second at a time.

    Args:
        app: the application that carries the engine's messages.
        threads: how many messages may be sent at once; as many as the process answers requests at once.
        explain: of a queue and what RabbitMQ says of it, what to tell the operator.
    """
    app.conf.update(hasty(app.conf.broker_url, app.conf.broker_transport_options or {}))
    transport.replace(Hasty(transport.current(), threads=threads, explain=explain))


@dataclasses.dataclass
class _Trouble:
    """What this process knows of a broker, or of one of its queues, that did not take a message."""

    again_at: float = 0.0
    """When it may be tried again; zero while nothing is wrong with it."""

    left: int = 0
    """Messages that were not tried since."""

    said_at: float = float("-inf")


class Hasty:
    """A transport, by way of another one that may take its time.

    Args:
        carries: what sends the messages; it is called in threads.
        threads: how many may send at once.
        explain: as of `publish_in_haste`.
    """

    def __init__(
        self,
        carries: transport.Transport,
        *,
        threads: int,
        explain: Callable[[str, str], str] = explain,
    ) -> None:
        self._carries = carries
        self._explain = explain
        self._threads = futures.ThreadPoolExecutor(threads, thread_name_prefix="publish")
        self._lock = threading.Lock()
        self._troubles: dict[str, _Trouble] = {}
        """By the name of a queue; that of the whole broker is empty."""

    def send(self, dispatch: transport.Dispatch) -> None:
        """Send an instance through its next steps."""
        self._try(lambda: self._carries.send(dispatch), _first_queues([dispatch]))

    def send_many(self, dispatches: Sequence[transport.Dispatch]) -> None:
        """Send many instances on, in their order."""
        self._try(lambda: self._carries.send_many(dispatches), _first_queues(dispatches))

    def compensate_late(self, signal_id: int, queue: str) -> None:
        """Have the effect that a late callback tells of undone again."""
        self._try(lambda: self._carries.compensate_late(signal_id, queue), {queue})

    def probe(self, queue: str, sent_at: datetime.datetime) -> None:
        """Send a probe through a queue."""
        self._try(lambda: self._carries.probe(queue, sent_at), {queue})

    def backlog(self, *queues: str) -> int | None:
        """How many messages wait in these queues now, about."""
        # A node that is cut off from the others answers this, and takes no message all the same.
        return self._try(lambda: self._carries.backlog(*queues), set(queues), is_message=False)

    def _try(self, do: Callable[[], Answer], queues: set[str], *, is_message: bool = True) -> Answer:
        """Do it, or leave it to the sweep.

        Args:
            do: speaks with the broker.
            queues: what it is about.
            is_message: whether it tells that messages are taken; else it is no reason to try again.

        Raises:
            NotSent: the broker, or one of the queues, does not take messages now, or takes longer than a
                request may wait; then it goes on being tried.
        """
        self._pass_by(queues, is_message)
        context = contextvars.copy_context()
        job = self._threads.submit(context.run, self._done, do, queues, is_message)
        try:
            return job.result(WAIT_S)
        except futures.TimeoutError:
            if job.done():
                return job.result()
            self._note("", f"it did not take a message within {WAIT_S:g} s")
            raise transport.NotSent(f"not within {WAIT_S:g} s") from None

    def _pass_by(self, queues: set[str], is_message: bool) -> None:
        """Pass by what is in trouble, but for one message in a while that tries for all."""
        now = time.monotonic()
        with self._lock:
            for name in ("", *queues):
                trouble = self._troubles.get(name)
                if trouble is None or not trouble.again_at:
                    continue
                if now < trouble.again_at or not is_message:
                    trouble.left += is_message
                    raise transport.NotSent(f"{_called(name)} did not take a message a moment ago")
                trouble.again_at = now + LEFT_ALONE_S

    def _done(self, do: Callable[[], Answer], queues: set[str], is_message: bool) -> Answer:
        """Do it in this thread, however long it takes, and note how that went."""
        try:
            answer = do()
        except amqp.PreconditionFailed as refused:
            # Not the broker's trouble: the others of its queues take messages.
            name = _refused(str(refused), queues)
            self._note(name, self._explain(name, str(refused)))
            raise transport.NotSent(f"the queue {name} is none of ours") from refused
        except TROUBLE as error:
            self._note("", f"{type(error).__name__}: {error}")
            raise transport.NotSent(str(error)) from error
        if is_message:
            self._well({"", *queues})
        return answer

    def _note(self, name: str, why: str) -> None:
        now = time.monotonic()
        with self._lock:
            trouble = self._troubles.setdefault(name, _Trouble())
            trouble.again_at = now + LEFT_ALONE_S
            if now < trouble.said_at + SAID_EVERY_S:
                return
            trouble.said_at = now
        logger.warning(
            "%s takes no messages; sagas are begun, and the sweep sends them on. %s", _called(name), why
        )

    def _well(self, names: set[str]) -> None:
        with self._lock:
            ended = [(name, self._troubles[name]) for name in names if name in self._troubles]
            ended = [(name, trouble) for name, trouble in ended if trouble.again_at]
            told = [(name, trouble.left) for name, trouble in ended]
            for _, trouble in ended:
                trouble.again_at, trouble.left = 0.0, 0
        for name, left in told:
            logger.info("%s takes messages again; %s were left to the sweep", _called(name), left)


def _first_queues(dispatches: Sequence[transport.Dispatch]) -> set[str]:
    return {dispatch.messages[0].queue for dispatch in dispatches}


def _refused(reason: str, queues: set[str]) -> str:
    """The queue that RabbitMQ names: one of those that were asked for."""
    named = re.search(r"queue '([^']*)'", reason)
    return named[1] if named else sorted(queues)[0]


def _called(name: str) -> str:
    return f"The queue {name}" if name else "The broker"
