"""Payments with their ledger, to look at: what is wrong is put right by an undo, not by an edit."""

from django.contrib import admin
from django.http import HttpRequest

from payments import models


class ReadOnly:
    """Nobody adds, changes or deletes here."""

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """No."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """No."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """No."""
        return False


class OperationInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """The ledger, in its order."""

    model = models.Operation
    fields = ("at", "kind", "amount", "source")
    readonly_fields = fields


@admin.register(models.Payment)
class PaymentAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Newest first."""

    list_display = ("key", "method", "status", "amount", "captured", "refunded", "currency", "created_at")
    list_filter = ("status", "method")
    search_fields = ("key", "provider_ref")
    ordering = ("-created_at", "-id")
    show_full_result_count = False
    inlines = (OperationInline,)
