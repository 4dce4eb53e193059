"""Sending a message to an address that somebody else chose: nowhere but to the public internet.

The guard is at the socket: the name is looked up once, every address it stands for must be public, and
the connection is made to one of those very addresses, so that a name that changes its mind between the
check and the call gains nothing. Redirects are not followed, and no proxy is asked.
"""

import dataclasses
import http.client
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib import parse

from django.conf import settings

Place = tuple[socket.AddressFamily, Any]
"""An address as sockets take it, and the family that it is of."""

CONNECT_TIMEOUT_S = 5
TIMEOUT_S = 15
"""For the whole call: neither a silent name server, nor a name that stands for a hundred silent addresses,
nor a receiver that sends a byte now and then keeps us longer."""

READ = 4096
"""How much of an answer is read; nobody needs more of it than the beginning."""

LONGEST_URL = 500


SECONDS = re.compile("[0-9]{1,9}")
"""A Retry-After that is heeded; who asks for more than thirty years, or for a date, is not."""


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
    schemes = ["https", "http"] if settings.WEBHOOKS_TO_PRIVATE_ADDRESSES else ["https"]
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise Refused(f"This must be a URL that begins with {' or '.join(schemes)}:// and a host.")
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
    except (OSError, http.client.HTTPException, ValueError) as error:
        # ValueError is what the library has for names that are none and for answers it cannot count with.
        timeout = isinstance(error, TimeoutError) or time.monotonic() - started >= TIMEOUT_S
        words = f"no answer within {TIMEOUT_S} s" if timeout else f"{type(error).__name__}: {error}"
        return Reply(duration_ms=_since(started), error=_printable(words)[:200])
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
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    until = time.monotonic() + TIMEOUT_S
    link = _connect(_look_up(parts.hostname or "", port, until), until)
    rang = threading.Event()

    def cut_off() -> None:
        # Shutting the socket down is what ends a read that never ends by itself. Late binding is meant:
        # once TLS has taken the socket over, the old one would do nothing.
        rang.set()
        _shut(link)

    alarm = threading.Timer(until - time.monotonic(), cut_off)
    alarm.start()
    try:
        link.settimeout(TIMEOUT_S)
        if secure:
            context = ssl.create_default_context()
            link = context.wrap_socket(link, server_hostname=parts.hostname, do_handshake_on_connect=False)
            link.do_handshake()
        connection = http.client.HTTPConnection(parts.hostname or "", port)
        connection.sock = link
        target = parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request("POST", target, body, {"Host": parts.netloc, "Connection": "close", **headers})
        response = connection.getresponse()
        retry_after = response.getheader("Retry-After", "")
        wait = int(retry_after) if SECONDS.fullmatch(retry_after) else None
        answer = response.status, response.read(READ), wait
        if rang.is_set():
            raise TimeoutError  # What was cut off may look like an end.
        return answer
    finally:
        alarm.cancel()
        link.close()


def _look_up(host: str, port: int, until: float) -> list[Place]:
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
    if not all(_is_allowed(ipaddress.ip_address(place[0])) for *_, place in found):
        raise Refused("The host is at a private address.")
    return [(family, place) for family, *_, place in found]


def _connect(places: Sequence[Place], until: float) -> socket.socket:
    """A connection to the first of them that answers in time."""
    error: OSError = ConnectionError("the host has no address")
    for family, place in places:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        link = socket.socket(family, socket.SOCK_STREAM)
        link.settimeout(min(CONNECT_TIMEOUT_S, left))
        try:
            link.connect(place)
        except OSError as failed:
            link.close()
            error = failed
        else:
            return link
    raise error


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


def _shut(link: socket.socket) -> None:
    try:
        link.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # It is closed already, which is what was wanted.


def _since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)
