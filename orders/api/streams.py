"""An order's progress while it happens: server-sent events, and waiting for the end."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent import futures
from typing import Any

from django import http
from django.conf import settings
from django.core.handlers import asgi
from django.db import connection
from rest_framework.request import Request

from orders import following, models, tokens, wire, wording
from orders.api import auth, problems, rendering
from sagas import models as saga_models
from sagas import states

RETRY_MS = 2000
"""What a client that was cut off waits before it comes back."""

LONGEST_WAIT_S = 30
READ = 200


class EventStream(rendering.JSON):
    """So that `Accept: text/event-stream` finds something; its errors are JSON all the same."""

    media_type = "text/event-stream"
    format = "event-stream"


class Stream:
    """Chunks of an answer, and what is to be let go of at its end, though it may never have begun."""

    def __init__(self, chunks: Generator[bytes, None, None], held: contextlib.ExitStack) -> None:
        self._chunks = chunks
        self._held = held

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Let go."""
        self._chunks.close()
        self._held.close()


def answer(request: Request, order: models.Order) -> http.HttpResponseBase:
    """The transitions of the order's saga, from the one after `Last-Event-ID` on."""
    after = _last_event_id(request)
    if states.SagaState(order.saga.state) in states.FINAL and not _read(order.saga_id, after):
        # There is nothing to come: 204 tells an EventSource not to come back.
        return http.HttpResponse(status=204)
    if request.method == "HEAD":
        return http.HttpResponse(content_type="text/event-stream")
    with contextlib.ExitStack() as stack:
        try:
            watch = stack.enter_context(following.hub.watch(order.saga_id, caller_id=auth.caller(request).pk))
        except following.Greedy:
            raise problems.Problem(
                problems.THROTTLED,
                "You follow as many orders at once as you may: end a stream first, or be told by webhooks.",
                headers={"Retry-After": "2"},
            ) from None
        except following.Full:
            raise problems.Problem(
                problems.UNAVAILABLE, "Too many streams are open here.", headers={"Retry-After": "2"}
            ) from None
        held = stack.pop_all()
    token: Any = request.auth  # Ours, which the framework's stubs do not know.
    stream = Stream(_chunks(watch, after, token=token), held)
    by_asgi = isinstance(request._request, asgi.ASGIRequest)
    response = http.StreamingHttpResponse(
        _unhurried(stream, watch) if by_asgi else stream, content_type="text/event-stream"
    )
    response["Cache-Control"] = "no-store"
    # For proxies that would collect a buffer full first.
    response["X-Accel-Buffering"] = "no"
    return response


async def _unhurried(stream: Stream, watch: following.Watch) -> AsyncIterator[bytes]:
    """The same for an ASGI server, whose loop must not wait: a thread does, one for each stream."""
    loop = asyncio.get_running_loop()
    thread = futures.ThreadPoolExecutor(1)
    try:
        while chunk := await loop.run_in_executor(thread, next, stream, b""):
            yield chunk
    finally:
        # The client may be gone while the thread waits for news: wake it, so that it closes and ends.
        watch.tell()
        thread.submit(stream.close)
        thread.shutdown(wait=False)


def wait_for_end(saga_id: uuid.UUID, seconds: int, *, caller_id: int) -> bool:
    """Return when the saga has ended or the time is up; at once, with False, if nobody else may wait here."""
    until = time.monotonic() + min(seconds, settings.FOLLOWERS_STAY.total_seconds())
    live = saga_models.SagaInstance.objects.filter(pk=saga_id, finished_at=None)
    try:
        with following.hub.watch(saga_id, caller_id=caller_id) as watch:
            while live.exists() and (left := until - time.monotonic()) > 0:
                watch.wait(left)
    except following.Full:
        return False
    return True


def _chunks(watch: following.Watch, after: int, *, token: models.Token) -> Generator[bytes, None, None]:
    """What is there, then what comes, for as long as the token opens it.

    Every event of a saga is written under the lock of its row, so they commit in the order of their ids,
    and "all that are higher than the last one sent" misses none and repeats none (D7).
    """
    saga_id = watch.saga_id
    yield f"retry: {RETRY_MS}\n\n".encode()
    until = time.monotonic() + settings.FOLLOWERS_STAY.total_seconds()
    while time.monotonic() < until and tokens.is_live(token):
        while events := _read(saga_id, after):
            for event in events:
                after = event.pk
                yield _message(event)
                if not event.subject and event.to_state in states.FINAL:
                    return
        if not watch.wait(until - time.monotonic()):
            following.hub.renew(saga_id)
            # Nothing happens here: the connection to the database is of more use to others.
            connection.close()
            yield b": still here\n\n"


def _read(saga_id: uuid.UUID, after: int) -> list[saga_models.Event]:
    events = saga_models.Event.objects.filter(saga_id=saga_id, pk__gt=after)
    return list(events.exclude(to_state="").exclude(kind="step.planned").order_by("pk")[:READ])


def _message(event: saga_models.Event) -> bytes:
    kind = "step" if event.subject else "order"
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.pk, kind.encode(), wire.dumps(transition(event)))


def transition(event: saga_models.Event) -> dict[str, Any]:
    """One transition, as a customer may see it."""
    told: dict[str, Any] = {"at": wire.instant(event.at)}
    if event.subject:
        told |= {
            "step": event.subject,
            "from": event.from_state or None,
            "to": event.to_state,
            "attempt": event.attempt,
        }
    else:
        told |= {"status": models.STATUS_OF[states.SagaState(event.to_state)]}
    if error := wording.of_event(event):
        told["error"] = error
    return told


def _last_event_id(request: Request) -> int:
    header = request.headers.get("Last-Event-ID", "").strip()
    if not header:
        return 0
    if not header.isascii() or not header.isdigit() or len(header) > 18:
        raise problems.Problem(problems.MALFORMED_REQUEST, "Last-Event-ID must be the id of an event.")
    return int(header)
