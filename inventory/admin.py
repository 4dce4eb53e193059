"""The stock with its reservations and movements, to look at: goods are moved by services, not by edits."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from backoffice import money, readonly
from inventory import models


class MovementInline(readonly.Inline):
    """What the reservation moved, in its order."""

    model = models.Movement
    fields = ("at", "kind", "product", "quantity")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[models.Movement]:
        """Fetch the products along with the movements, for their names."""
        return super().get_queryset(request).select_related("product")


@admin.register(models.Reservation)
class ReservationAdmin(readonly.Admin):
    """Reservations, the newest first, each with what it moved."""

    list_display = ("key", "status", "created_at", "updated_at")
    list_filter = ("status",)
    search_fields = ("key__exact",)
    search_help_text = _("Key")
    ordering = ("-created_at", "key")
    show_full_result_count = False
    readonly_fields = ("created_at", "updated_at")
    inlines = (MovementInline,)


@admin.register(models.Product)
class ProductAdmin(readonly.Admin):
    """The catalogue with its stock, by SKU."""

    list_display = ("sku", "name", "price", "ships", "available", "reserved", "shipped")
    list_filter = ("ships",)
    search_fields = ("sku", "name")
    ordering = ("sku",)
    show_full_result_count = False
    fields = ("sku", "name", "price", "ships", "available", "reserved", "shipped", "created_at")
    readonly_fields = fields

    @admin.display(description=_("price"), ordering="price_amount")
    def price(self, product: models.Product) -> str:
        """The price of one, with its currency."""
        return money.written(product.price_amount, product.currency)


@admin.register(models.Movement)
class MovementAdmin(readonly.Admin):
    """The stock book, newest first."""

    list_display = ("at", "kind", "product_id", "quantity", "reservation_id")
    list_filter = ("kind",)
    search_fields = ("product__sku__exact", "reservation__key__exact")
    search_help_text = _("SKU, or the key of a reservation")
    ordering = ("-id",)
    show_full_result_count = False
