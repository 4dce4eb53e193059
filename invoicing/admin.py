"""Invoices with their return notes, to look at: what is wrong is put right by an undo, not by an edit."""

from typing import ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from invoicing import models


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


class ReturnNoteInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """The document that takes this one back, if there is one."""

    model = models.Invoice
    fk_name = "references"
    verbose_name_plural = _("return note")
    fields = ("series", "number", "status", "access_key", "authorized_at")
    readonly_fields = fields


@admin.register(models.Invoice)
class InvoiceAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Newest first. Whom an invoice is made out to is for the document, not for the screen (A3)."""

    list_display = ("key", "kind", "series", "number", "status", "amount", "currency", "created_at")
    list_filter = ("status", "kind")
    list_select_related = ("series",)
    search_fields = ("key", "access_key", "=number")
    ordering = ("-created_at", "-id")
    show_full_result_count = False
    exclude: ClassVar = ["tax_id"]
    inlines = (ReturnNoteInline,)


@admin.register(models.Series)
class SeriesAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """How far the numbers have come."""

    list_display = ("number", "next_number")


@admin.register(models.CancellationWindow)
class CancellationWindowAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The law's windows, where a state has its own. These are to be edited: the law changes."""

    list_display = ("state", "length")
