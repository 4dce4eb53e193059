"""Shipments with their tracking, to look at: what is wrong is put right by an undo, not by an edit."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from shipping import models


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


class TrackingEventInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """What the carrier said, in the order in which we heard it."""

    model = models.TrackingEvent
    fields = ("at", "status", "occurred_at", "source")
    readonly_fields = fields


@admin.register(models.Shipment)
class ShipmentAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Newest first."""

    list_display = ("key", "status", "tracking", "parcels", "created_at", "updated_at")
    list_filter = ("status",)
    search_fields = ("key__exact", "tracking__exact")
    search_help_text = _("Key, or tracking code")
    ordering = ("-created_at", "-id")
    show_full_result_count = False
    readonly_fields = ("created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("status", "tracking", "parcels", "refusal")}),
        (_("Record"), {"fields": ("key", "access_key", "created_at", "updated_at", "undo_requested_at",
                                  "undone_at")}),
    )  # fmt: skip
    inlines = (TrackingEventInline,)
