"""Fields that say what they allow, and take nothing else: no number for a string, no unknown member."""

import datetime
import json
import re
import unicodedata
from typing import Any, ClassVar, TypeVar

from drf_spectacular import utils
from rest_framework import serializers
from rest_framework.request import Request

from orders import posting, tax_ids
from orders.api import problems
from sagas import errors as saga_errors
from sagas.engine import seen


class Strict(serializers.Serializer[Any]):
    """An object with exactly these members."""

    default_error_messages = {
        "required": "This is required: an object.",
        "null": "This must be an object.",
        "invalid": "This must be an object.",
    }

    def to_internal_value(self, data: Any) -> Any:
        """Refuse members that nobody asked for, with everything else that is wrong."""
        if not isinstance(data, dict):
            raise serializers.ValidationError(
                {"non_field_errors": [self.error_messages["invalid"]]}, code="invalid"
            )
        allowed = ", ".join(self.fields) or "nothing"
        unknown = {
            name: [serializers.ErrorDetail(f"This is not known here. Known: {allowed}.", "unknown")]
            for name in data
            if name not in self.fields
        }
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError({**unknown, **error.detail}) from None  # type: ignore[dict-item]
        if unknown:
            raise serializers.ValidationError(unknown)
        return value


class Nothing(Strict):
    """An object without members; no body at all will do too."""


Form = TypeVar("Form", bound=Strict)


def read(form: type[Form], data: Any) -> Form:
    """The form filled in with what was sent; its faults are raised."""
    if not isinstance(data, dict):
        # Django REST framework has words of its own for a body that is null.
        raise serializers.ValidationError({"non_field_errors": [Strict.default_error_messages["invalid"]]})
    filled = form(data=data)
    filled.is_valid(raise_exception=True)
    return filled


def read_query(form: type[Form], request: Request) -> dict[str, Any]:
    """What the query asks for; a parameter that nobody knows, or that stands twice, is a slip and refused."""
    values = {name: values if len(values) > 1 else values[0] for name, values in request.query_params.lists()}
    filled = form(data=values)
    if not filled.is_valid():
        faults = [
            {"parameter": str(name), "detail": str(fault[0]), "code": fault[0].code}
            for name, fault in filled.errors.items()
        ]
        raise problems.Problem(problems.INVALID_QUERY, "The query has faults.", errors=faults)
    return dict(filled.validated_data)


class Text(serializers.CharField):
    """A string of so many characters, none of them for machines only."""

    def __init__(self, *, max_length: int, min_length: int = 1, **kwargs: Any) -> None:
        between = f"{min_length} to {max_length}" if min_length else f"at most {max_length}"
        allowed = kwargs.pop("allowed", f"This must be a string of {between} characters.")
        messages = _all(allowed, "required", "null", "invalid", "blank", "max_length", "min_length")
        messages["control"] = "This must not contain control characters, such as line breaks."
        super().__init__(
            max_length=max_length,
            min_length=min_length or None,
            allow_blank=not min_length,
            error_messages=messages,
            **kwargs,
        )

    def to_internal_value(self, data: Any) -> str:
        """The string, without spaces around it."""
        if not isinstance(data, str):
            self.fail("invalid")
        if any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in data):
            self.fail("control")
        if len(data) > (self.max_length or 0):
            self.fail("max_length")  # Spaces around it count too, so that the schema can say so.
        return super().to_internal_value(data)


@utils.extend_schema_field({"type": "string", "maxLength": seen.LONGEST, "pattern": f"^{seen.PATTERN}$"})
class Seen(serializers.Field[Any, Any, Any, Any]):
    """How a saga stood when somebody decided on something: what its representation calls `seen`."""

    def __init__(self, **kwargs: Any) -> None:
        allowed = (
            "This must be `seen` of the saga as it was when you decided, such as"
            " take-payment:forward:waiting:1; GET /api/v1/sagas/{{id}} shows it."
        )
        super().__init__(error_messages=_all(allowed, "required", "null", "invalid"), **kwargs)

    def to_internal_value(self, data: Any) -> seen.Seen:
        """What the text says."""
        try:
            return seen.Seen.parse(data if isinstance(data, str) else "")
        except saga_errors.BadSeen:
            self.fail("invalid")


class Whole(serializers.IntegerField):
    """A whole number between two others: 3, and 3.0, which is the same in JSON; but no "3", and no true."""

    def __init__(self, *, min_value: int, max_value: int, **kwargs: Any) -> None:
        allowed = f"This must be a whole number from {min_value} to {max_value}."
        messages = _all(allowed, "required", "null", "invalid", "max_value", "min_value")
        super().__init__(min_value=min_value, max_value=max_value, error_messages=messages, **kwargs)

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
class Instant(serializers.DateTimeField):
    """A time, or a day, in a query."""

    def __init__(self, **kwargs: Any) -> None:
        allowed = (
            "This must be a time such as 2026-01-31T12:00:00Z, or a day such as 2026-01-31, which is UTC."
        )
        messages = _all(allowed, "required", "null", "invalid", "date", "make_aware", "overflow")
        super().__init__(default_timezone=datetime.UTC, error_messages=messages, **kwargs)

    def to_internal_value(self, data: Any) -> datetime.datetime:
        """The time, if it is one of the last and next few centuries."""
        at = super().to_internal_value(data)
        if not isinstance(data, str) or not 1900 < at.year < 2200:
            self.fail("invalid", format="ISO 8601")
        return at


