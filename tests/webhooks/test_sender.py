"""The sender goes nowhere private, waits for nobody for long, and says what came of it."""

import collections.abc
import contextlib
import pathlib
import socket
import ssl
import threading
import time
from typing import Any

import pytest

from tests.webhooks.receiver import Receiver
from webhooks import sender

pytestmark = pytest.mark.integration  # It opens sockets.


def test_a_name_that_stands_for_a_private_address_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, place: connected.append(place))

    reply = sender.post("https://localhost/", body=b"{}", headers={})

    assert not reply.ok
    assert "private" in reply.error
    assert connected == []


@pytest.mark.parametrize(
    "places", [["10.0.0.7"], ["8.8.8.8", "127.0.0.1"], ["2606:4700::1", "::ffff:10.0.0.7"]]
)
def test_a_name_of_which_one_address_is_private_is_not_called_at_the_others_either(
    monkeypatch: pytest.MonkeyPatch, places: list[str]
) -> None:
    connected: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, place: connected.append(place))
    _resolve(monkeypatch, "shop.example", places)

    reply = sender.post("https://shop.example/", body=b"{}", headers={})

    assert reply.error == "The host is at a private address."
    assert connected == []


def test_it_is_connected_to_the_very_address_that_was_found_public_and_the_name_is_looked_up_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connected: list[Any] = []

    def connect(self: socket.socket, place: Any) -> None:
        connected.append(place)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    # Whoever looks it up a second time is led to this very machine.
    asked = _resolve(monkeypatch, "shop.example", ["8.8.8.8", "2606:4700::1"], then=["127.0.0.1"])

    reply = sender.post("https://shop.example/", body=b"{}", headers={})

    assert [place[:2] for place in connected] == [("8.8.8.8", 443), ("2606:4700::1", 443)]
    assert asked == ["shop.example"]
    assert reply.error.startswith("ConnectionRefusedError")


