"""How a worker listens to its broker: Celery's consumer, which first looks whether the broker will do."""

import logging
from typing import Any

import redis
from celery import exceptions
from celery.worker import consumer
from kombu.utils import url as urls

from saga_project import broker

logger = logging.getLogger(__name__)

DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class Consumer(consumer.Consumer):
    """A worker's connection to its broker."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[valid-type,misc]  # The stubs have a variable.
        """Its parts: Celery's, but for delayed delivery.

        That would declare 28 quorum queues and as many exchanges at every address each time a worker
        connects, and wait for addresses that are away. It is for messages with an `eta` or a `countdown` on
        queues of topic exchanges. Ours have direct ones, and times are in the rows.
        """

        default_steps = [
            step for step in consumer.Consumer.Blueprint.default_steps if step != DELAYED_DELIVERY
        ]

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Drop the connection, and begin with the next node: at one that hangs each try takes seconds."""
        super().on_connection_error_after_connected(exc)
        self.app.conf.update(broker_url=broker.begun_with_the_next(self.app.conf.broker_url))

    def connect(self) -> Any:
        """Connect, however long that takes; a broker that cannot be used ends the worker, and is told why."""
        connection = super().connect()
        try:
            check(connection, self.app.amqp.queues.consume_from.values())
        except broker.Unfit as unfit:
            logger.critical("%s", unfit)
            raise exceptions.WorkerShutdown(1) from unfit
        return connection


def check(connection: Any, queues: Any = ()) -> None:
    """Look whether the broker at the other end can be used.

    Args:
        connection: kombu's, connected.
        queues: those that are to be as they are declared; where one is missing, it is made.

    Raises:
        Unfit: it is a cluster of Valkey or Redis, or has a queue of the same name and of another type.
    """
    if connection.transport.driver_type == "redis":
        with connection.default_channel.conn_or_acquire() as client:
            try:
                broker.check_valkey(client.info("cluster"))
            except redis.ResponseError as error:
                # Not everybody may ask; then messages tell, by being refused.
                logger.warning("the broker does not say whether it is a cluster: %s", error)
        return
    for queue in queues:
        # A channel for each: the broker closes the one on which it refuses something.
        with connection.channel() as channel:
            try:
                queue.bind(channel).declare()
            except connection.channel_errors as error:
                if getattr(error, "code", None) != 406:
                    raise
                raise broker.precondition(queue.name, urls.maybe_sanitize_url(str(error))) from error
