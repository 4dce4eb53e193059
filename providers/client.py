"""Calls over HTTP, and what their failures mean (U1).

Whether something failed, or may have happened, is the one thing a saga must not get wrong; therefore it
is told apart here, once, and each service names the errors that it uses for it.
"""

import functools
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib import parse

import httpx
from django.conf import settings

from sagas import strictjson

CONNECT_TIMEOUT_S = 2.0
"""A provider that does not pick up in this time does not pick up; it has not heard anything yet."""

LONGEST = 256 * 1024
"""Of an answer, in bytes; the longest of those that we know has less than one thousand."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NOT_LET_IN = (401, 403, 407)
"""Our key is not good, does not reach so far, or a proxy on the way wants another: each is ours to mend."""

_CODE = re.compile(r"[a-z0-9_.-]{1,64}")


class Failure(Exception):
    """What a call came to when it did not go well. The docstring of each kind is its message."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class Denied(Failure):
    """The provider does not let us in, whatever we ask: a key of ours is wrong or has expired."""


class Refusal(Failure):
    """The provider answered no; `code` is the provider's code for why."""

    def __init__(self, message: str | None = None, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Provider:
    """One provider's API, as one service sees it.

    Messages of errors name the call and the provider's code, never what was sent (A3).
    """

    def __init__(
        self,
        *,
        url: str,
        refused: type[Refusal],
        unavailable: type[Failure],
        unknown: type[Failure],
        denied: type[Denied],
    ) -> None:
        self.url = url.rstrip("/")
        self.refused = refused
        self.unavailable = unavailable
        self.unknown = unknown
        self.denied = denied

    def call(
        self,
        method: str,
        *path: str,
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The provider's answer, a JSON object.

        Raises:
            refused: a 4xx with a code; it did not happen, and will not.
            unavailable: not sent, or turned away with a 429 or 503 and a code; it did not happen yet.
            unknown: sent, and no answer that can be understood; it may have happened.
            denied: a 401, 403 or 407, whatever its body: we are not let in. It did not happen, and does not
                for anybody until a person mends our access.
        """
        target = "/".join([self.url, *(parse.quote(part, safe="") for part in path)])
        what = f"{method} {path[0]}"
        timeout = httpx.Timeout(settings.PROVIDER_TIMEOUT.total_seconds(), connect=CONNECT_TIMEOUT_S)
        try:
            with _client().stream(method, target, json=json, headers=headers, timeout=timeout) as reply:
                content = _limited(reply)
        except _NOT_SENT as error:
            raise self.unavailable(f"{what}: {type(error).__name__}") from error
        except httpx.HTTPError as error:
            raise self.unknown(f"{what}: {type(error).__name__}") from error
        return self._understood(reply, content, what)

    def find(self, *path: str) -> dict[str, Any] | None:
        """What the provider has there; None only where it says itself that there is nothing.

        A question that is refused for another reason was not answered: its refusal says nothing about what
        was asked.
        """
        try:
            return self.call("GET", *path)
        except self.refused as refusal:
            if refusal.code == "not_found":
                return None
            raise self.unavailable(f"GET {path[0]}: {refusal.code}") from refusal

    def _understood(self, reply: httpx.Response, content: bytes, what: str) -> dict[str, Any]:
        if reply.status_code in _NOT_LET_IN:
            # Often said by a gateway in front of the provider, which knows nothing of its codes.
            raise self.denied(f"{what}: {reply.status_code}: our access is refused, whatever is asked")
        try:
            body = _json_object(content)
        except strictjson.Refused as error:
            said = f"{what}: {reply.status_code} without a body that can be read: {error}"
            # Not chained: its frames hold what was answered.
            raise self.unknown(said) from None
        if reply.is_success:
            return body
        code = body.get("code")
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            # A proxy's page or a wrong address; the provider itself has said nothing.
            raise self.unknown(f"{what}: {reply.status_code} without a code")
        if reply.status_code in (429, 503):
            raise self.unavailable(f"{what}: {reply.status_code} {code}")
        if reply.is_client_error:
            raise self.refused(f"{what}: {reply.status_code} {code}", code=code)
        raise self.unknown(f"{what}: {reply.status_code} {code}")


def _limited(reply: httpx.Response) -> bytes:
    """The body, or no more of it than anybody would answer: a longer one is refused as it is no answer."""
    content = bytearray()
    for chunk in reply.iter_bytes():
        content += chunk
        if len(content) > LONGEST:
            break
    return bytes(content)


def _json_object(content: bytes) -> dict[str, Any]:
    """The object that an answer is.

    Raises:
        Refused: it is none, or has what no row can keep.
    """
    if len(content) > LONGEST:
        raise strictjson.Refused(f"it is longer than {LONGEST} bytes")
    body = strictjson.loads(content)
    if not isinstance(body, dict):
        raise strictjson.Refused("it is no object")
    return body


@functools.cache
def _client() -> httpx.Client:
    """This process's connections. A proxy in the environment is used, but not for this very machine."""
    return httpx.Client(mounts={"all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None})


# A worker that is forked must not share its parent's sockets: it would read the other's answers.
os.register_at_fork(after_in_child=_client.cache_clear)
