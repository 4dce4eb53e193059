"""Sending a message to an address that somebody else chose: nowhere but to the public internet.

The guard is where the connection is made: the name is looked up once, every address it stands for must be
public, and the connection is made to one of those very addresses, so that a name that changes its mind
between the check and the call gains nothing. Redirects are not followed, and no proxy is asked.
"""

import dataclasses
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib import parse

import httpcore
from django.conf import settings

CONNECT_TIMEOUT_S = 5
TIMEOUT_S = 15
"""For the whole call: neither a silent name server, nor a name that stands for a hundred silent addresses,
nor a receiver that sends a byte now and then keeps us longer."""

READ = 4096
"""How much of an answer is read; nobody needs more of it than the beginning."""

PIECE = 16 * 1024
"""How much is written before we look at the clock: as much as one record of TLS takes."""

LONGEST_URL = 500

SECONDS = re.compile(b"[0-9]{1,9}")
"""A Retry-After that is heeded; who asks for more than thirty years, or for a date, is not."""

VERSIONS = {b"HTTP/1.0", b"HTTP/1.1"}


class Refused(Exception):
    """The address is not one that messages are sent to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """What came of it."""

    duration_ms: int
    status: int | None = None
    error: str = ""
    response: str = ""
    retry_after_s: int | None = None

    @property
    def ok(self) -> bool:
        """Whether it was accepted."""
        return self.status is not None and 200 <= self.status < 300


def check(url: str) -> None:
    """Refuse what can be seen to be wrong without looking the name up.

    Raises:
        Refused: it says what is allowed.
    """
    if len(url) > LONGEST_URL or any(sign.isspace() or not sign.isprintable() for sign in url):
        raise Refused(f"This must be a URL of at most {LONGEST_URL} characters, without spaces.")
    try:
        parts = parse.urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        raise Refused("This must be a URL.") from None
    schemes = ["https://", "http://"] if settings.WEBHOOKS_TO_PRIVATE_ADDRESSES else ["https://"]
    if f"{parts.scheme}://" not in schemes or not parts.hostname or port == 0:
        raise Refused(f"This must be a URL that begins with {' or '.join(schemes)} and a host.")
    if parts.username or parts.password or parts.fragment or not url.isascii():
        raise Refused("This must be a URL in ASCII without user, password or fragment.")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return
    if not _is_allowed(address):
        raise Refused("This must be a public address.")


def post(url: str, *, body: bytes, headers: Mapping[str, str]) -> Reply:
    """Send it, and say what came of it; whatever goes wrong is an answer, not an exception."""
    started = time.monotonic()
    try:
        check(url)
        status, said, retry_after = _exchange(parse.urlsplit(url), body, headers)
    except Refused as error:
        return Reply(duration_ms=_since(started), error=str(error))
    except FAILURES as error:
        return Reply(duration_ms=_since(started), error=_printable(_words(error))[:200])
    return Reply(
        duration_ms=_since(started),
        status=status,
        error="" if 200 <= status < 300 else f"answered {status}",
        response=_printable(said.decode("utf-8", "replace"))[:500],
        retry_after_s=retry_after,
    )


def _exchange(
    parts: parse.SplitResult, body: bytes, headers: Mapping[str, str]
) -> tuple[int, bytes, int | None]:
    """The status, how the answer begins, and for how many seconds it asks us to wait."""
    host = parts.hostname or ""
    target = parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    url = httpcore.URL(scheme=parts.scheme, host=host, port=parts.port, target=target)
    whole = {
        "Host": parts.netloc,
        "Accept-Encoding": "identity",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    # Certificates are those that the system trusts, and must be for the name, whatever address it stands for.
    trusted = ssl.create_default_context() if parts.scheme == "https" else None
    with (
        httpcore.HTTPConnection(url.origin, trusted, network_backend=PublicNetwork()) as connection,
        connection.stream("POST", url, headers=list(whole.items()), content=body) as response,
    ):
        if response.extensions["http_version"] not in VERSIONS:
            raise httpcore.RemoteProtocolError("the answer is not of HTTP/1")
        said = b""
        for chunk in response.iter_stream():
            said += chunk
            if len(said) >= READ:
                break
        asked = b", ".join(value for name, value in response.headers if name.lower() == b"retry-after")
        wait = int(asked) if SECONDS.fullmatch(asked) else None
        return response.status, said[:READ], wait


class PublicNetwork(httpcore.NetworkBackend):
    """Connects to public addresses only, for one call, whose time runs from now."""

    def __init__(self) -> None:
        self._until = time.monotonic() + TIMEOUT_S
        self._network = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.NetworkStream:
        """A connection to the first address of the host that answers in time.

        1. The name is looked up once, and every address that it stands for must be public.
        2. It is connected to one of those very addresses: an address needs no looking up.

        Raises:
            Refused: one of its addresses is not public.
        """
        failed: Exception = ConnectionError("the host has no address")
        for address in _look_up(host, port, self._until):
            timeout = min(CONNECT_TIMEOUT_S, _left(self._until))
            try:
                return _Timed(self._network.connect_tcp(address, port, timeout=timeout), self._until)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


class _Timed(httpcore.NetworkStream):
    """A stream of which no operation takes longer than what is left of the whole call."""

    def __init__(self, stream: httpcore.NetworkStream, until: float) -> None:
        self._stream = stream
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """So many bytes at most."""
        return self._stream.read(max_bytes, _left(self._until))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All of it, piece by piece, since each may take its time."""
        for start in range(0, len(buffer), PIECE):
            self._stream.write(buffer[start : start + PIECE], _left(self._until))

    def close(self) -> None:
        """Let go."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """The same, under TLS."""
        try:
            left = _left(self._until)
        except TimeoutError:
            self.close()
            raise
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._until)

    def get_extra_info(self, info: str) -> Any:
        """What is known of the connection."""
        return self._stream.get_extra_info(info)


def _left(until: float) -> float:
    """The seconds until then.

    Raises:
        TimeoutError: there are none.
    """
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _look_up(host: str, port: int, until: float) -> list[str]:
    """Every address that the name stands for; they must all be public.

    Nothing can interrupt the resolver, so it is asked in a thread, which is left alone when the time is over.
    It gives up by itself some time later (`timeout` and `attempts` in resolv.conf): few such threads pile up.
    """
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # Whatever it is, it is for whoever asked.
            answer.put(error)

    threading.Thread(target=ask, name="webhooks-resolver", daemon=True).start()
    try:
        found = answer.get(timeout=max(0, until - time.monotonic()))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    addresses = [place[0] for *_, place in found]
    if not all(_is_allowed(ipaddress.ip_address(address)) for address in addresses):
        raise Refused("The host is at a private address.")
    return addresses


def _words(error: Exception) -> str:
    """What went wrong: in the words of the system, where the library has only wrapped these."""
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return f"no answer within {TIMEOUT_S} s"
    cause = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    return f"{type(cause).__name__}: {cause}"


FAILURES = (
    OSError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    ValueError,  # A name that is none.
)


def _is_allowed(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it is public, and so is every IPv4 address that it may be a disguise of."""
    if settings.WEBHOOKS_TO_PRIVATE_ADDRESSES:
        return True
    if isinstance(address, ipaddress.IPv6Address):
        if address in NAT64:
            return _is_allowed(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.ipv4_mapped:
            return _is_allowed(address.ipv4_mapped)
        if address not in UNICAST or address in DOCUMENTATION:
            return False
        disguised = [address.sixtofour, *(address.teredo or ())]
        if not all(_is_allowed(inner) for inner in disguised if inner is not None):
            return False
    return address.is_global and not address.is_multicast


NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that has been given to anybody. Outside lie older and local disguises of IPv4 addresses, such as
`::127.0.0.1` and `64:ff9b:1::/48`, and site-local ones, which `ipaddress` takes for global."""

DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")
"""Nobody's; older versions of `ipaddress` do not know it."""


def _printable(text: str) -> str:
    """What a receiver says ends up in a database and on a page: no NUL, and nothing for terminals only."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)
