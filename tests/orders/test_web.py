"""The web server as the local stack starts it, and clients that are slow, many, gone, or never done."""

import collections.abc
import contextlib
import signal
import socket
import subprocess
import sys
import threading
from typing import Any
from urllib import parse

import httpx
import pytest
from django.db import connection

from api.models import Scope
from orders import models
from saga_project.local import runfile
from sagas import engine
from sagas.testing import memory_transport
from tests.orders import web_server
from tests.orders.conftest import Api, deliver, member
from tests.orders.test_streams import BRISK, stream
from tests.sandbox.running import Sandbox
from tests.support import waiting

pytestmark = pytest.mark.django_db(transaction=True)

HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
HALF_A_BODY = b"POST /api/v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
HALVES = {"nothing": b"", "half a head": HALF_A_HEAD, "half a body": HALF_A_BODY}


def test_a_thousand_half_sent_requests_keep_nobody_from_an_answer(web: web_server.Web, ana: Api) -> None:
    with contextlib.ExitStack() as stack:
        for n in range(1000):
            stack.enter_context(half_sent(web, [*HALVES.values()][n % 3]))

        for _ in range(10):
            assert httpx.get(f"{web.url}/livez", timeout=30).status_code == 200
        with web.client(ana) as client:
            assert client.get("/orders").status_code == 200


def test_who_does_not_finish_a_request_is_cut_off(environment: dict[str, str]) -> None:
    over = threading.Event()
    with (
        web_server.running(environment, workers=1, WEB_REQUEST_TIMEOUT="2s") as web,
        contextlib.ExitStack() as stack,
    ):
        links = {name: stack.enter_context(half_sent(web, half)) for name, half in HALVES.items()}
        # However diligently the rest trickles in.
        for link in links.values():
            threading.Thread(target=_trickle, args=[link, over], daemon=True).start()

        # The one that is answered first: what is sent to a connection that was closed takes back its answer.
        said = {name: _read_to_the_end(link) for name, link in reversed(links.items())}

        over.set()
    assert said.pop("half a body").startswith(b"HTTP/1.1 408 ")
    assert said == {"nothing": b"", "half a head": b""}


def test_a_connection_may_be_used_again_and_its_next_request_must_come_as_well(
    environment: dict[str, str],
) -> None:
    whole = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        web_server.running(environment, workers=1, WEB_REQUEST_TIMEOUT="2s") as web,
        half_sent(web, whole) as link,
    ):
        for _ in range(3):
            answer = b""
            while not answer.endswith(b'{"status": "ok"}'):
                chunk = link.recv(4096)
                assert chunk, "it was closed too early"
                answer += chunk
            link.sendall(whole)

        link.sendall(HALF_A_HEAD)
        assert _read_to_the_end(link).count(b"HTTP/1.1 200") == 1


