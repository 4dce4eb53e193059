"""HTTP: from a path to its provider, and back with the answer, unless a random fault comes between."""

import collections.abc
import contextlib
import dataclasses
import http
import http.server
import json
import re
import socket
import socketserver
import sys
import time
import traceback
import urllib.parse

from sandbox import answers, bank, carrier, core, fiscal, webhooks

BODY_MAX = 64 * 1024
LOST_AFTER_S = 0.2
"""How long a caller hopes before the connection breaks."""

Endpoint = collections.abc.Callable[[core.Sandbox, core.Request], answers.Answer]


def health(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Whether the books can be opened."""
    with sandbox.books.transaction():
        return answers.ok({"status": "ok"})


def show_books(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """All that was really done, seen at one moment."""
    with sandbox.books.transaction() as page:
        tombstones = page.execute("SELECT provider, key FROM tombstones ORDER BY at").fetchall()
        return answers.ok(
            {
                "charges": bank.written(page),
                "invoices": fiscal.written(page),
                "shipments": carrier.written(page),
                "voided_numbers": fiscal.voided_numbers(page),
                "tombstones": [dict(row) for row in tombstones],
            }
        )


def show_faults(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Which faults are on."""
    return answers.ok(vars(sandbox.faults.rates))


def change_faults(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Turn random faults on or, with an empty body, off."""
    return answers.ok(vars(sandbox.faults.change(request.body)))


def show_struck(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """How often each of them struck."""
    return answers.ok(dict(sandbox.faults.struck))


def reset(sandbox: core.Sandbox, request: core.Request) -> answers.Answer:
    """Begin anew: empty books and no random faults. For tests only."""
    sandbox.books.clear()
    sandbox.faults.change({})
    return answers.ok({"status": "ok"})


ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("PUT", "/bank/charges/{key}", bank.charge),
    ("GET", "/bank/charges/{key}", bank.look_up),
    ("POST", "/bank/charges/{key}/refund", bank.refund),
    ("PUT", "/fiscal/invoices/{key}", fiscal.authorize),
    ("GET", "/fiscal/invoices/{key}", fiscal.look_up),
    ("POST", "/fiscal/invoices/{key}/cancel", fiscal.cancel),
    ("POST", "/fiscal/numbers/void", fiscal.void_number),
    ("PUT", "/carrier/shipments/{key}", carrier.book),
    ("GET", "/carrier/shipments/{key}", carrier.look_up),
    ("POST", "/carrier/shipments/{key}/recall", carrier.recall),
    ("POST", "/pix/{key}/pay", bank.pay),
    ("GET", "/books", show_books),
    ("GET", "/books/webhooks", webhooks.log),
    ("GET", "/faults", show_faults),
    ("POST", "/faults", change_faults),
    ("GET", "/faults/struck", show_struck),
    ("GET", "/healthz", health),
    ("POST", "/reset", reset),
)
_ROUTES = [
    (method, re.compile(path.replace("{key}", "(?P<key>[^/]+)")), endpoint)
    for method, path, endpoint in ROUTES
]
_FAULTY_PATHS = ("/bank/", "/fiscal/", "/carrier/")


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """One thread per connection; a crowd of hundreds may knock at once."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], sandbox: core.Sandbox) -> None:
        self.sandbox = sandbox
        super().__init__(address, Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print what went wrong, but for a caller that hung up."""
        if not isinstance(sys.exception(), ConnectionError):
            traceback.print_exc()

    def server_bind(self) -> None:
        """Bind without asking any name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection, kept alive over many requests."""

    protocol_version = "HTTP/1.1"
    server_version = "Sandbox"
    sys_version = ""
    wbufsize = -1
    """Head and body leave together: two small writes would wait for the other side's delayed ACK."""
    timeout = 75
    """Longer than a client keeps an idle connection, so that it is the client who closes it."""
    server: Server

    def do_GET(self) -> None:
        """Answer a request, whatever its method."""
        self._handle()

    do_PUT = do_POST = do_DELETE = do_PATCH = do_GET  # noqa: N815 - The base class has it so.

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of single requests: a crowd's log hides what matters, and the books know."""

    def handle_expect_100(self) -> bool:
        """Ask for the body now, for the caller waits with it."""
        asked = super().handle_expect_100()
        self.wfile.flush()
        return asked

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is not even a request of HTTP, in JSON as everything else."""
        self.close_connection = True
        self._reply(answers.no(code, "bad_request", message or http.HTTPStatus(code).phrase))

    def _handle(self) -> None:
        try:
            body = self._read_body()
        except answers.Invalid as error:
            # What is left of the body would be read as the next request.
            self.close_connection = True
            self._reply(answers.no(400, "invalid", str(error)))
            return
        try:
            answer = self._answer(body)
        except answers.Invalid as error:
            answer = answers.no(400, "invalid", str(error))
        except Exception:
            traceback.print_exc()
            answer = answers.no(500, "bug", "The sandbox has a bug; its output says where.")
        if answer.lost:
            self._break_off()
        else:
            self._reply(answer)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding"):
            raise answers.Invalid("A body needs a Content-Length.")
        length = self.headers.get("Content-Length", "0")
        if not re.fullmatch(r"\d{1,9}", length, re.ASCII):
            raise answers.Invalid("Content-Length must be a number.")
        if int(length) > BODY_MAX:
            raise answers.Invalid(f"A body has at most {BODY_MAX} bytes.")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise answers.Invalid("The body ended before its Content-Length.")
        return body

    def _answer(self, body: bytes) -> answers.Answer:
        path = self.path.partition("?")[0]
        matches = [
            (method, match, endpoint)
            for method, route, endpoint in _ROUTES
            if (match := route.fullmatch(path))
        ]
        if not matches:
            return answers.no(404, "no_such_path", "There is nothing at this path.")
        for method, match, endpoint in matches:
            if method == self.command:
                request = core.Request(
                    key=_key(match.groupdict().get("key")),
                    body=_json(body),
                    idempotency_key=self.headers.get("Idempotency-Key"),
                )
                if path.startswith(_FAULTY_PATHS):
                    return _with_faults(self.server.sandbox, f"{method} {path}", endpoint, request)
                return endpoint(self.server.sandbox, request)
        allowed = ", ".join(method for method, _, _ in matches)
        return answers.no(405, "method_not_allowed", f"This path knows {allowed}.")

    def _reply(self, answer: answers.Answer) -> None:
        body = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _break_off(self) -> None:
        time.sleep(LOST_AFTER_S)
        self.close_connection = True
        with contextlib.suppress(OSError):  # The caller may have hung up first.
            self.connection.shutdown(socket.SHUT_RDWR)


def _with_faults(
    sandbox: core.Sandbox, what: str, endpoint: Endpoint, request: core.Request
) -> answers.Answer:
    """The endpoint's answer with the random faults: late, an error instead, or done and never answered."""
    rates = sandbox.faults.rates
    if rates.are_zero:
        return endpoint(sandbox, request)
    chance = sandbox.faults.chance(what)
    time.sleep(chance.uniform(*rates.latency_ms) / 1000)
    if rates.latency_ms[1]:
        sandbox.faults.strike("latency_ms")
    fails, is_lost = chance.random() < rates.error_rate, chance.random() < rates.lost_reply_rate
    if chance.random() < rates.denied_rate:
        sandbox.faults.strike("denied_rate")
        return answers.denied()
    if fails:
        sandbox.faults.strike("error_rate")
        return answers.unavailable()
    answer = endpoint(sandbox, request)
    if is_lost:
        sandbox.faults.strike("lost_reply_rate")
    return dataclasses.replace(answer, lost=answer.lost or is_lost)


def _key(quoted: str | None) -> str:
    key = urllib.parse.unquote(quoted or "")
    if quoted is not None and not re.fullmatch(r"[\x21-\x7e]{1,200}", key):
        raise answers.Invalid("A key has 1 to 200 visible ASCII characters.")
    return key


def _json(body: bytes) -> answers.Json:
    if not body:
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise answers.Invalid("The body must be JSON.") from None
    if not isinstance(value, dict):
        raise answers.Invalid("The body must be a JSON object.")
    return value
