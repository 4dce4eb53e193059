"""Fields that say what they allow, and take nothing else: no number for a string."""

import datetime
import re
import unicodedata
from collections.abc import Callable
from typing import Any, ClassVar

from drf_spectacular import utils
from rest_framework import serializers


class Said(serializers.Field[Any, Any, Any, Any]):
    """A field that says the same of everything that is wrong: what it allows."""

    allowed: str = ""
    """A sentence; curly brackets are doubled."""
    takes: ClassVar[type] = str
    """What it is in JSON."""
    otherwise: ClassVar[str] = "invalid"
    """The code of the fault where it is something else."""
    besides: ClassVar[dict[str, str]] = {}
    """Faults with a sentence of their own, by code."""

    def __init__(self, *args: Any, allowed: str = "", **kwargs: Any) -> None:
        codes = {code for cls in type(self).__mro__ for code in getattr(cls, "default_error_messages", ())}
        said: dict[str, Any] = dict.fromkeys([self.otherwise, *codes], allowed or self.allowed)
        super().__init__(*args, error_messages=said | self.besides, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        """The value, if it is of the kind that JSON has for it."""
        if not isinstance(data, self.takes):
            self.fail(self.otherwise)
        return super().to_internal_value(data)


DIRECTIONS = r"\u202a-\u202e\u2066-\u2069"
"""Make what follows run the other way: a name that is shown with them reads as another."""

INVISIBLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
)
"""What takes no ink, beside spaces: joiners, which words of some languages need, fillers, selectors. Written
as in a class of a regular expression, for the description says the same."""

_TURNS = re.compile(f"[{DIRECTIONS}]")
# Beyond the first plane the description says less: not every reader of it can.
_SEEN = re.compile(rf"[^\s{DIRECTIONS}{INVISIBLE}\U0001d173-\U0001d17a\U000e0000-\U000e0fff]")


class Text(Said, serializers.CharField):
    """A string of so many characters, something to be seen among them, and none for machines only.

    Arguments:
        clean: what makes of the string what is kept, or None where it is not acceptable.
        schema: what the description says of it instead of its length.
    """

    besides: ClassVar = {
        "control": "This must not contain control characters, such as line breaks.",
        "direction": "This must not contain characters that turn the direction of the text.",
        "invisible": "This must have at least one character that can be seen.",
    }

    def __init__(
        self,
        *,
        max_length: int,
        min_length: int = 1,
        clean: Callable[[str], str | None] | None = None,
        schema: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.clean, self.schema = clean, schema
        between = f"{min_length} to {max_length}" if min_length else f"at most {max_length}"
        super().__init__(
            max_length=max_length,
            min_length=min_length or None,
            allow_blank=not min_length,
            **{"allowed": f"This must be a string of {between} characters.", **kwargs},
        )

    def to_internal_value(self, data: Any) -> str:
        """The string, without spaces around it."""
        if isinstance(data, str):
            if any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in data):
                self.fail("control")
            if _TURNS.search(data):
                self.fail("direction")
            if len(data) > (self.max_length or 0):
                self.fail("max_length")  # Spaces around it count too, so that the schema can say so.
        text: str | None = super().to_internal_value(data)
        if text and not self.allow_blank and not _SEEN.search(text):
            self.fail("invisible")
        if self.clean is not None and text is not None:
            text = self.clean(text)
        if text is None:
            self.fail("invalid")
        return text


class Whole(Said, serializers.IntegerField):
    """A whole number between two others: 3, and 3.0, which is the same in JSON; but no "3", and no true."""

    def __init__(self, *, min_value: int, max_value: int, **kwargs: Any) -> None:
        allowed = f"This must be a whole number from {min_value} to {max_value}."
        super().__init__(min_value=min_value, max_value=max_value, allowed=allowed, **kwargs)

    def to_internal_value(self, data: Any) -> int:
        """The number."""
        if isinstance(data, float) and data.is_integer():
            return int(data)
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return data


class Number(Whole):
    """A whole number in a query, where everything is a string."""

    def to_internal_value(self, data: Any) -> int:
        """The number."""
        if not isinstance(data, str) or not data.isascii() or not data.isdigit() or len(data) > 9:
            self.fail("invalid")
        return super().to_internal_value(int(data))


@utils.extend_schema_field(
    {"type": "string", "format": "instant", "examples": ["2026-01-31T12:00:00Z", "2026-01-31"]}
)
class Instant(Said, serializers.DateTimeField):
    """A time, or a day, in a query."""

    allowed = "This must be a time such as 2026-01-31T12:00:00Z, or a day such as 2026-01-31, which is UTC."

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(default_timezone=datetime.UTC, **kwargs)

    def to_internal_value(self, data: Any) -> datetime.datetime:
        """The time, if it is one of the last and next few centuries."""
        at: datetime.datetime = super().to_internal_value(data)
        if not 1900 < at.year < 2200:
            self.fail("invalid")
        return at


@utils.extend_schema_field({"type": "string", "pattern": "^[0-9]{1,6}[smhd]$", "examples": ["15m"]})
class Age(Said):
    """A length of time in a query."""

    UNITS: ClassVar = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    allowed = "This must be a length of time such as 30s, 15m, 2h or 10d."

    def to_internal_value(self, data: Any) -> datetime.timedelta:
        """The length."""
        match = re.fullmatch(r"([0-9]{1,6})([smhd])", data) if isinstance(data, str) else None
        if match is None:
            self.fail("invalid")
        return datetime.timedelta(**{self.UNITS[match[2]]: int(match[1])})


class Choice(Said, serializers.ChoiceField):
    """One of a few words."""

    otherwise = "invalid_choice"

    def __init__(self, choices: Any, **kwargs: Any) -> None:
        words = choices.values if hasattr(choices, "values") else choices
        super().__init__(choices, allowed=f"This must be one of: {', '.join(words)}.", **kwargs)


@utils.extend_schema_field({"type": "string", "format": "uuid"})
class Id(Said, serializers.UUIDField):
    """A UUID in a query."""

    allowed = "This must be an id such as 0199c2e0-7a10-7cc3-98c4-dc0c0c07398f."


@utils.extend_schema_field(
    {"type": "string", "format": "email", "maxLength": 254, "examples": ["ana@example.com"]}
)
class Email(Said, serializers.EmailField):
    """An e-mail address."""

    allowed = "This must be an e-mail address of at most 254 characters, such as ana@example.com."

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=254, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The address. One at `localhost`, which Django takes, reaches nobody else's customer."""
        address: str = super().to_internal_value(data)
        if address.lower().endswith("@localhost"):
            self.fail("invalid")
        return address


class Flag(Said, serializers.BooleanField):
    """true or false: neither 1 nor "yes"."""

    allowed = "This must be true or false."
    takes = bool


class Many(Said, serializers.ListField):
    """A list of one to so many things."""

    takes = list
    otherwise = "not_a_list"

    def __init__(self, *, max_length: int, things: str = "items", **kwargs: Any) -> None:
        allowed = f"This must be a list of 1 to {max_length} {things}."
        super().__init__(min_length=1, max_length=max_length, allow_empty=False, allowed=allowed, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        """The list; its length is looked at before its items are."""
        if isinstance(data, list) and len(data) > (self.max_length or 0):
            self.fail("max_length")
        return super().to_internal_value(data)