def test_streams_and_long_polls_take_no_thread(
    environment: dict[str, str], ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = ana.order().json()
    two_threads = {"WEB_THREADS": "2", "FOLLOWERS_HEARTBEAT": f"{web_server.PATIENCE_S}s"}
    with (
        web_server.running(environment | two_threads, workers=1) as web,
        web.client(ana) as client,
        contextlib.ExitStack() as stack,
    ):
        client = stack.enter_context(_without_limits(web, ana))
        told = [stack.enter_context(stream(client, shown)) for _ in range(100)]
        for one in told:
            assert next(one)["data"]["status"] == "pending"
        ends: list[Any] = []
        for _ in range(50):
            waiter = threading.Thread(
                target=lambda: ends.append(client.get(f"/orders/{shown['id']}?wait=30").json()["status"])
            )
            waiter.start()
            stack.callback(waiter.join)

        assert client.get("/orders").status_code == 200
        broker.deliver_all()
        deliver(ana, shown)
        for one in told:
            assert list(one)[-1]["data"]["status"] == "fulfilled"
        waiting.until(lambda: len(ends) == 50, "all are answered")
    assert set(ends) == {"fulfilled"}


def test_a_client_that_leaves_while_it_waits_is_forgotten(environment: dict[str, str], ana: Api) -> None:
    path = f"/api/v1/orders/{ana.order().json()['id']}?wait=30"
    with web_server.running(environment | BRISK, workers=1) as web:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Token {ana.secret}\r\n\r\n"
        with half_sent(web, head.encode()):
            waiting.until(models.Follower.objects.exists, "it waits")

        waiting.until(lambda: not models.Follower.objects.exists(), "nobody waits any more")


def test_every_web_process_says_the_same_of_what_happened(
    web: web_server.Web, broker: memory_transport.MemoryTransport, sandbox: Sandbox, ana: Api
) -> None:
    assert ana.order().status_code == 202
    broker.deliver_all()
    waiting.until(engine.fold_metrics, "all is folded")
    staff = member("eve", scope=Scope.STAFF, is_staff=True)
    headers = {"Authorization": f"Token {staff.secret}"}

    # The server has two processes, and a connection of its own comes to either; this one is a third.
    texts = [staff.client.get("/metrics", headers=headers).text]
    texts += [httpx.get(f"{web.url}/metrics", headers=headers, timeout=30).text for _ in range(6)]

    counters = [
        [line for line in text.splitlines() if "_total{" in line or "_bucket{" in line] for text in texts
    ]
    assert len(counters[0]) > 20
    assert counters == [counters[0]] * len(texts)
    started = [line for line in counters[0] if line.startswith('sagas_started_total{saga="order-fulfilment"')]
    assert started == [
        'sagas_started_total{saga="order-fulfilment",version="1"} 0.0',
        'sagas_started_total{saga="order-fulfilment",version="2"} 1.0',
    ]


def test_nonsense_on_the_channel_ends_no_stream(
    web: web_server.Web, ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = ana.order().json()
    with web.client(ana) as client, stream(client, shown) as told:
        next(told)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_notify('orders', word) FROM unnest(ARRAY['', 'nonsense', '1e999']) word"
            )
        broker.deliver_all()
        deliver(ana, shown)

        assert list(told)[-1]["data"]["status"] == "fulfilled"


def test_a_stream_ends_whole_when_its_server_is_stopped(environment: dict[str, str], ana: Api) -> None:
    shown = ana.order().json()
    still = {"FOLLOWERS_HEARTBEAT": f"{web_server.PATIENCE_S}s"}
    with (
        web_server.running(environment | still) as web,
        web.client(ana) as client,
        stream(client, shown) as told,
    ):
        next(told)
        with half_sent(web, HALF_A_HEAD):
            web.process.send_signal(signal.SIGTERM)

            assert list(told) == []  # And no error: the last chunk came.
            assert web.process.wait(60) == 0


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_however_it_is_sent(
    web: web_server.Web, ana: Api, chunked: bool
) -> None:
    body: Any = iter([b" " * 65536] * 64) if chunked else b" " * 65536 * 64
    with web.client(ana, **{"Content-Type": "application/json", "Idempotency-Key": "large"}) as client:
        answer = client.post("/orders", content=body)

        assert answer.status_code == 413
        assert answer.json()["type"] == "/api/problems/body-too-large"


def test_a_proxy_says_by_which_scheme_it_was_asked_and_nobody_else(environment: dict[str, str]) -> None:
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    for trusted, status in (("127.0.0.1", 401), ("203.0.113.1", 301)):
        more = {"PLAIN_HTTP": "0", "FORWARDED_ALLOW_IPS": trusted}
        with web_server.running(environment | more, workers=1) as web:
            assert httpx.get(f"{web.url}/api/v1/orders", headers=told).status_code == status


def test_a_server_that_may_open_few_files_takes_as_many_as_it_may() -> None:
    """A shell grants 1,024 of them and more to whoever asks."""
    asks = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(7)[1]));"
        "from saga_project import connections; connections.allow_many();"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    said = subprocess.run([sys.executable, "-c", asks], cwd=runfile.ROOT, capture_output=True, text=True)

    assert int(said.stdout) > 1024, said.stderr


@contextlib.contextmanager
def half_sent(web: web_server.Web, words: bytes) -> collections.abc.Iterator[socket.socket]:
    """A connection on which so much was said."""
    address = parse.urlsplit(web.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as link:
        link.sendall(words)
        yield link


def _without_limits(web: web_server.Web, api: Api) -> httpx.Client:
    return httpx.Client(
        base_url=f"{web.url}/api/v1",
        headers={"Authorization": f"Token {api.secret}"},
        limits=httpx.Limits(max_connections=None),
        timeout=60,
    )


def _trickle(link: socket.socket, over: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not over.wait(0.05):
            link.sendall(b"x")


def _read_to_the_end(link: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := link.recv(4096):
            said += chunk
    return said