@utils.extend_schema_field({"type": "string", "pattern": "^[0-9]{1,6}[smhd]$", "examples": ["15m"]})
class Age(serializers.Field[datetime.timedelta, str, str, Any]):
    """A length of time in a query."""

    UNITS: ClassVar = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

    def to_internal_value(self, data: Any) -> datetime.timedelta:
        """The length."""
        match = re.fullmatch(r"([0-9]{1,6})([smhd])", data) if isinstance(data, str) else None
        if match is None:
            raise serializers.ValidationError("This must be a length of time such as 30s, 15m, 2h or 10d.")
        return datetime.timedelta(**{self.UNITS[match[2]]: int(match[1])})

    def to_representation(self, value: datetime.timedelta) -> str:
        """In seconds."""
        return f"{int(value.total_seconds())}s"


class Choice(serializers.ChoiceField):
    """One of a few words."""

    def __init__(self, choices: Any, **kwargs: Any) -> None:
        words = choices.values if hasattr(choices, "values") else choices
        allowed = f"This must be one of: {', '.join(words)}."
        messages = _all(allowed, "required", "null", "invalid_choice")
        super().__init__(choices, error_messages=messages, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        """The word."""
        if not isinstance(data, str):
            self.fail("invalid_choice", input=data)
        return super().to_internal_value(data)


@utils.extend_schema_field(
    {"type": "string", "format": "email", "maxLength": 254, "examples": ["ana@example.com"]}
)
class Email(serializers.EmailField):
    """An e-mail address."""

    def __init__(self, **kwargs: Any) -> None:
        allowed = "This must be an e-mail address of at most 254 characters, such as ana@example.com."
        messages = _all(allowed, "required", "null", "invalid", "blank", "max_length")
        super().__init__(max_length=254, error_messages=messages, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The address."""
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


@utils.extend_schema_field(
    {"type": "string", "format": "tax-id", "maxLength": 20, "examples": ["529.982.247-25"]}
)
class TaxId(Text):
    """A CPF or CNPJ, with or without its punctuation; kept without."""

    def __init__(self, **kwargs: Any) -> None:
        allowed = f"This must be {tax_ids.TAX_ID_RULE}, with or without punctuation."
        super().__init__(max_length=20, allowed=allowed, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The characters that count."""
        bare = tax_ids.tax_id(super().to_internal_value(data))
        if bare is None:
            self.fail("invalid")
        return bare


@utils.extend_schema_field({"type": "string", "pattern": "^[0-9]{5}-?[0-9]{3}$", "examples": ["01310-100"]})
class PostalCode(Text):
    """A CEP; kept as NNNNN-NNN."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=9, allowed=f"This must be {tax_ids.POSTAL_CODE_RULE}.", **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The code as it is kept."""
        code = tax_ids.postal_code(super().to_internal_value(data))
        if code is None:
            self.fail("invalid")
        return code


class Flag(serializers.BooleanField):
    """true or false."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            error_messages=_all("This must be true or false.", "required", "null", "invalid"), **kwargs
        )

    def to_internal_value(self, data: Any) -> bool:
        """Neither 1 nor "yes"."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


@utils.extend_schema_field({"type": "object", "additionalProperties": True})
class Facts(serializers.DictField):
    """An object of facts, of no great size."""

    def to_internal_value(self, data: Any) -> Any:
        """It."""
        if not isinstance(data, dict) or len(json.dumps(data)) > 4096 or "\\u0000" in json.dumps(data):
            raise serializers.ValidationError(
                "This must be an object of at most 4096 characters as JSON, without NUL."
            )
        return data


@utils.extend_schema_field(
    {"type": "string", "format": "public-url", "maxLength": 500, "examples": ["https://example.com/hooks"]}
)
class Address(Text):
    """A URL that messages may be sent to."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=posting.LONGEST_URL, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The URL."""
        url = super().to_internal_value(data)
        try:
            posting.check(url)
        except posting.Refused as error:
            raise serializers.ValidationError(str(error)) from None
        return url


class Many(serializers.ListField):
    """A list of one to so many things."""

    things = "items"

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        allowed = f"This must be a list of 1 to {max_length} {self.things}."
        messages = _all(allowed, "required", "null", "not_a_list", "empty", "min_length", "max_length")
        super().__init__(
            min_length=1, max_length=max_length, allow_empty=False, error_messages=messages, **kwargs
        )

    def to_internal_value(self, data: Any) -> Any:
        """The list; its length is looked at before its items are."""
        if not isinstance(data, list):
            self.fail("not_a_list", input_type=type(data).__name__)
        if len(data) > (self.max_length or 0):
            self.fail("max_length")
        return super().to_internal_value(data)


class Lines(Many):
    """An order's lines."""

    things = "lines"


class Types(Many):
    """Types of events."""

    things = "types of events"


def _all(message: str, *codes: str) -> dict[str, Any]:
    return dict.fromkeys(codes, message)
