"""Orders, to look at; what may be done to one is done on the page of its saga, with a reason.

And the keys of the API: tokens, which are made and revoked here, and what merchants were told.
"""

import uuid
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import models as auth
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from backoffice import money, readonly
from orders import console, models, saga, selectors, tokens, webhooks
from sagas.console import panels, translation
from sagas.console.templatetags import console as marks

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
        said = marks.words()
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
    list_select_related = ("saga",)
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
        """When."""
        return marks.moment(order.created_at)

    @admin.display(description=_("saga"))
    def its_saga(self, order: models.Order) -> SafeString:
        """The page that tells what happened to it."""
        url = reverse("admin:sagas_sagainstance_change", args=[order.saga_id])
        return html.format_html('<a href="{}">{}</a>', url, str(order.saga_id)[-12:])


class TokenForm(forms.ModelForm):  # type: ignore[type-arg]
    """Refuses a token that its maker may not hand out."""

    maker: auth.User
    """Who fills it in: TokenAdmin says."""

    def clean(self) -> dict[str, Any]:
        """Whoever may not choose a user makes it for themselves."""
        data = super().clean() or self.cleaned_data
        user, scope = data.get("user", self.maker), data.get("scope")
        if user is not None and scope and (why := tokens.refusal(maker=self.maker, user=user, scope=scope)):
            self.add_error("user" if "user" in self.fields and user != self.maker else "scope", why)
        return data


@admin.register(models.Token)
class TokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Made here, shown once, and from then on to be revoked but neither changed nor deleted."""

    list_display = ("hint", "name", "user", "scope", "created_at", "expires_at", "used_at", "revoked_at")
    list_filter = ("scope",)
    list_select_related = ("user",)
    search_fields = ("=hint", "name", "user__username")
    ordering = ("-id",)
    show_full_result_count = False
    autocomplete_fields = ("user",)
    actions = ("revoke",)
    form = TokenForm

    def get_fields(self, request: HttpRequest, obj: models.Token | None = None) -> tuple[str, ...]:
        """What is chosen when it is made, or what there is to be seen; only superusers choose for whom."""
        chosen = ("user", "name", "scope", "expires_at")
        if obj is None and not request.user.is_superuser:
            return chosen[1:]
        return chosen if obj is None else (*chosen, "hint", "created_at", "used_at", "revoked_at")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form knows who fills it in."""
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"maker": request.user})

    def has_change_permission(self, request: HttpRequest, obj: models.Token | None = None) -> bool:
        """Nobody changes one: a new one is made, and the old one revoked."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Token | None = None) -> bool:
        """Nobody deletes one: it is asked about when something went wrong."""
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Whoever may make one may revoke their own; everybody's, whoever has `orders.change_token`."""
        return self.has_add_permission(request) or request.user.has_perm("orders.change_token")

    def save_model(self, request: HttpRequest, obj: models.Token, form: Any, change: bool) -> None:
        """Make it, and show its secret this once."""
        if "user" not in form.cleaned_data:
            obj.user = form.maker
        secret = tokens.fill(obj)
        super().save_model(request, obj, form, change)
        told = html.format_html("{} <code>{}</code>", _("Copy it now, it is not shown again:"), secret)
        self.message_user(request, told, messages.WARNING)

    @admin.action(description=_("Revoke"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[models.Token]) -> None:
        """From now on they open nothing."""
        refused = 0
        for token in queryset:
            if not tokens.may_revoke(actor=request.user, token=token):  # type: ignore[arg-type]
                refused += 1
                continue
            tokens.revoke(token=token)
            self.log_change(request, token, "Revoked.")
        if refused:
            told = _("Not revoked, for they are another's: %(count)s.") % {"count": refused}
            self.message_user(request, told, messages.ERROR)
        if refused < len(queryset):
            self.message_user(request, _("They open nothing any more."))


@admin.register(models.WebhookEndpoint)
class WebhookEndpointAdmin(readonly.Admin):
    """Where merchants are told, and how that fares."""

    list_display = ("url", "owner", "created_at", "failing_since", "disabled_at", "disabled_reason")
    list_filter = (("disabled_at", admin.EmptyFieldListFilter),)
    list_select_related = ("owner",)
    search_fields = ("url", "owner__username", "=id")
    ordering = ("-id",)
    show_full_result_count = False
    exclude = ("secret", "old_secrets")


class AttemptInline(readonly.Inline):
    """What was tried, and what came back."""

    model = models.WebhookAttempt
    fields = ("at", "duration_ms", "status", "error", "response")
    readonly_fields = fields


@admin.register(models.WebhookDelivery)
class WebhookDeliveryAdmin(readonly.Admin):
    """What merchants were told."""

    list_display = ("__str__", "type", "order", "state", "attempts", "next_at", "delivered_at")
    list_filter = ("state",)
    list_select_related = ("message", "endpoint", "order")
    search_fields = ("order__number__exact",)
    search_help_text = _("Id of the message, or order number")
    ordering = ("-id",)
    show_full_result_count = False
    inlines = (AttemptInline,)
    actions = ("replay",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[models.WebhookDelivery], search_term: str
    ) -> tuple[QuerySet[models.WebhookDelivery], bool]:
        """By the message, or by the order that it tells of; both by index."""
        try:
            return queryset.filter(message=uuid.UUID(search_term)), False
        except ValueError:
            return queryset.filter(
                message__order__number=search_term.upper()
            ) if search_term else queryset, False

    @admin.display(description=_("type"))
    def type(self, delivery: models.WebhookDelivery) -> str:
        """What it tells."""
        return delivery.message.type

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Those who may change deliveries, of which this is the only way."""
        return request.user.has_perm("orders.change_webhookdelivery")

    @admin.action(description=_("Send again"), permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[models.WebhookDelivery]) -> None:
        """With the same id, so that a receiver knows it again."""
        for delivery in queryset:
            if webhooks.replay(delivery=delivery):
                self.log_change(request, delivery, "Sent again.")
            else:
                told = _("Message %(id)s is not sent: its endpoint is disabled.") % {"id": delivery.pk}
                self.message_user(request, told, messages.WARNING)
        self.message_user(request, _("Messages to endpoints that are enabled are sent again."))


@admin.register(models.IdempotencyKey)
class IdempotencyKeyAdmin(readonly.Admin):
    """Requests that were answered, for who asks why a client got an old answer."""

    list_display = ("key", "owner", "endpoint", "status", "created_at", "expires_at")
    list_select_related = ("owner",)
    search_fields = ("key__exact", "owner__username__exact")
    ordering = ("-id",)
    show_full_result_count = False
    exclude = ("body",)
