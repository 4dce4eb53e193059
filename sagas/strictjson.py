"""JSON, in and out.

In: strictly. What no row can keep, or two readers read differently, is refused; RFC 8259 leaves that to the
reader. The API, the providers' answers and callbacks, and what operators type all come through `loads`.

Out: one spelling, so that what is kept and what is made anew are equal to the byte.

Standard library only, and knows no other room.
"""

import datetime
import json
import re
import uuid
from typing import Any, NoReturn

DEEPEST = 32
"""An order is four deep. What is read can also be written again, which takes more of the stack."""

LARGEST = 2**63 - 1
"""Whole numbers of more than 64 bits fit no column of the database."""

_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Refused(ValueError):
    """The text is not JSON as it is taken here; the message says where and why, without what was sent."""


class TooDeep(Refused):
    """The value is nested too deep."""


class NotUtf8(Refused):
    """The text is not UTF-8 throughout, or has halves of characters."""


def loads(text: bytes | str, *, keepable: bool = True, deepest: int = DEEPEST) -> Any:
    """Parse the text, and return its value.

    Arguments:
        text: JSON; bytes must be UTF-8.
        keepable: whether every whole number must have at most 64 bits, and no string may have a NUL. Without
            it they are left to a reader that can point to the place.
        deepest: how deep lists and objects may be nested.

    Raises:
        Refused: it is no JSON; or it has a number that is not finite (NaN, 1e999), a name twice in one
            object, half a character, or too many levels.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        value = json.loads(
            decoded, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_unambiguous
        )
        if _LONE_SURROGATE.search(decoded):
            json.dumps(value, ensure_ascii=False).encode()
        _look_through(value, deepest, keepable=keepable)
    except UnicodeError:
        raise NotUtf8("it is not UTF-8 throughout") from None
    except RecursionError:
        raise TooDeep(f"it is nested more than {deepest} deep") from None
    except json.JSONDecodeError as error:
        said = f"{error.msg[:1].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}"
        raise Refused(said) from None
    except Refused:
        raise
    except ValueError as error:
        # A whole number of more digits than Python reads.
        raise Refused(str(error).partition(";")[0][:200]) from None
    return value


def dumps(value: Any) -> bytes:
    """The value as compact JSON in UTF-8; a time is written by `instant`, a UUID in small letters."""
    return json.dumps(value, default=_plain, separators=(",", ":"), ensure_ascii=False).encode()


def instant(at: datetime.datetime | None) -> str | None:
    """A time in UTC, to the microsecond, with a Z."""
    if at is None:
        return None
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def is_keepable(value: Any) -> bool:
    """Whether a number or a string, taken by itself, fits the database's columns."""
    if isinstance(value, str):
        return "\0" not in value
    return not isinstance(value, int) or -LARGEST - 1 <= value <= LARGEST


def _look_through(value: Any, deepest: int, *, keepable: bool) -> None:
    """Level by level, so that what is too deep costs no stack."""
    level, depth = [value], 0
    while level:
        if keepable and not all(is_keepable(one) for one in level):
            raise Refused("a whole number has more than 64 bits, or a text has a NUL")
        if any(isinstance(one, dict | list) for one in level):
            depth += 1
        if depth > deepest:
            raise TooDeep(f"it is nested more than {deepest} deep")
        lists = [inner for one in level if isinstance(one, list) for inner in one]
        objects = [inner for one in level if isinstance(one, dict) for inner in one.values()]
        names = [name for one in level if isinstance(one, dict) for name in one]
        if keepable and not all(is_keepable(name) for name in names):
            raise Refused("a text has a NUL")
        level = lists + objects


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Refused("a name stands twice in one object")
    return members


def _no_number(constant: str) -> NoReturn:
    raise Refused(f"{constant} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise Refused("a number is too large")
    return number


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return instant(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")
