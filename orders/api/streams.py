"""An order's progress while it happens: server-sent events, and waiting for the end."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeVar

from django import http
from django.conf import settings
from django.core.handlers import asgi
from django.db import close_old_connections
from django.utils import translation
from rest_framework.request import Request

from api import auth, problems, rendering
from orders import customer_messages, events, models
from sagas import models as saga_models
from sagas import reading, strictjson

RETRY_MS = 2000
"""What a client that was cut off waits before it comes back."""

LONGEST_WAIT_S = 30
READ = 200

T = TypeVar("T")


class EventStream(rendering.JSON):
    """So that `Accept: text/event-stream` finds something; its errors are JSON all the same."""

    media_type = "text/event-stream"
    format = "event-stream"


class Stream:
    """The messages of an answer, and what is to be let go of at its end, though it may never have begun."""

    def __init__(self, messages: AsyncGenerator[bytes, None], held: contextlib.ExitStack) -> None:
        self._messages = messages
        self._held = held

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._messages

    def close(self) -> None:
        """Let go."""
        self._held.close()


class Waiting:
    """What an answer waits for, before it is made anew: the end of an order, or of the caller's patience."""

    def __init__(self, watch: events.Watch, seconds: float) -> None:
        self._watch = watch
        self._seconds = min(seconds, settings.FOLLOWERS_STAY.total_seconds())

    async def __call__(self) -> None:
        """Wait; on an event loop, so that it costs no thread."""
        until = time.monotonic() + self._seconds
        live = saga_models.SagaInstance.objects.filter(
            pk=self._watch.saga_id, finished_at=None, closed_at=None
        )
        while await _ask(live.exists) and not self._watch.over:
            if (left := until - time.monotonic()) <= 0:
                return
            await self._watch.wait(left)


def answer(request: Request, order: models.Order) -> http.HttpResponseBase:
    """The transitions of the order's saga, from the one after `Last-Event-ID` on."""
    after = _last_event_id(request)
    if order.status in models.FINAL and not _read(order.saga_id, after):
        # There is nothing to come: 204 tells an EventSource not to come back.
        return http.HttpResponse(status=204)
    if request.method == "HEAD":
        return http.HttpResponse(content_type="text/event-stream")
    try:
        watch, held = _follow(request, order)
    except events.Greedy:
        raise problems.Problem(
            problems.THROTTLED,
            "You follow as many orders at once as you may: end a stream first, or be told by webhooks.",
            headers={"Retry-After": "2"},
        ) from None
    except events.Full:
        raise problems.Problem(
            problems.UNAVAILABLE, "Too many streams are open here.", headers={"Retry-After": "2"}
        ) from None
    watch.seen = after
    response = http.StreamingHttpResponse(
        Stream(_messages(watch, translation.get_language()), held), content_type="text/event-stream"
    )
    response["Cache-Control"] = "no-store"
    # For proxies that would collect a buffer full first.
    response["X-Accel-Buffering"] = "no"
    return response


def has_waited(request: Request) -> bool:
    """Whether this is the answer that is made after the wait."""
    return isinstance(request._request, asgi.ASGIRequest) and "has_waited" in request._request.scope


def until_end(request: Request, order: models.Order, response: http.HttpResponse, seconds: int) -> None:
    """Have an answer wait until the order has ended, and be made anew then; at most so long.

    The answer is good as it is: it goes out at once where too many wait already, or where the server has no
    event loop to wait on. `Retry-After` says then when to ask again.
    """
    response["Retry-After"] = "1"
    if isinstance(request._request, asgi.ASGIRequest):
        with contextlib.suppress(events.Full):
            watch, held = _follow(request, order)
            response._resource_closers.append(held.close)  # type: ignore[attr-defined]
            response.waiting = Waiting(watch, seconds)  # type: ignore[attr-defined]


def _follow(request: Request, order: models.Order) -> tuple[events.Watch, contextlib.ExitStack]:
    """A watch over the order's saga, and what to close at its end."""
    if not isinstance(request._request, asgi.ASGIRequest):
        raise events.Full  # Nobody would wait here but a thread.
    caller, token = auth.caller(request), auth.token(request)
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(events.hub.watch(order.saga_id, caller_id=caller.pk, token_id=token.pk))
        return watch, stack.pop_all()


async def _messages(watch: events.Watch, language: str) -> AsyncGenerator[bytes, None]:
    """What is there, then what comes, for as long as the token opens it.

    Every event of a saga is written under the lock of its row, so they commit in the order of their ids,
    and "all that are higher than the last one sent" misses none and repeats none (D7).
    """
    yield f"retry: {RETRY_MS}\n\n".encode()
    beat = settings.FOLLOWERS_HEARTBEAT.total_seconds()
    until = time.monotonic() + settings.FOLLOWERS_STAY.total_seconds()
    while not watch.over:
        while unread := await _ask(_read, watch.saga_id, watch.seen):
            for event in unread:
                watch.seen = event.pk
                with translation.override(language):
                    message = _message(event)
                yield message
                if not event.subject and models.status_after(event) in models.FINAL:
                    return
        while not await watch.wait(min(beat, max(0, until - time.monotonic()))):
            if time.monotonic() >= until:
                return
            yield b": still here\n\n"


async def _ask(question: Callable[..., T], *about: Any) -> T:
    """The answer of the database, fetched by a thread on a connection that is alive."""

    def asked() -> T:
        close_old_connections()
        return question(*about)

    return await asyncio.to_thread(asked)


def _read(saga_id: uuid.UUID, after: int) -> list[saga_models.Event]:
    rows = list(events.told().filter(saga_id=saga_id, pk__gt=after).order_by("pk")[:READ])
    if rows or saga_models.SagaInstance.objects.filter(pk=saga_id).exists():
        return rows
    found = reading.archived(saga_id)
    told = found.events if found is not None else []
    return [event for event in told if event.pk > after and events.is_told(event)][:READ]


def _message(event: saga_models.Event) -> bytes:
    kind = "step" if event.subject else "order"
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.pk, kind.encode(), strictjson.dumps(transition(event)))


def transition(event: saga_models.Event) -> dict[str, Any]:
    """One transition, as a customer may see it."""
    told: dict[str, Any] = {"at": strictjson.instant(event.at)}
    if event.subject:
        told |= {
            "step": event.subject,
            "from": event.from_state or None,
            "to": event.to_state,
            "attempt": event.attempt,
        }
        if message := customer_messages.waiting(event):
            told["message"] = message
    else:
        told |= {"status": models.status_after(event)}
    if error := customer_messages.of_event(event):
        told["error"] = error
    return told


def _last_event_id(request: Request) -> int:
    header = request.headers.get("Last-Event-ID", "").strip()
    if not header:
        return 0
    if not header.isascii() or not header.isdigit() or len(header) > 18:
        raise problems.Problem(problems.MALFORMED_REQUEST, "Last-Event-ID must be the id of an event.")
    return int(header)
