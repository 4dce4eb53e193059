"""JSON in: strict, bounded, and free of what a database cannot keep."""

import json
import re
from collections.abc import Mapping
from typing import IO, Any, NoReturn, Protocol

from django.conf import settings
from rest_framework import exceptions, parsers

from orders.api import problems


class Readable(Protocol):
    """What bytes can be read from: a stream, or Django's request."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""


DEEPEST = 32
"""An order is four deep. What is read can also be written again, which takes more of the stack."""

LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
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
        return loads(read(stream))


def read(stream: Readable) -> bytes:
    """The whole body, if it is not too large."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body = stream.read(limit + 1)
    if len(body) > limit:
        drained = 0
        while drained < DRAIN and (chunk := stream.read(64 * 1024)):
            drained += len(chunk)
        raise problems.Problem(problems.TOO_LARGE, f"A body may have at most {limit} bytes.")
    return body


def loads(body: bytes) -> Any:
    """The JSON value of a body; NaN, doubled names and halves of characters are refused."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_object)
        if LONE_SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
        if _is_deeper(value, DEEPEST):
            raise RecursionError
    except UnicodeError:
        raise exceptions.ParseError("The body is not UTF-8 throughout.") from None
    except RecursionError:
        raise exceptions.ParseError(f"The body is nested more than {DEEPEST} deep.") from None
    except ValueError as error:
        # A JSONDecodeError says where; the others (a doubled name, NaN, a huge number) say what.
        raise exceptions.ParseError(f"The body is not JSON: {_first_line(error)}.") from None
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return any(isinstance(one, dict | list) for one in level)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")


def _first_line(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}"
    return str(error).partition(";")[0][:200]
