"""JSON in: strict, bounded, and free of what a database cannot keep."""

from collections.abc import Mapping
from typing import IO, Any, Protocol

from django.conf import settings
from rest_framework import exceptions, parsers

from api import problems
from sagas import strictjson


class Readable(Protocol):
    """What bytes can be read from: a stream, or Django's request."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""


DEEPEST = strictjson.DEEPEST
DRAIN = 16 * 1024 * 1024
"""How much of a body that is refused is still read, so that the sender lives to read the answer."""


class JSON(parsers.BaseParser):
    """Parses `application/json`; any charset but UTF-8 is refused, as RFC 8259 says."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The value that the body is."""
        return loads(read(stream, (parser_context or {})["request"].headers))


def read(stream: Readable, headers: Mapping[str, str]) -> bytes:
    """The whole body, if it is not too large, and not encoded: what that unpacks to has no bound."""
    if headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        raise problems.Problem(
            problems.UNSUPPORTED_MEDIA_TYPE,
            "The body must not be compressed: send it as it is, without Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body = stream.read(limit + 1)
    if len(body) > limit:
        drained = 0
        while drained < DRAIN and (chunk := stream.read(64 * 1024)):
            drained += len(chunk)
        raise problems.Problem(problems.TOO_LARGE, f"A body may have at most {limit} bytes.")
    return body


def loads(body: bytes) -> Any:
    """The JSON value of a body; NaN, doubled names and halves of characters are refused.

    Numbers and texts that no column keeps are left to the fields, which point to them.
    """
    try:
        return strictjson.loads(body, keepable=False)
    except strictjson.NotUtf8:
        raise exceptions.ParseError("The body is not UTF-8 throughout.") from None
    except strictjson.TooDeep:
        raise exceptions.ParseError(f"The body is nested more than {DEEPEST} deep.") from None
    except strictjson.Refused as error:
        raise exceptions.ParseError(f"The body is not JSON: {error}.") from None
