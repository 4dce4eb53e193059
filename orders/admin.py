"""Orders, to look at; what may be done to one is done on the page of its saga, with a reason."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from backoffice import money, readonly
from orders import console, erasure, errors, forms, models, saga, selectors
from sagas.console import marks, panels, translation

panels.add(saga.ORDER_FULFILMENT.name, console.Orders())
translation.register(console.meaning)


class LineInline(readonly.Inline):
    """What was ordered, at the price and under the name of then."""

    model = models.OrderLine
    verbose_name_plural = _("lines")
    fields = ("position", "sku", "name", "quantity", "ships", "unit_price", "line_total")
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
        return selectors.chosen(queryset, {"status": [value]}) if value in models.Status.values else queryset


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
        "erased_at",
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("number", "badge", "its_saga", "total", "payment_method", "reference", "owner")}),
        (_("Customer"), {"fields": ("customer_name", "customer_email", "customer_tax_id")}),
        (_("Goes to"), {"fields": ("recipient", "street", "street_number", "complement", "district", "city",
                                   "state", "postal_code", "country")}),
        (_("Record"), {"fields": ("placed", "fulfilled_at", "cancelled_at", "closed_at", "cancel_reason",
                                  "erased_at")}),
    )  # fmt: skip
    inlines = (LineInline,)
    actions = ("erase",)

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

    def has_erase_permission(self, request: HttpRequest) -> bool:
        """Those who may have a customer's data erased."""
        return request.user.has_perm(ERASE)

    @admin.action(description=_("Erase personal data…"), permissions=["erase"])
    def erase(self, request: HttpRequest, queryset: QuerySet[models.Order]) -> HttpResponse | None:
        """Show what it would come to, and ask for it; a second person agrees on the page of erasures."""
        try:
            customer, orders = erasure.of_same_customer(queryset)
            if "reason" in request.POST:
                asked = erasure.ask(
                    customer=customer,
                    orders=orders,
                    actor=request.user.get_username(),
                    reason=request.POST["reason"],
                )
                self.message_user(request, _("Asked for: a second person must agree before it is done."))
                return HttpResponseRedirect(reverse("admin:orders_erasure_change", args=[asked.pk]))
        except (errors.NoCustomer, errors.NotErasable) as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            return None
        return TemplateResponse(
            request,
            "orders/erase.html",
            {
                **self.admin_site.each_context(request),
                "title": _("Erase personal data"),
                "found": erasure.look(orders),
                "selected": queryset.values_list("pk", flat=True),
            },
        )


@admin.register(models.FlaggedCustomer)
class FlaggedCustomerAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Customers whose orders wait for a review, the last flagged first: people flag them, and lift it again.

    Who may is said by Django's permissions on flagged customers, which no role has by itself. It counts from
    the next order on: what an order waits for is decided when it is placed.
    """

    form = forms.FlaggedCustomer
    list_display = ("tax_id", "reason", "flagged_by", "flagged_at")
    search_fields = ("tax_id__exact",)
    search_help_text = _("CPF or CNPJ")
    ordering = ("-flagged_at", "-id")
    show_full_result_count = False
    readonly_fields = ("flagged_by", "flagged_at")

    def save_model(self, request: HttpRequest, obj: models.FlaggedCustomer, form: Any, change: bool) -> None:
        """With the name of whoever flagged them first."""
        if not change:
            obj.flagged_by = request.user.get_username()
        super().save_model(request, obj, form, change)


ERASE = "orders.erase_customer"


@admin.register(models.Erasure)
class ErasureAdmin(readonly.Admin):
    """Requests that a customer's data be erased, the newest first; here the second person agrees."""

    list_display = ("reason", "state", "asked_by", "asked_at", "decided_by", "decided_at", "done_at")
    list_filter = ("state",)
    ordering = ("-id",)
    show_full_result_count = False
    exclude = ("customer_salt", "customer_digest")
    readonly_fields = ("asked_at",)
    actions = ("agree", "refuse")

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Those who may look, and those who are to agree."""
        return request.user.has_perm(ERASE) or super().has_view_permission(request, obj)

    def has_erase_permission(self, request: HttpRequest) -> bool:
        """Those who may have a customer's data erased."""
        return request.user.has_perm(ERASE)

    @admin.action(description=_("Agree, and erase: it cannot be taken back"), permissions=["erase"])
    def agree(self, request: HttpRequest, queryset: QuerySet[models.Erasure]) -> None:
        """As the second person; what is not done at once is done within minutes."""
        self._decide(request, queryset, erasure.agree, "Agreed.")
        erasure.drive()
        under_way = queryset.filter(state=models.ErasureState.APPROVED)
        if under_way.exists():
            self.message_user(request, _("The rest is erased within minutes."), messages.WARNING)

    @admin.action(description=_("Refuse"), permissions=["erase"])
    def refuse(self, request: HttpRequest, queryset: QuerySet[models.Erasure]) -> None:
        """Or take one's own request back."""
        self._decide(request, queryset, erasure.refuse, "Refused.")

    def _decide(
        self,
        request: HttpRequest,
        queryset: QuerySet[models.Erasure],
        decide: Callable[..., object],
        noted: str,
    ) -> None:
        for asked in queryset:
            try:
                decide(asked.pk, actor=request.user.get_username())
            except errors.NotErasable as refusal:
                self.message_user(request, f"{asked}: {refusal}", messages.ERROR)
            else:
                self.log_change(request, asked, noted)
