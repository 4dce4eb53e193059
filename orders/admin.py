"""Orders, to look at; what may be done to one is done on the page of its saga, with a reason."""

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from orders import console, models, saga
from sagas.admin import panels
from sagas.templatetags import console as marks

panels.add(saga.ORDER_FULFILMENT.name, console.Orders())


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


class LineInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """What was ordered, at the price and under the name of then."""

    model = models.OrderLine
    fields = ("position", "sku", "name", "quantity", "unit_amount", "currency")
    readonly_fields = fields


@admin.register(models.Order)
class OrderAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Newest first."""

    list_display = ("number", "badge", "customer_name", "total", "payment_method", "placed", "its_saga")
    list_filter = ("payment_method", "state")
    list_select_related = ("saga",)
    search_fields = (
        "=number",
        "=customer_tax_id",
        "=customer_email",
        "customer_name__istartswith",
        "=reference",
    )
    search_help_text = _("Order number, customer, e-mail, tax id, reference")
    ordering = ("-id",)
    show_full_result_count = False
    readonly_fields = ("badge", "its_saga", "total")
    inlines = (LineInline,)

    @admin.display(description=_("state"))
    def badge(self, order: models.Order) -> SafeString:
        """What has become of it."""
        return marks.badge(order.saga.state)

    @admin.display(description=_("total"))
    def total(self, order: models.Order) -> str:
        """What it costs."""
        return console.money(order.total_amount, order.currency)

    @admin.display(description=_("placed"), ordering="id")
    def placed(self, order: models.Order) -> str | SafeString:
        """When."""
        return marks.moment(order.created_at)

    @admin.display(description=_("saga"))
    def its_saga(self, order: models.Order) -> SafeString:
        """The page that tells what happened to it."""
        url = reverse("admin:sagas_sagainstance_change", args=[order.saga_id])
        return html.format_html('<a href="{}">{}</a>', url, str(order.saga_id)[-12:])
