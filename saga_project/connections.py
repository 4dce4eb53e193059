"""Connections to the web server: which process takes one, and how long a request on it may be half sent."""

import asyncio
import resource
import socket
from typing import Any

from django.conf import settings
from uvicorn.protocols.http import h11_impl


class Connection(h11_impl.H11Protocol):
    """uvicorn's, which does not ask whether a request that has begun to arrive will ever be all there."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        super().connection_made(transport)
        self._look_at_the_clock()

    def data_received(self, data: bytes) -> None:
        """Stop the clock if this was the last of the headers."""
        super().data_received(data)
        self._look_at_the_clock()

    def on_response_complete(self) -> None:
        """Start the clock for the next request."""
        super().on_response_complete()
        self._look_at_the_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock for good."""
        super().connection_lost(exc)
        self._stop_the_clock()

    def shutdown(self) -> None:
        """The process is to end: streams end too, and go on at another."""
        # Not before Django is set up, which the application does.
        from orders import events

        super().shutdown()
        events.hub.dismiss()

    def _look_at_the_clock(self) -> None:
        """While a request is awaited the clock runs, from when it began to be awaited."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_the_clock()
        elif self._clock is None and not self.transport.is_closing():
            patience = settings.WEB_REQUEST_TIMEOUT.total_seconds()
            self._clock = self.loop.call_later(patience, self.timeout_keep_alive_handler)

    def _stop_the_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


class Loop(asyncio.SelectorEventLoop):
    """asyncio's, which takes one new connection at a time.

    Its own takes as many in a row as there are, so that of a burst one process gets all and the others none;
    and a proxy that keeps its connections would keep them there.
    """

    async def create_server(
        self, *args: Any, sock: socket.socket | None = None, backlog: int = 100, **more: Any
    ) -> asyncio.Server:
        """As asyncio's, for which `backlog` is both how many may wait and how many are taken in a row."""
        if sock is None:
            return await super().create_server(*args, backlog=backlog, **more)
        server = await super().create_server(*args, sock=sock, backlog=1, **more)
        sock.listen(backlog)
        return server


MOST_FILES = 65_536


def allow_many() -> None:
    """Let this process and its children open as many files as they may: each connection is one.

    A shell or a service manager often grants 1,024, and more to a process that asks.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
