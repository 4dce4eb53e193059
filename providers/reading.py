"""Reading what a provider says, member by member: of the right kind and within bounds, or not at all.

What is lenient here is guessed: 1.5 would be 1 centavo, "true" a status. Messages name the member and never
what stood there (A3).
"""

import datetime
import re
from collections.abc import Mapping
from typing import Any

LARGEST = 2**63 - 1
"""What a column for an amount holds, in minor units."""

_CURRENCY = re.compile(r"[A-Z]{3}")


class Unclear(ValueError):
    """What the provider says makes no sense; the message names the member."""


def whole(data: Mapping[str, Any], name: str, *, most: int = LARGEST) -> int:
    """A whole number from 0 on, as amounts in minor units are.

    Raises:
        Unclear: it is missing, or something else.
    """
    value = data.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise Unclear(f"{name} must be a whole number from 0 to {most}")
    return value


def text(data: Mapping[str, Any], name: str, *, longest: int) -> str:
    """A string without control characters; empty where the member is missing or null.

    Raises:
        Unclear: it is longer, or something else.
    """
    value = data.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise Unclear(f"{name} must be a string of at most {longest} printable characters")
    return value


def currency(data: Mapping[str, Any], name: str) -> str:
    """Three capital letters (ISO 4217); empty where the member is missing or null.

    Raises:
        Unclear: it is something else.
    """
    value = text(data, name, longest=3)
    if value and not _CURRENCY.fullmatch(value):
        raise Unclear(f"{name} must be three capital letters such as BRL")
    return value


def moment(data: Mapping[str, Any], name: str) -> datetime.datetime:
    """A time with its zone (RFC 3339).

    Raises:
        Unclear: it is missing, or something else.
    """
    value = data.get(name)
    try:
        at = datetime.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Unclear(f"{name} must be a time with a time zone")
    return at
