"""Tasks that a clock sends: of such a task one that waits is as good as a thousand.

Celery's own means against a heap of them is `expires`, a moment by the sender's clock, which is
compared with the taker's clock: with a few seconds of skew between two machines every one of
them has expired. So a tick says no time at all (D9). Instead none is sent while one is waiting: however
long no worker is there, the queue stays as short as that.
"""

from typing import Any

from sagas.celery import Reliable

WAITING_AT_MOST = 1
"""With so many messages in its queue, another tick would tell a worker nothing new."""


class Tick(Reliable):
    """A task that beat sends again and again, through a queue of its own.

    Declare it as `@app.task(base=Tick, queue="...")`. The queue is the task's, whatever a schedule's
    options say, and no tick expires: a schedule written for another version, or for another task, can
    neither send it where other messages wait nor have it thrown away.
    """

    queue: str = ""

    send_events = False
    """What comes every second and says nothing would drown the steps in Flower, which keeps so many tasks."""

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send it, unless one is waiting: then nothing is sent, and None is the answer."""
        options = {name: value for name, value in options.items() if name not in _NOT_FOR_SCHEDULES}
        with self.app.producer_or_acquire(options.get("producer")) as publisher:
            if self._waiting(publisher) >= WAITING_AT_MOST:
                return None
            return super().apply_async(*args, **options | {"producer": publisher, "queue": self.queue})

    def _waiting(self, publisher: Any) -> int:
        """How many messages lie in its queue, as the broker says; a connection that died is replaced."""
        try:
            return self._count(publisher.channel)
        except Exception:
            # What is left of a connection that died may raise anything. Where the broker is still away
            # this fails, and is tried again with the next tick: at the next address, if there are several.
            connection = publisher.connection
            connection.maybe_switch_next()
            connection.collect()
            connection.ensure_connection(max_retries=1, interval_start=0)
            publisher.revive(connection.default_channel)
            return self._count(publisher.channel)

    def _count(self, channel: Any) -> int:
        declared: Any = self.app.amqp.queues[self.queue].bind(channel).queue_declare()
        return int(declared.message_count)


_NOT_FOR_SCHEDULES = ("queue", "routing_key", "exchange", "expires", "eta", "countdown")
