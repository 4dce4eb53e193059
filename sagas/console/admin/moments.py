"""Moments in lists and on pages that Django draws, to the millisecond as on the console's own pages.

Django's own formats know minutes, seconds and microseconds, and no element of HTML around them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin
from django.db.models import DateTimeField, Model
from django.http import HttpRequest
from django.utils.safestring import SafeString

from sagas.console import marks


class _Read(admin.options.BaseModelAdmin):  # type: ignore[type-arg]
    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """With the moments that are only looked at as they stand on every page of the console."""
        shown = super().get_fieldsets(request, obj)
        readonly = set(self.get_readonly_fields(request, obj))
        # What is being added is filled in, even where nobody may change it afterwards.
        fixed = obj is not None and not self.has_change_permission(request, obj)
        return [
            (name, {**more, "fields": _exactly(self.model, more["fields"], None if fixed else readonly)})
            for name, more in shown
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The same."""
        return _exactly(self.model, super().get_readonly_fields(request, obj), None)


class Moments(_Read, admin.ModelAdmin):  # type: ignore[type-arg]
    """A model's pages whose moments stand as on every page of the console."""

    def get_list_display(self, request: HttpRequest) -> Any:
        """The columns."""
        return _exactly(self.model, super().get_list_display(request), None)

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """The rows of another model on the page of one."""
        return [_inline(one) for one in super().get_inlines(request, obj)]


@functools.cache
def _inline(inline: type[Any]) -> type[Any]:
    return type(inline.__name__, (_Read, inline), {})


def _exactly(model: type[Model], names: Sequence[Any], only: set[Any] | None) -> tuple[Any, ...]:
    """The same names, those of moments replaced by columns; a field that may be changed stays as it is.

    Arguments:
        model: whose fields are named.
        names: of fields or methods; several that stand in a line are a list or tuple.
        only: names that are looked at; None where all are.
    """
    moments = {field.name: field for field in model._meta.fields if isinstance(field, DateTimeField)}

    def exactly(name: Any) -> Any:
        if isinstance(name, list | tuple):
            return tuple(exactly(one) for one in name)
        if not isinstance(name, str) or name not in moments:
            return name
        column = _column(moments[name])
        return column if only is None or name in only or column in only else name

    return tuple(exactly(name) for name in names)


@functools.cache  # Django looks for the very same one among those that the list is sorted by.
def _column(field: "DateTimeField[Any, Any]") -> Callable[[Any], str | SafeString]:
    @admin.display(description=field.verbose_name, ordering=field.name)
    def column(row: Any) -> str | SafeString:
        return marks.moment(getattr(row, field.name))

    column.__name__ = field.name
    return column
