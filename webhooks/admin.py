"""What merchants were told, to look at and to send again."""

import uuid

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from backoffice import readonly
from webhooks import models, services


@admin.register(models.Endpoint)
class EndpointAdmin(readonly.Admin):
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

    model = models.Attempt
    fields = ("at", "duration_ms", "status", "error", "response")
    readonly_fields = fields


@admin.register(models.Delivery)
class DeliveryAdmin(readonly.Admin):
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
        self, request: HttpRequest, queryset: QuerySet[models.Delivery], search_term: str
    ) -> tuple[QuerySet[models.Delivery], bool]:
        """By the message, or by the order that it tells of; both by index."""
        try:
            return queryset.filter(message=uuid.UUID(search_term)), False
        except ValueError:
            return queryset.filter(
                message__order__number=search_term.upper()
            ) if search_term else queryset, False

    @admin.display(description=_("type"))
    def type(self, delivery: models.Delivery) -> str:
        """What it tells."""
        return delivery.message.type

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Those who may change deliveries, of which this is the only way."""
        return request.user.has_perm("webhooks.change_delivery")

    @admin.action(description=_("Send again"), permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[models.Delivery]) -> None:
        """With the same id, so that a receiver knows it again."""
        for delivery in queryset:
            if services.replay(delivery=delivery):
                self.log_change(request, delivery, "Sent again.")
            else:
                told = _("Message %(id)s is not sent: its endpoint is disabled.") % {"id": delivery.pk}
                self.message_user(request, told, messages.WARNING)
        self.message_user(request, _("Messages to endpoints that are enabled are sent again."))
