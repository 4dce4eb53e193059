"""Callbacks as a provider sends them: signed by an independent implementation, or caught on their way."""

import collections.abc
import contextlib
import datetime
import http.server
import json
import queue
import threading
from typing import Any

import standardwebhooks
from django.conf import settings

Request = tuple[dict[str, str], bytes]


def secret_for(kind: str) -> str:
    """The newest secret of whoever reports such things."""
    carriers = kind.startswith("shipment")
    secrets: list[str] = settings.SHIPPING_WEBHOOK_SECRETS if carriers else settings.PAYMENTS_WEBHOOK_SECRETS
    return secrets[0]


def signed(
    *,
    kind: str,
    key: str,
    data: dict[str, Any],
    id_: str,
    at: datetime.datetime,
    sent_at: datetime.datetime,
    secret: str = "",
) -> Request:
    """Headers and body, signed by whoever reports such things, or with another secret."""
    content = {"id": id_, "type": kind, "key": key, "occurred_at": at.isoformat(), "data": data}
    body = json.dumps(content)
    signature = standardwebhooks.Webhook(secret or secret_for(kind)).sign(id_, sent_at, body)
    headers = {
        "webhook-id": id_,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": signature,
    }
    return headers, body.encode()


@contextlib.contextmanager
def caught() -> collections.abc.Iterator[tuple[str, queue.Queue[Request]]]:
    """An address, and the callbacks that arrive there."""
    arrived: queue.Queue[Request] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.put((dict(self.headers), body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", arrived
        server.shutdown()