def test_of_several_addresses_the_first_that_answers_is_told(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody listens at the other ones.
    _resolve(monkeypatch, "shop.example", ["127.0.0.2", "::1", "127.0.0.1"])

    reply = sender.post(receiver.url.replace("127.0.0.1", "shop.example"), body=b"{}", headers={})

    assert reply.ok
    (headers, _) = receiver.heard[0]
    assert headers["Host"].startswith("shop.example:")


def test_the_certificate_must_be_for_the_name_and_from_somebody_who_is_trusted(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    for name in ("shop.example", "other.example"):
        _resolve(monkeypatch, name, ["127.0.0.1"])

    with _under_tls() as (port, named):
        strange = sender.post(f"https://shop.example:{port}/", body=b"{}", headers={})
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        replies = [
            sender.post(f"https://{name}:{port}/", body=b"{}", headers={})
            for name in ("shop.example", "other.example", "127.0.0.1")
        ]

    assert [reply.status for reply in replies] == [204, None, None]
    assert "self-signed" in strange.error
    assert "not valid for 'other.example'" in replies[1].error
    assert "not valid for '127.0.0.1'" in replies[2].error
    # An address is no name that a server is asked for.
    assert named == ["shop.example", "shop.example", "other.example", None]


def test_a_server_that_says_nothing_under_tls_is_given_up_in_time(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(sender, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        reply = sender.post(f"https://127.0.0.1:{server.getsockname()[1]}/", body=b"{}", headers={})

    assert "no answer within" in reply.error
    assert time.monotonic() - started < 5


def test_a_receiver_that_does_not_read_is_given_up_in_time(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(sender, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        reply = sender.post(url, body=bytes(32 * 1024 * 1024), headers={})

    assert "no answer within" in reply.error
    assert time.monotonic() - started < 5


def test_no_proxy_is_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert sender.post(receiver.url, body=b"{}", headers={}).ok


def test_what_goes_over_the_wire_is_what_is_signed_and_nothing_that_names_us_otherwise(
    receiver: Receiver,
) -> None:
    sender.post(
        receiver.url, body=b'{"a":1}', headers={"Content-Type": "application/json", "webhook-id": "x"}
    )

    (headers, body) = receiver.heard[0]
    assert body == b'{"a":1}'
    assert headers == {
        "Host": receiver.url.split("/")[2],
        "Accept-Encoding": "identity",
        "Content-Length": "7",
        "Connection": "close",
        "Content-Type": "application/json",
        "webhook-id": "x",
    }


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [302], {"Location": receiver.url}

    reply = sender.post(receiver.url, body=b"{}", headers={})

    assert reply.status == 302
    assert not reply.ok
    assert len(receiver.heard) == 1


def test_an_answer_that_never_ends_is_cut_off(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(sender, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            link, _ = server.accept()
            with link, contextlib.suppress(OSError):
                link.recv(65536)
                link.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:
                    link.sendall(b"X-Drip: drop\r\n")
                    time.sleep(0.1)  # The drip itself: slower, and there would be no harm to show.

        threading.Thread(target=drip, daemon=True).start()
        started = time.monotonic()
        reply = sender.post(f"http://127.0.0.1:{server.getsockname()[1]}/", body=b"{}", headers={})

    assert not reply.ok
    assert "no answer within" in reply.error
    assert time.monotonic() - started < 5


def test_of_an_endless_answer_the_beginning_is_read(settings: Any) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with socket.create_server(("127.0.0.1", 0)) as server:

        def pour() -> None:
            link, _ = server.accept()
            with link, contextlib.suppress(OSError):
                link.recv(65536)
                link.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    link.sendall(b"more and more " * 1000)

        pouring = threading.Thread(target=pour, daemon=True)
        pouring.start()
        reply = sender.post(f"http://127.0.0.1:{server.getsockname()[1]}/", body=b"{}", headers={})
        pouring.join(10)

    assert not pouring.is_alive(), "the connection is closed"
    assert reply.ok
    assert reply.response.startswith("more and more")
    assert len(reply.response) == 500


def test_a_name_with_a_hundred_silent_addresses_is_given_up_in_time(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(sender, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(sender, "CONNECT_TIMEOUT_S", 0.2)
    with socket.socket() as server, contextlib.ExitStack() as queue:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        place = server.getsockname()
        # Nobody accepts: whoever comes once these stand in the queue hears nothing.
        for _ in range(4):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(place)
        _resolve(monkeypatch, "slow.example", ["127.0.0.1"] * 100)
        started = time.monotonic()
        reply = sender.post(f"http://slow.example:{place[1]}/", body=b"{}", headers={})

    assert "no answer within" in reply.error
    assert time.monotonic() - started < 5


def test_a_name_server_that_is_silent_keeps_nobody_longer_than_a_silent_receiver(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(sender, "TIMEOUT_S", 0.5)
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(60))
    try:
        reply = sender.post("http://slow.example/", body=b"{}", headers={})

        assert "no answer within" in reply.error
        assert not answered.is_set()
    finally:
        answered.set()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"garb\0age\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all of it",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_is_a_failure_in_words_that_can_be_kept(settings: Any, said: bytes) -> None:
    with _saying(said, settings) as url:
        reply = sender.post(url, body=b"{}", headers={})

    assert reply.status is None
    assert reply.error
    assert reply.error.isprintable()


@pytest.mark.parametrize("after", ["9" * 5000, "-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "٣"])
def test_a_patience_that_makes_no_sense_is_not_asked_for(settings: Any, after: str) -> None:
    said = f"HTTP/1.1 503 Busy\r\nRetry-After: {after}\r\nContent-Length: 0\r\n\r\n".encode()
    with _saying(said, settings) as url:
        reply = sender.post(url, body=b"{}", headers={})

    assert reply.status == 503
    assert reply.retry_after_s is None


@contextlib.contextmanager
def _saying(said: bytes, settings: Any) -> collections.abc.Iterator[str]:
    """A server that answers with these bytes, once."""
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            link, _ = server.accept()
            with link, contextlib.suppress(OSError):
                link.recv(65536)
                link.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_nobody_at_the_address_is_an_answer_too(settings: Any) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    reply = sender.post(f"http://127.0.0.1:{port}/", body=b"{}", headers={})

    assert reply.status is None
    assert "Refused" in reply.error


CERTIFICATE = pathlib.Path(__file__).with_name("shop.pem")
"""Of shop.example, signed by itself, until 2126."""


@contextlib.contextmanager
def _under_tls() -> collections.abc.Iterator[tuple[int, list[str | None]]]:
    """A server that is shop.example, its port, and the names that it is asked for."""
    named: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    context.sni_callback = lambda link, name, _: named.append(name)

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return  # The test is over.
                with (
                    contextlib.suppress(OSError),
                    link,
                    context.wrap_socket(link, server_side=True) as secure,
                ):
                    # All of it: whoever closes with something unread resets the connection, answer and all.
                    heard = b""
                    while not heard.endswith(b"{}") and (more := secure.recv(65536)):
                        heard += more
                    secure.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], named
        server.shutdown(socket.SHUT_RDWR)


def _resolve(
    monkeypatch: pytest.MonkeyPatch, name: str, places: list[str], then: list[str] | None = None
) -> list[str]:
    """Have a name stand for these addresses, and for others when asked for again; the questions."""
    others, asked = socket.getaddrinfo, []

    def resolve(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != name:
            return others(host, port, *args, **options)
        found = places if not asked else then or places
        asked.append(host)
        return [one for place in found for one in others(place, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked
