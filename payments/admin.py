"""Payments with their ledger, to look at: what is wrong is put right by an undo, not by an edit."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from backoffice import money, readonly
from payments import models


class OperationInline(readonly.Inline):
    """The ledger, in its order."""

    model = models.Operation
    verbose_name_plural = _("ledger")
    fields = ("at", "kind", "moved", "source")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[models.Operation]:
        """Fetch the payments along with their operations: they know the currency."""
        return super().get_queryset(request).select_related("payment")

    @admin.display(description=_("amount"))
    def moved(self, operation: models.Operation) -> str:
        """The amount with its currency."""
        return money.written(operation.amount, operation.payment.held_in)


@admin.register(models.Payment)
class PaymentAdmin(readonly.Admin):
    """Payments, the newest first, each with its ledger."""

    list_display = ("key", "status", "method", "asked", "ours", "created_at")
    list_filter = ("status", "method")
    search_fields = ("key__exact", "provider_ref__exact")
    search_help_text = _("Key, or the provider's reference")
    ordering = ("-created_at", "-id")
    show_full_result_count = False
    readonly_fields = ("asked", "taken", "returned", "ours", "created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("status", "method", "asked", "taken", "returned", "ours")}),
        (
            _("The bank"),
            {"fields": ("provider_ref", "mismatch", "refusal", "pix_copy_paste", "pix_expires_at")},
        ),
        (_("Record"), {"fields": ("key", "created_at", "updated_at", "undo_requested_at", "undone_at")}),
    )
    inlines = (OperationInline,)

    @admin.display(description=_("asked for"), ordering="amount")
    def asked(self, payment: models.Payment) -> str:
        """What the payer is to pay."""
        return money.written(payment.amount, payment.currency)

    @admin.display(description=_("captured"))
    def taken(self, payment: models.Payment) -> str:
        """What the bank took."""
        return money.written(payment.captured, payment.held_in)

    @admin.display(description=_("refunded"))
    def returned(self, payment: models.Payment) -> str:
        """What the bank gave back."""
        return money.written(payment.refunded, payment.held_in)

    @admin.display(description=_("with us"))
    def ours(self, payment: models.Payment) -> str:
        """What is ours: taken and not given back."""
        return money.written(payment.captured - payment.refunded, payment.held_in)
