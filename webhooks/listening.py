"""Hearing deliveries on a developer's own machine: `manage.py webhooks listen`.

1. A server on the loopback, and an endpoint of the merchant that leads to it: what it hears are real
   deliveries, made and signed by the worker that makes all others.
2. Each is handed to whoever listens. If it is to be forwarded it is posted on first, byte for byte and with
   its signature, and the answer from there is what the delivery is answered with: a refusal is tried again as
   it would be in production.
3. At the end the endpoint is deleted, with its log.
"""

import contextlib
import dataclasses
import hmac
import http.server
import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib import parse

from django.contrib.auth import models as auth
from django.db import close_old_connections

from sagas import strictjson
from webhooks import errors, models, sender, services, signing

HOST = "127.0.0.1"
DESCRIPTION = "manage.py webhooks listen"
LARGEST = 1 << 20
SIGNED = ("webhook-id", "webhook-timestamp", "webhook-signature")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
    """One delivery."""

    body: bytes
    again: bool
    """Whether this message was heard before."""
    reply: sender.Reply | None
    """What was answered where it was forwarded to."""

    @property
    def message(self) -> dict[str, Any]:
        """What the body says."""
        told: dict[str, Any] = strictjson.loads(self.body.decode())
        return told


@contextlib.contextmanager
def listening(
    *, owner: auth.User, types: list[str], port: int = 0, secret: str = "", forward_to: str = ""
) -> Iterator[tuple[models.Endpoint, "queue.SimpleQueue[Heard]"]]:
    """Have what happens to a merchant's orders delivered here, as long as this lasts.

    Arguments:
        owner: whose orders.
        types: which types of messages.
        port: where to listen; one that is free, unless given.
        secret: signs the messages; a new one, unless given.
        forward_to: a URL that each is posted on to.

    Raises:
        TooMany: the merchant has as many endpoints as there may be.
        PortTaken: another program listens there.
    """
    heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()

    class Handler(_Handler):
        pass

    Handler.heard, Handler.forward_to, Handler.seen = heard, forward_to, set()
    with _serving(port, Handler) as server:
        _clear(owner)
        endpoint = services.create(
            owner=owner,
            url=f"http://{HOST}:{server.server_port}/",
            types=types,
            description=DESCRIPTION,
            secret=secret,
        )
        Handler.secret = endpoint.secret  # Before it serves: what comes meanwhile waits.
        thread = threading.Thread(target=server.serve_forever, name="webhooks-listener", daemon=True)
        thread.start()
        try:
            yield endpoint, heard
        finally:
            close_old_connections()  # It may have been idle for days.
            services.delete(endpoint=endpoint)
            server.shutdown()
            thread.join()


def _serving(port: int, handler: type[http.server.BaseHTTPRequestHandler]) -> http.server.ThreadingHTTPServer:
    try:
        return http.server.ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise errors.PortTaken(str(error)) from error


class _Handler(http.server.BaseHTTPRequestHandler):
    """Takes one delivery."""

    heard: "queue.SimpleQueue[Heard]"
    forward_to: str
    seen: set[str]
    secret: str
    timeout = sender.TIMEOUT_S

    def do_POST(self) -> None:
        """Believe it if it is signed, forward it, hand it on, and answer."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LARGEST:
            self._answer(413)
            return
        body = self.rfile.read(int(length))
        if not self._is_genuine(body):
            self._answer(401)
            return
        id_ = self.headers["webhook-id"]
        again = id_ in self.seen
        self.seen.add(id_)
        reply = self._forward(body) if self.forward_to else None
        self.heard.put(Heard(body=body, again=again, reply=reply))
        if reply is None:
            self._answer(204)
        else:
            # Without an answer we are what a proxy is whose application is gone.
            self._answer(reply.status or 502, reply.retry_after_s)

    def _is_genuine(self, body: bytes) -> bool:
        id_, sent_at, signatures = (self.headers.get(name, "") for name in SIGNED)
        if not sent_at.isascii() or not sent_at.isdigit():
            return False
        wanted = signing.sign(id_=id_, sent_at=int(sent_at), body=body, secret=self.secret).encode()
        return any(hmac.compare_digest(wanted, one.encode()) for one in signatures.split())

    def _forward(self, body: bytes) -> sender.Reply:
        names = ("Content-Type", "User-Agent", *SIGNED)
        headers = {name: self.headers[name] for name in names if name in self.headers}
        return sender.post(self.forward_to, body=body, headers=headers)

    def _answer(self, status: int, retry_after_s: int | None = None) -> None:
        self.send_response(status)
        if retry_after_s is not None:
            self.send_header("Retry-After", str(retry_after_s))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: whoever listens prints."""


def _clear(owner: auth.User) -> None:
    """Delete the endpoints of listeners that were killed: nobody answers at their address any more."""
    for endpoint in models.Endpoint.objects.filter(owner=owner, description=DESCRIPTION):
        parts = parse.urlsplit(endpoint.url)
        try:
            socket.create_connection((parts.hostname, parts.port), timeout=1).close()
        except OSError:
            services.delete(endpoint=endpoint)
