"""Fields that say what they allow, and take nothing else: no number for a string, no unknown member."""

import unicodedata
from typing import Any, TypeVar

from rest_framework import serializers

from orders import brazil


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
        allowed = ", ".join(self.fields)
        unknown = {
            name: [serializers.ErrorDetail(f"There is no such member; there are: {allowed}.", "unknown")]
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


Form = TypeVar("Form", bound=Strict)


def read(form: type[Form], data: Any) -> Form:
    """The form filled in with what was sent; its faults are raised."""
    if not isinstance(data, dict):
        # Django REST framework has words of its own for a body that is null.
        raise serializers.ValidationError({"non_field_errors": [Strict.default_error_messages["invalid"]]})
    filled = form(data=data)
    filled.is_valid(raise_exception=True)
    return filled


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
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    """A whole number between two others; neither 3.0 nor "3" nor true is one."""

    def __init__(self, *, min_value: int, max_value: int, **kwargs: Any) -> None:
        allowed = f"This must be a whole number from {min_value} to {max_value}."
        messages = _all(allowed, "required", "null", "invalid", "max_value", "min_value")
        super().__init__(min_value=min_value, max_value=max_value, error_messages=messages, **kwargs)

    def to_internal_value(self, data: Any) -> int:
        """The number."""
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return data


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


class TaxId(Text):
    """A CPF or CNPJ, with or without its punctuation; kept without."""

    def __init__(self, **kwargs: Any) -> None:
        allowed = f"This must be {brazil.TAX_ID_RULE}, with or without punctuation."
        super().__init__(max_length=20, allowed=allowed, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The characters that count."""
        bare = brazil.tax_id(super().to_internal_value(data))
        if bare is None:
            self.fail("invalid")
        return bare


class PostalCode(Text):
    """A CEP; kept as NNNNN-NNN."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=9, allowed=f"This must be {brazil.POSTAL_CODE_RULE}.", **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The code as it is kept."""
        code = brazil.postal_code(super().to_internal_value(data))
        if code is None:
            self.fail("invalid")
        return code


class Lines(serializers.ListField):
    """A list of one to so many objects."""

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        allowed = f"This must be a list of 1 to {max_length} lines."
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


def _all(message: str, *codes: str) -> dict[str, Any]:
    return dict.fromkeys(codes, message)
