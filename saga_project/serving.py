"""How a request is answered: it waits on an event loop until it is all there, then a thread works on it.

A connection that says nothing, half a request, a slow reader, a stream and a long poll cost a socket and some
kilobytes of memory each. A thread, and with it a connection to the database, is taken only by a request that
has arrived, and only while it is worked on.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent import futures
from typing import Any, cast

from django import http, urls
from django.conf import settings
from django.core import exceptions, signals
from django.core.handlers import asgi

DRAIN = 16 * 1024 * 1024
"""How much of a body that is too large is still read, so that its sender lives to read the answer."""

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Handler(asgi.ASGIHandler):
    """Django's ASGI handler, but with a fixed number of threads, one of which does all of a request's work.

    Django's own starts a thread for each request, whose connection to the database is new as well, and
    crosses between thread and loop at every middleware: it answers fewer (docs/benchmarks.md).
    """

    def __init__(self) -> None:
        super().__init__()
        self._threads = futures.ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="web")

    def load_middleware(self, is_async: bool = False) -> None:
        """Load all of it synchronous: one thread goes through it from end to end."""
        super().load_middleware(is_async=False)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request.

        1. Its body is read on the loop, however slowly it comes.
        2. A thread answers. An answer that can wait, as that of a long poll can, waits on the loop, and a
           thread answers anew when the wait is over.
        3. The answer is sent from the loop, however slowly it is read.

        A client that leaves ends all of it, but for what a thread is doing at that moment.
        """
        # Whatever else waits on this loop for a thread, such as a stream that reads, takes one of these.
        asyncio.get_running_loop().set_default_executor(self._threads)
        try:
            async with asyncio.timeout(settings.WEB_REQUEST_TIMEOUT.total_seconds()):
                body = await self._body(receive)
        except exceptions.RequestAborted:
            return
        except TimeoutError:
            await self.send_response(http.HttpResponse(status=408, headers={"Connection": "close"}), send)
            return
        gone = asyncio.create_task(self.listen_for_disconnect(receive))
        work = asyncio.create_task(self._answer(scope, body, send))
        try:
            await asyncio.wait([gone, work], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            work.cancel()
            await asyncio.gather(gone, work, return_exceptions=True)
        if not work.cancelled():
            work.result()

    async def _body(self, receive: Receive) -> bytes:
        """The body; of one that is too large, enough to see that it is: it fills neither disk nor memory.

        Raises:
            RequestAborted: the client left.
        """
        body, read = bytearray(), 0
        while read < DRAIN:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise exceptions.RequestAborted
            chunk = message.get("body", b"")
            read += len(chunk)
            body += chunk[: settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1 - len(body)]
            if not message.get("more_body", False):
                break
        return bytes(body)

    async def _answer(self, scope: dict[str, Any], body: bytes, send: Send) -> None:
        response = await self._in_thread(scope, body)
        try:
            if (waiting := getattr(response, "waiting", None)) is not None:
                await waiting()
                response.close()
                response = await self._in_thread({**scope, "has_waited": True}, body)
            if isinstance(response, http.StreamingHttpResponse) and not response.is_async:
                # Such as a static file.
                response.streaming_content = _in_threads(cast(Iterator[bytes], response.streaming_content))
            await self.send_response(response, send)
        finally:
            if not response.closed:
                response.close()

    async def _in_thread(self, scope: dict[str, Any], body: bytes) -> http.HttpResponseBase:
        job = self._threads.submit(self._respond, scope, body)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            # Nobody is there any more whom the answer is for; what it holds must be let go all the same.
            job.add_done_callback(_close)
            raise

    def _respond(self, scope: dict[str, Any], body: bytes) -> http.HttpResponseBase:
        urls.set_script_prefix(asgi.get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, refused = self.create_request(scope, io.BytesIO(body))
        if request is None:
            assert refused is not None, "a request or a refusal"
            return refused
        if len(body) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            # Django refuses by what a form says of its length, and a chunked one says nothing.
            request.META["CONTENT_LENGTH"] = str(len(body))
        response = self.get_response(request)
        if not response.streaming and not hasattr(response, "waiting"):
            # By the thread whose connection to the database is then looked after. It can still be sent.
            response.close()
        return response


async def _in_threads(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of a synchronous answer, each taken in a thread."""
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk


def _close(job: "futures.Future[http.HttpResponseBase]") -> None:
    if not job.cancelled() and job.exception() is None:
        job.result().close()
