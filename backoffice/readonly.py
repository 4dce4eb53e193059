"""Rows to look at in the admin: nobody adds, changes or deletes them by hand."""

from django.contrib import admin
from django.http import HttpRequest


class _ReadOnly:
    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Refuse it to everybody: rows are written by the services."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Refuse it to everybody: what is wrong is put right by an undo."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Refuse it to everybody: the books keep what happened."""
        return False


class Admin(_ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """The pages of a model whose rows are only looked at."""


class Inline(_ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """The rows of a model on the page of another, only to be looked at."""
