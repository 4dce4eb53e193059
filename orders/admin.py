"""Orders, to look at; what may be done to one is done on the page of its saga, with a reason."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from backoffice import money, readonly
from orders import console, models, saga, selectors
from sagas.console import marks, panels, translation

panels.add(saga.ORDER_FULFILMENT.name, console.Orders())
translation.register(console.meaning)


class LineInline(readonly.Inline):
    """What was ordered, at the price and under the name of then."""

    model = models.OrderLine
    verbose_name_plural = _("lines")
    fields = ("position", "sku", "name", "quantity", "unit_price", "line_total")
    readonly_fields = fields

    @admin.display(description=_("unit price"))
    def unit_price(self, line: models.OrderLine) -> str:
        """Of one."""
        return money.written(line.unit_amount, line.currency)

    @admin.display(description=_("total"))
    def line_total(self, line: models.OrderLine) -> str:
        """Of all of it."""
        return money.written(line.unit_amount * line.quantity, line.currency)


class State(admin.SimpleListFilter):
    """By what has become of it."""

    title = _("state")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Each status, called what its saga's badge is called."""
        said = marks.state_names()
        return [(status.value, said[models.SAGA_STATE_OF.get(status, "closed")]) for status in models.Status]

    def queryset(self, request: HttpRequest, queryset: QuerySet[models.Order]) -> QuerySet[models.Order]:
        """Only those."""
        value = self.value()
        return selectors.chosen(queryset, {"status": value}) if value in models.Status.values else queryset


@admin.register(models.Order)
class OrderAdmin(readonly.Admin):
    """Newest first."""

    list_display = ("number", "badge", "customer_name", "total", "payment_method", "placed", "its_saga")
    list_filter = (State, "payment_method")
    # Each by an index: see the migration that makes them.
    search_fields = (
        "number__exact",
        "customer_tax_id__exact",
        "customer_email__iexact",
        "customer_name__istartswith",
    )
    search_help_text = _("Order number, customer, e-mail, tax id")
    ordering = ("-id",)
    show_full_result_count = False
    readonly_fields = (
        "number", "badge", "its_saga", "total", "placed", "fulfilled_at", "cancelled_at", "closed_at",
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("number", "badge", "its_saga", "total", "payment_method", "reference", "owner")}),
        (_("Customer"), {"fields": ("customer_name", "customer_email", "customer_tax_id")}),
        (_("Goes to"), {"fields": ("recipient", "street", "street_number", "complement", "district", "city",
                                   "state", "postal_code", "country")}),
        (_("Record"), {"fields": ("placed", "fulfilled_at", "cancelled_at", "closed_at", "cancel_reason")}),
    )  # fmt: skip
    inlines = (LineInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[models.Order]:
        """With their sagas, wherever these are."""
        return super().get_queryset(request).prefetch_related("saga")

    @admin.display(description=_("state"))
    def badge(self, order: models.Order) -> SafeString:
        """What has become of it."""
        return marks.badge("closed" if order.saga.closed_at else order.saga.state)

    @admin.display(description=_("total"))
    def total(self, order: models.Order) -> str:
        """What it costs."""
        return money.written(order.total_amount, order.currency)

    @admin.display(description=_("placed"), ordering="id")
    def placed(self, order: models.Order) -> str | SafeString:
        """When it was placed."""
        return marks.moment(order.created_at)

    @admin.display(description=_("saga"))
    def its_saga(self, order: models.Order) -> SafeString:
        """The page that tells what happened to it."""
        url = reverse("admin:sagas_sagainstance_change", args=[order.saga_id])
        return html.format_html('<a href="{}">{}</a>', url, str(order.saga_id)[-12:])
