"""A receiver of OTLP over HTTP: it reads what comes with OpenTelemetry's own protobuf definitions."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2


class Collector:
    """What has come, and where to send it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.answer = 200
        self.refused = 0
        self.url = ""

    def by_name(self) -> dict[str, list[Any]]:
        """The spans, by their names."""
        found: dict[str, list[Any]] = {}
        for span in self.spans:
            found.setdefault(span.name, []).append(span)
        return found

    def take(self, path: str, body: bytes) -> int:
        """Read a request; the status of the answer."""
        if self.answer != 200:
            self.refused += 1
            return self.answer
        assert path == "/v1/traces"
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            self.resources.append({one.key: one.value.string_value for one in group.resource.attributes})
            self.spans += [span for scope in group.scope_spans for span in scope.spans]
        return 200


@contextlib.contextmanager
def running() -> Iterator[Collector]:
    """A collector on a free port, for as long as the block lasts."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(collector.take(self.path, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
