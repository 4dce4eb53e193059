"""A server that answers as it is told: with what a shop says, or by going wrong in the ways of servers."""

import collections.abc
import contextlib
import dataclasses
import http.server
import json
import socket
import threading
from typing import Any

DROP = "the request is read, and the connection is closed without a word"
HALF = "the answer breaks off in the middle"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    breaks_off: bool = False
    """Whether the connection is closed before the body has all come, as its length says."""


class Server:
    """What it was asked, and what it answers, one after the other."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.answers: list[Answer | str] = []
        self.url = ""

    def will(self, *answers: Answer | str) -> None:
        self.answers += answers

    @property
    def keys(self) -> list[str]:
        return [request.headers["idempotency-key"] for request in self.asked]


@contextlib.contextmanager
def answering() -> collections.abc.Iterator[Server]:
    server = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.asked.append(Request(method=self.command, path=self.path, headers=headers, body=body))
            answer = server.answers.pop(0) if server.answers else Answer(status=418)
            if not isinstance(answer, Answer):
                self.close_connection = True
                if answer == HALF:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(answer.body) + answer.breaks_off))
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = self.close_connection or answer.breaks_off

        def do_GET(self) -> None:
            self.handle_one()

        def do_POST(self) -> None:
            self.handle_one()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(
            target=http_server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        server.url = f"http://127.0.0.1:{http_server.server_port}"
        try:
            yield server
        finally:
            http_server.shutdown()
            thread.join()


def says(data: Any, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = "application/problem+json" if status >= 400 else "application/json"
    return Answer(status=status, body=json.dumps(data).encode(), headers={"Content-Type": kind} | named)


def problem(kind: str, status: int, **members: Any) -> Answer:
    retry_after = members.pop("retry_after", None)
    document = {"type": f"/api/problems/{kind}", "title": kind, "status": status, "request_id": "r-12345678"}
    return says(document | members, status, **({"Retry_After": retry_after} if retry_after else {}))


def events(text: str, *, breaks_off: bool = False) -> Answer:
    return Answer(body=text.encode(), headers={"Content-Type": "text/event-stream"}, breaks_off=breaks_off)
