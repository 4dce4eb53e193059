"""Shipments with their tracking, to look at: what is wrong is put right by an undo, not by an edit."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from backoffice import readonly
from shipping import models


class TrackingEventInline(readonly.Inline):
    """What the carrier said, in the order in which we heard it."""

    model = models.TrackingEvent
    fields = ("at", "status", "occurred_at", "source")
    readonly_fields = fields


@admin.register(models.Shipment)
class ShipmentAdmin(readonly.Admin):
    """Shipments, the newest first, each with its tracking."""

    list_display = ("key", "status", "tracking", "parcels", "created_at", "updated_at")
    list_filter = ("status",)
    search_fields = ("key__exact", "tracking__exact")
    search_help_text = _("Key, or tracking code")
    ordering = ("-created_at", "-id")
    show_full_result_count = False
    readonly_fields = ("created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("status", "tracking", "parcels", "mismatch", "refusal")}),
        (_("Record"), {"fields": ("key", "access_key", "created_at", "updated_at", "undo_requested_at",
                                  "undone_at")}),
    )  # fmt: skip
    inlines = (TrackingEventInline,)
