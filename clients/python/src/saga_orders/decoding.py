"""Values made of JSON, by what their classes say: what does not fit is told with its place."""

import dataclasses
import datetime
import functools
import types
import typing
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from saga_orders import errors

T = TypeVar("T")


def decode(wanted: type[T], data: Any, place: str = "") -> T:
    """The value of this class that the JSON describes.

    Members that the class does not have are left out.

    Arguments:
        wanted: a dataclass.
        data: what was read of JSON.
        place: where the data stand in the answer, as a JSON pointer.

    Raises:
        UnexpectedAnswer: a member is missing, or is something else.
    """
    if not isinstance(data, Mapping):
        raise errors.UnexpectedAnswer(f"{place or 'the answer'} is no JSON object")
    values, known = {}, typing.cast("Any", wanted)
    for name, kind, required in _members(known):
        told = name.rstrip("_")  # `from_`, because `from` is a word of Python.
        if told in data:
            values[name] = _decode(kind, data[told], f"{place}/{told}")
        elif required:
            raise errors.UnexpectedAnswer(f"{place}/{told} is missing")
    return wanted(**values)


def _decode(kind: Any, data: Any, place: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # Of something and None.
        return None if data is None else _decode(inner[0], data, place)
    if origin is tuple:
        if not isinstance(data, list):
            raise errors.UnexpectedAnswer(f"{place} is no list")
        return tuple(_decode(inner[0], item, f"{place}/{index}") for index, item in enumerate(data))
    if dataclasses.is_dataclass(kind):
        return decode(typing.cast("type[Any]", kind), data, place)
    if kind is datetime.datetime or kind is uuid.UUID:
        return _parse(kind, data, place)
    # A `Literal` names the words of today; a new one is handed on as it is.
    plain = str if origin is typing.Literal else origin or kind
    if kind is not Any and not (isinstance(data, plain) and (plain is bool or not isinstance(data, bool))):
        raise errors.UnexpectedAnswer(f"{place} is {data!r}")
    return data


def _parse(kind: Any, data: Any, place: str) -> Any:
    try:
        found = uuid.UUID(data) if kind is uuid.UUID else datetime.datetime.fromisoformat(data)
    except (ValueError, TypeError, AttributeError):
        raise errors.UnexpectedAnswer(f"{place} is {data!r}") from None
    if isinstance(found, datetime.datetime) and found.tzinfo is None:
        raise errors.UnexpectedAnswer(f"{place} is {data!r}, a time without a zone")
    return found


@functools.cache
def _members(wanted: type[Any]) -> list[tuple[str, Any, bool]]:
    """The names of a class's members, their types, and whether they must be told."""
    kinds = typing.get_type_hints(wanted)
    return [
        (field.name, kinds[field.name], field.default is dataclasses.MISSING)
        for field in dataclasses.fields(wanted)
    ]
