"""What every answer carries: a request id, and a content policy. And what a page says without a database."""

import contextvars
import logging
import re
import time
from collections.abc import Callable

from django import http, shortcuts
from django.conf import settings
from django.core import exceptions

from sagas import database, ids

logger = logging.getLogger(__name__)

Handler = Callable[[http.HttpRequest], http.HttpResponseBase]

ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:\-]{8,64}")
"""A caller may bring its own id, if it cannot be mistaken for anything else in a log."""

_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="-")


class RequestId:
    """Gives each request an id: `request.request_id`, `X-Request-Id` of the answer, and the logs'."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def __call__(self, request: http.HttpRequest) -> http.HttpResponseBase:
        """Take the caller's id or make one, for as long as the request is worked on."""
        given = request.headers.get("X-Request-Id", "")
        request_id = given if ACCEPTABLE_ID.fullmatch(given) else str(ids.uuid7())
        request.request_id = request_id  # type: ignore[attr-defined]
        before = _request_id.set(request_id)
        try:
            response = self.handler(request)
        finally:
            _request_id.reset(before)
        response["X-Request-Id"] = request_id
        return response


access = logging.getLogger("saga_project.access")


class AccessLog:
    """A line for each request that was answered: method, path, status, and how long the answer took to begin.

    Without its query, in which people's names are searched for. Only with `ACCESS_LOG`.

    Raises:
        MiddlewareNotUsed: it is not wanted.
    """

    def __init__(self, handler: Handler) -> None:
        if not settings.ACCESS_LOG:
            raise exceptions.MiddlewareNotUsed
        self.handler = handler

    def __call__(self, request: http.HttpRequest) -> http.HttpResponseBase:
        """Pass it on, and tell what came of it."""
        began = time.monotonic()
        response = self.handler(request)
        seconds = round(time.monotonic() - began, 4)
        about = {"method": request.method, "path": request.path, "status": response.status_code}
        access.info("%s %s %s in %s s", *about.values(), seconds, extra={**about, "seconds": seconds})
        return response


class PrivateApi:
    """What the API answers is one caller's own, unless the answer says otherwise."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def __call__(self, request: http.HttpRequest) -> http.HttpResponseBase:
        """Keep it out of everybody's caches."""
        response = self.handler(request)
        if request.path.startswith("/api/v1/"):
            response.headers.setdefault("Cache-Control", "private, no-store")
        return response


class DatabaseTrouble:
    """Answers 503 with a page where the database is away or busy; the API has a problem document for it."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def __call__(self, request: http.HttpRequest) -> http.HttpResponseBase:
        """Pass the request on; what goes wrong is looked at in `process_exception`."""
        return self.handler(request)

    def process_exception(self, request: http.HttpRequest, error: Exception) -> http.HttpResponse | None:
        """Somebody holds a lock that is wanted, or the server is away; anything else is a bug."""
        database.let_go(error)
        if not database.is_passing(error):
            return None
        busy = database.is_busy(error)
        logger.warning("The database could not be used: %s", type(error).__name__, exc_info=error)
        answer = shortcuts.render(request, "503.html", {"busy": busy}, status=503)
        answer.headers["Retry-After"] = "1" if busy else "2"
        return answer


class RequestIdFilter(logging.Filter):
    """Puts the id of the request at hand into each log record, as `request_id`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id, and let every record pass."""
        # Django logs a request that ended in an error with the request itself, after RequestId is done.
        request = getattr(record, "request", None)
        record.request_id = getattr(request, "request_id", None) or _request_id.get()
        return True


class ContentSecurityPolicy:
    """Pages load what this site serves, and nothing inline: see SECURE_CSP."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.policy = "; ".join(
            f"{name} {' '.join(sources)}" for name, sources in settings.SECURE_CSP.items()
        )

    def __call__(self, request: http.HttpRequest) -> http.HttpResponseBase:
        """Add the policy, unless the page has its own."""
        response = self.handler(request)
        response.headers.setdefault("Content-Security-Policy", self.policy)
        return response
