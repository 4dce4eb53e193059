"""What a call comes to, by what really happened on the wire (U1)."""

import collections.abc
import contextlib
import json
import os
import socket
import struct
import threading
from typing import Any

import pytest

from providers import client

pytestmark = pytest.mark.integration


class Refused(client.Refusal):
    """It said no."""


class Unavailable(client.Failure):
    """It was not there."""


class Unknown(client.Failure):
    """It did not say."""


class Denied(client.Denied):
    """It did not let us in."""


TOKEN = "tok_that_nobody_may_see"


def http(status: str, body: str | None = None) -> bytes:
    content = (body or "").encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def no(status: str, code: str) -> bytes:
    return http(status, json.dumps({"code": code, "message": "no"}))


RESET = b"reset"
SILENCE = b"silence"


@contextlib.contextmanager
def provider(answer: bytes) -> collections.abc.Iterator[client.Provider]:
    """A provider that reads one request and answers with these bytes, or in a worse way."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()
        serving = threading.Thread(target=_serve, args=(listening, answer, done))
        serving.start()
        try:
            yield at(listening.getsockname()[1])
        finally:
            done.set()
            serving.join(10)


def at(port: int) -> client.Provider:
    return client.Provider(
        url=f"http://127.0.0.1:{port}/bank",
        refused=Refused,
        unavailable=Unavailable,
        unknown=Unknown,
        denied=Denied,
    )


def _serve(listening: socket.socket, answer: bytes, done: threading.Event) -> None:
    connection, _ = listening.accept()
    with connection:
        _read_request(connection)
        if answer == SILENCE:
            done.wait(10)
        elif answer == RESET:
            # Linger 0: close() sends a reset instead of a farewell.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.sendall(answer)


def _read_request(connection: socket.socket) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    head, _, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0].split(b":")[1]):
        body += connection.recv(65536)


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        # It said no, and why.
        (no("402 Payment Required", "card_declined"), Refused),
        (no("404 Not Found", "not_found"), Refused),
        (no("409 Conflict", "voided"), Refused),
        (no("422 Unprocessable Entity", "rejected"), Refused),
        # It did not let us in, whatever we ask; or somebody in front of it did not.
        (no("401 Unauthorized", "bad_credentials"), Denied),
        (no("403 Forbidden", "not_allowed"), Denied),
        (http("403 Forbidden", "<html>a gateway</html>"), Denied),
        (http("407 Proxy Authentication Required"), Denied),
        # It said that it did nothing, and that we may come back.
        (no("503 Service Unavailable", "unavailable"), Unavailable),
        (no("429 Too Many Requests", "slow_down"), Unavailable),
        # It may have happened.
        (no("500 Internal Server Error", "bug"), Unknown),
        (no("504 Gateway Timeout", "timeout"), Unknown),
        (http("500 Internal Server Error"), Unknown),
        (http("502 Bad Gateway", "<html>proxy</html>"), Unknown),
        (http("503 Service Unavailable"), Unknown),
        (http("503 Service Unavailable", "[]"), Unknown),
        (http("503 Service Unavailable", '{"message": "no code"}'), Unknown),
        (http("200 OK", "<html>a portal</html>"), Unknown),
        (http("200 OK", "[1, 2]"), Unknown),
        (http("200 OK"), Unknown),
        # It said what no row could keep, or what two readers would read differently.
        (http("200 OK", '{"captured": 1e999}'), Unknown),
        (http("200 OK", '{"captured": NaN}'), Unknown),
        (http("200 OK", '{"captured": 1' + "0" * 30 + "}"), Unknown),
        (http("200 OK", '{"id": "\\u0000"}'), Unknown),
        (http("200 OK", '{"id": "\\ud800"}'), Unknown),
        (http("200 OK", '{"captured": 1, "captured": 2}'), Unknown),
        (http("200 OK", "[" * 5000 + "]" * 5000), Unknown),
        (http("200 OK", '{"id": "' + "x" * client.LONGEST + '"}'), Unknown),
        (http("302 Found"), Unknown),
        (http("404 Not Found", '{"detail": "a wrong address, not an answer"}'), Unknown),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{", Unknown),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\njunk", Unknown),
        (b"this is not HTTP\r\n\r\n", Unknown),
        (b"", Unknown),
        (RESET, Unknown),
        (SILENCE, Unknown),
    ],
)
def test_an_answer_means_what_really_happened(settings, answer, meaning):
    settings.PROVIDER_TIMEOUT = settings.PROVIDER_TIMEOUT / 25
    with provider(answer) as bank, pytest.raises(meaning) as caught:
        bank.call("PUT", "charges", "key-1", json={"token": TOKEN})

    assert str(caught.value)
    # What was sent is in no message (A3).
    assert TOKEN not in str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)


def test_nobody_listening_means_that_nothing_happened():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unavailable):
        at(port).call("PUT", "charges", "key-1", json={})


def test_a_name_that_does_not_resolve_means_that_nothing_happened():
    nowhere = client.Provider(
        url="http://nowhere.invalid",
        refused=Refused,
        unavailable=Unavailable,
        unknown=Unknown,
        denied=Denied,
    )
    with pytest.raises(Unavailable):
        nowhere.call("PUT", "charges", "key-1", json={})


def test_a_good_answer_is_its_object():
    with provider(http("201 Created", '{"status": "captured"}')) as bank:
        assert bank.call("PUT", "charges", "key-1", json={}) == {"status": "captured"}


def test_a_refusal_carries_its_code():
    with provider(no("402 Payment Required", "card_declined")) as bank, pytest.raises(Refused) as caught:
        bank.call("PUT", "charges", "key-1", json={})

    assert caught.value.code == "card_declined"


def test_a_code_that_could_be_anything_is_not_repeated():
    answer = no("422 Unprocessable Entity", "Ana Souza 529.982.247-25")
    with provider(answer) as bank, pytest.raises(Unknown) as caught:
        bank.call("PUT", "charges", "key-1", json={})

    assert "Ana" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        # Refused for another reason, a question is not answered: nothing is known of the action.
        (no("401 Unauthorized", "bad_credentials"), Denied),
        (no("410 Gone", "api_version_gone"), Unavailable),
        (http("404 Not Found", "<html>a wrong address</html>"), Unknown),
        (SILENCE, Unknown),
    ],
)
def test_a_question_without_an_answer_is_not_a_no(settings, answer, meaning):
    settings.PROVIDER_TIMEOUT = settings.PROVIDER_TIMEOUT / 25
    with provider(answer) as bank, pytest.raises(meaning):
        bank.find("charges", "key-1")


def test_only_the_provider_itself_says_that_there_is_nothing():
    with provider(no("404 Not Found", "not_found")) as bank:
        assert bank.find("charges", "key-1") is None


def test_a_key_cannot_leave_its_place_in_the_address(monkeypatch):
    sent: list[Any] = []
    monkeypatch.setitem(client._client().event_hooks, "request", [sent.append])
    with provider(http("200 OK", "{}")) as bank:
        bank.call("PUT", "charges", "../refunds?all=1#x", json={})

    assert sent[0].url.raw_path == b"/bank/charges/..%2Frefunds%3Fall%3D1%23x"


def test_an_error_without_a_message_says_what_its_kind_means():
    assert str(Unknown()) == "It did not say."
    assert str(Refused(code="no")) == "It said no."


def test_a_forked_process_does_not_share_its_parents_connections():
    parents = client._client()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"own" if client._client() is not parents else b"shared")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)

    assert answer == b"own"
    assert client._client() is parents
