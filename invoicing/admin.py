"""Invoices with their return notes, to look at: what is wrong is put right by an undo, not by an edit."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from backoffice import money, readonly
from invoicing import models

LONGEST_NUMBER = 9
"""Digits of an invoice's number, by the law's layout; an access key has 44."""


class ReturnNoteInline(readonly.Inline):
    """The document that takes this one back, if there is one."""

    model = models.Invoice
    fk_name = "references"
    verbose_name_plural = _("return note")
    fields = ("series", "number", "status", "access_key", "authorized_at")
    readonly_fields = fields


@admin.register(models.Invoice)
class InvoiceAdmin(readonly.Admin):
    """Invoices, the newest first. Whom one is made out to is for the document, not for the screen (A3)."""

    list_display = ("key", "kind", "full_number", "status", "total", "created_at")
    list_filter = ("status", "kind")
    list_select_related = ("series",)
    search_fields = ("key__exact", "access_key__exact")
    search_help_text = _("Key, access key, or number")
    ordering = ("-created_at", "-id")
    show_full_result_count = False
    readonly_fields = ("full_number", "total", "bought", "created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("kind", "full_number", "status", "total", "references")}),
        (_("The authority"), {"fields": ("access_key", "protocol", "mismatch", "refusal", "authorized_at")}),
        (_("Record"), {"fields": ("key", "bought", "created_at", "updated_at", "goods_left_at",
                                  "undo_requested_at", "undone_at")}),
    )  # fmt: skip
    inlines = (ReturnNoteInline,)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[models.Invoice], search_term: str
    ) -> tuple[QuerySet[models.Invoice], bool]:
        """A short number is an invoice's own; compared as a number, for which there is an index."""
        if search_term.isdecimal() and len(search_term) <= LONGEST_NUMBER:
            return queryset.filter(number=int(search_term)), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description=_("series and number"), ordering="number")
    def full_number(self, invoice: models.Invoice) -> str:
        """Series and number, as they stand on the document."""
        return "" if invoice.number is None else f"{invoice.series_id} / {invoice.number}"

    @admin.display(description=_("lines"))
    def bought(self, invoice: models.Invoice) -> SafeString:
        """The lines that the invoice is made out for."""
        return html.format_html_join(
            SafeString("<br>"),
            "{} × {} ({}), {}",
            (
                (line["quantity"], line["name"], line["sku"], money.written(**line["unit_price"]))
                for line in invoice.lines
            ),
        )

    @admin.display(description=_("total"), ordering="amount")
    def total(self, invoice: models.Invoice) -> str:
        """The amount that the invoice is made out over, with its currency."""
        return money.written(invoice.amount, invoice.currency)


@admin.register(models.Series)
class SeriesAdmin(readonly.Admin):
    """The series, each with the number that it gives out next."""

    list_display = ("number", "next_number")


@admin.register(models.CancellationWindow)
class CancellationWindowAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The law's windows, where a state has its own. These are to be edited: the law changes."""

    list_display = ("state", "length")
