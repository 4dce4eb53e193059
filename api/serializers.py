"""Objects that come in and go out: forms, which a client fills in, and shapes, which a client reads."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from rest_framework import serializers
from rest_framework.request import Request

from api import fields, problems


class Object(serializers.Serializer[Any]):
    """An object; a member whose name is Python's or the framework's ends in an underscore here (`from_`)."""

    exact: ClassVar[bool] = True
    """Whether it has these members and no others."""
    sample: ClassVar[Any] = None
    """An example, for the description."""
    more: ClassVar[dict[str, Any]] = {}
    """What else the description says of it, in words of JSON Schema."""

    def get_fields(self) -> dict[str, Any]:
        """The members by their true names."""
        return {name.removesuffix("_"): field for name, field in super().get_fields().items()}


class Form(Object):
    """What a client sends: these members and no others, each as its field allows."""

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


class Nothing(Form):
    """An object without members; no body at all will do too."""

    sample: ClassVar[Any] = {}


Filled = TypeVar("Filled", bound=Form)


def read(form: type[Filled], data: Any) -> Filled:
    """The form filled in with what was sent; its faults are raised."""
    if not isinstance(data, dict):
        # Django REST framework has words of its own for a body that is null.
        raise serializers.ValidationError({"non_field_errors": [Form.default_error_messages["invalid"]]})
    filled = form(data=data)
    filled.is_valid(raise_exception=True)
    return filled


def read_query(form: type[Form], request: Request) -> dict[str, Any]:
    """What the query asks for; a parameter that nobody knows, or that stands twice, is a slip and refused.

    One that is a list stands once for each of its items.
    """
    sent = dict(request.query_params.lists())
    filled = form(data={})
    lists = {name for name, field in filled.fields.items() if isinstance(field, fields.Many)}
    filled.initial_data = {name: said if name in lists else said[0] for name, said in sent.items()}
    filled.is_valid()
    faults = {str(name): _first(fault) for name, fault in filled.errors.items()}
    faults |= {
        name: serializers.ErrorDetail(f"This stands {len(values)} times; give it once.", "repeated")
        for name, values in sent.items()
        if len(values) > 1 and name in filled.fields and name not in lists
    }
    if faults:
        raise problems.faulty(
            problems.INVALID_QUERY,
            [
                {"parameter": name, "detail": str(fault), "code": str(fault.code)}
                for name, fault in faults.items()
            ],
        )
    return dict(filled.validated_data)


def _first(fault: Any) -> serializers.ErrorDetail:
    """The first of the faults of a parameter, or of the items that it lists."""
    while not isinstance(fault, serializers.ErrorDetail):
        fault = next(iter(fault.values())) if isinstance(fault, dict) else fault[0]
    return fault


class Page(Form):
    """Which page of a list."""

    limit = fields.Number(
        min_value=1, max_value=100, required=False, help_text="How many to a page; 20 unless given."
    )
    cursor = fields.Text(
        max_length=600, required=False, help_text="From `next` or `previous` of another page."
    )


class Shape(Object):
    """What a client reads, declared once: it makes the answer, and it describes it.

    A member is what its field's `source` names, of an object or of a dict, or what the method `get_<member>`
    makes of it. It goes out as it is found: what a time and a UUID look like is for `strictjson` to say.
    """

    @classmethod
    def of(cls, row: Any) -> dict[str, Any]:
        """The row as a client reads it."""
        return _made(cls).to_representation(row)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Each member in turn; one that is not required may be missing."""
        told = {}
        for name, read, nested, required in self._members:
            value = read(instance)
            if value is not None:
                told[name] = value if nested is None else nested.to_representation(value)
            elif required or (isinstance(instance, dict) and name in instance):
                told[name] = None
        return told

    @functools.cached_property
    def _members(self) -> list[tuple[str, Callable[[Any], Any], Any, bool]]:
        # `get_value` and its like are the framework's own.
        taken = [name for name in self.fields if hasattr(serializers.Serializer, f"get_{name}")]
        assert not taken, f"{type(self).__name__} has a member that needs another name: {taken}"
        return [
            (
                name,
                getattr(self, f"get_{name}", None) or _reader(field),
                field if isinstance(field, serializers.BaseSerializer) else None,
                field.required,
            )
            for name, field in self.fields.items()
        ]


def page(of: type[Shape]) -> type[Shape]:
    """The shape of a page of these."""
    members = {
        "__doc__": "A page, and where its neighbours are.",
        "next": serializers.URLField(allow_null=True, help_text="null at the end."),
        "previous": serializers.URLField(allow_null=True, help_text="null at the beginning."),
        "results": of(many=True),
        "sample": {"next": None, "previous": None, "results": [of.sample]},
    }
    return type(f"{of.__name__}Page", (Shape,), members)


@functools.cache
def _made(shape: type[Shape]) -> Shape:
    """One instance of each serves everybody: nothing about it changes."""
    return shape()


def _reader(field: Any) -> Callable[[Any], Any]:
    """What reads a member: an attribute of an object, or a member of a dict, which is None where it is not.

    An empty text is none where null is allowed and no empty text is.
    """
    path = field.source_attrs
    has_text = isinstance(field, serializers.CharField) and field.allow_null and not field.allow_blank

    def read(value: Any) -> Any:
        for name in path:
            value = value.get(name) if isinstance(value, dict) else getattr(value, name)
        return (value or None) if has_text else value

    return read
