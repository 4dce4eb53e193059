"""The trace to which a request belongs, for what begins in it. A module of its own: it needs the engine."""

from collections.abc import Callable

from django import http

from sagas import engine

Handler = Callable[[http.HttpRequest], http.HttpResponseBase]


class TraceContext:
    """Has what begins in a request belong to the trace that its `traceparent` names (W3C Trace Context)."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def __call__(self, request: http.HttpRequest) -> http.HttpResponseBase:
        """Pass it on. A header that makes no sense is as good as none, as the W3C has it."""
        with engine.traced(request.headers.get("traceparent")):
            return self.handler(request)
