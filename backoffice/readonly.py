"""Rows to look at in the admin: nobody adds, changes or deletes them by hand."""

from django.contrib import admin
from django.http import HttpRequest


class _LookedAt:
    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """No."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """No."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """No."""
        return False


class Admin(_LookedAt, admin.ModelAdmin):  # type: ignore[type-arg]
    """A table of its own."""


class Inline(_LookedAt, admin.TabularInline):  # type: ignore[type-arg]
    """A table on another row's page."""
