"""How this project's processes speak with RabbitMQ: kombu's transport, in which a silent node costs one wait.

A node that hangs, or is cut off from the others, takes connections and bytes, and answers nothing. kombu
waits for it again and again: for each event, for the end of the channel and for that of the connection.
"""

from typing import Any

from kombu import transport
from kombu.transport import pyamqp


class _DropsTheSilent:
    """Drops the connection when an answer is not there in time: it is not even asked to close."""

    connection: Any

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for an answer.

        Raises:
            TimeoutError: it did not come; the connection is closed.
        """
        connection = self.connection
        try:
            return super().wait(*args, **kwargs)  # type: ignore[misc]
        except TimeoutError:
            if connection is not None and not connection.is_listened_to:
                connection.collect()
            raise


class Channel(_DropsTheSilent, pyamqp.Channel):
    """A channel whose confirms are not waited for longer than the connection says."""

    def basic_publish_confirm(self, *args: Any, **kwargs: Any) -> Any:
        """Publish, and wait until the broker has it.

        py-amqp takes the limit with each message only, and Celery has no setting for it.
        """
        kwargs["confirm_timeout"] = kwargs.get("confirm_timeout") or self.connection.confirm_timeout
        return super().basic_publish_confirm(*args, **kwargs)


class Connection(_DropsTheSilent, pyamqp.Connection):
    """A connection.

    Args:
        confirm_timeout: how long a message may take to be confirmed, in seconds; without it, as long as any
            answer may take.
        options: py-amqp's.
    """

    Channel = Channel

    is_listened_to = False
    """Whether a worker's loop waits for messages on it. Such a one Celery drops itself, and begins anew: else
    it would be opened again unseen, and the loop wait for ever at what is closed."""

    def __init__(self, *args: Any, confirm_timeout: float | None = None, **options: Any) -> None:
        self.confirm_timeout = confirm_timeout
        super().__init__(*args, **options)


class Transport(pyamqp.Transport):
    """What kombu has for `amqp://`, with this module's connections."""

    Connection = Connection

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Have a worker's loop wait for what comes."""
        connection.is_listened_to = True
        super().register_with_event_loop(connection, loop)


class SSLTransport(Transport, pyamqp.SSLTransport):
    """What kombu has for `amqps://`, with this module's connections."""

    def establish_connection(self) -> Any:
        """Connect to the node whose turn it is, under its own name.

        kombu keeps the first one's name in options that all connections share, and would look for that in the
        certificates of the others.
        """
        client: Any = self.client
        shared = client.ssl
        try:
            client.ssl = dict(shared) if isinstance(shared, dict) else shared
            return super().establish_connection()
        finally:
            client.ssl = shared


def install() -> None:
    """Have kombu use these for RabbitMQ's addresses, in this process."""
    transport.TRANSPORT_ALIASES |= {
        "amqp": f"{__name__}:Transport",
        "pyamqp": f"{__name__}:Transport",
        "amqps": f"{__name__}:SSLTransport",
    }
