"""The order's number in the lists of the services' rows, which know a key and no order."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.views import main
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from orders import models
from sagas import reading

KEYS = {
    "payments.payment": "key",
    "invoicing.invoice": "key",
    "shipping.shipment": "key",
    "inventory.reservation": "key",
    "inventory.movement": "reservation_id",
}
"""Whose rows belong to an order, and which of their fields begins with the id of its saga."""


class ChangeList(main.ChangeList):
    """Rows with their orders, which are read once for the whole page."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.search_help_text = f"{gettext('Order number')} · {self.search_help_text}"

    def get_results(self, request: HttpRequest) -> None:
        """Add to each row its order, if it has one."""
        super().get_results(request)
        listed: Any = self.model_admin
        field = listed.order_key
        sagas = {row.pk: saga_id for row in self.result_list if (saga_id := _saga_of(getattr(row, field)))}
        orders = models.Order.objects.filter(saga_id__in=set(sagas.values())).only("saga_id", "number")
        known = {order.saga_id: order for order in orders}
        for row in self.result_list:
            saga_id = sagas.get(row.pk)
            row.order_of = known.get(saga_id) if saga_id is not None else None


class Numbered(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list whose first column is the order's number, by which it is searched, too.

    Only for those who may see orders; to others it is the list as its app made it.
    """

    order_key: str
    """The field that `KEYS` names."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        """The list that knows orders."""
        return ChangeList if _sees(request) else super().get_changelist(request, **kwargs)

    def get_list_display(self, request: HttpRequest) -> Any:
        """With the order in front."""
        shown = super().get_list_display(request)
        return ("order_number", *shown) if _sees(request) else shown

    def get_list_display_links(self, request: HttpRequest, list_display: Sequence[Any]) -> Any:
        """What leads to the row itself is still what its app has first."""
        return super().get_list_display_links(request, [one for one in list_display if one != "order_number"])

    @admin.display(description=gettext_lazy("order"))
    def order_number(self, row: Any) -> str | SafeString:
        """The number, with a link to the order's page."""
        if row.order_of is None:
            return "–"
        page = reverse("admin:orders_order_change", args=[row.order_of.pk])
        return html.format_html('<a href="{}">{}</a>', page, row.order_of.number)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Those of the order with this number; else what the app finds. Each by an index."""
        if search_term and _sees(request) and (saga_ids := _sagas_of_number(search_term)):
            return queryset.filter(**{f"{self.order_key}__in": _keys(saga_ids)}), False
        return super().get_search_results(request, queryset, search_term)


def _sees(request: HttpRequest) -> bool:
    return request.user.has_perm("orders.view_order")


def _saga_of(key: str | None) -> uuid.UUID | None:
    """The saga that a key's step belongs to; None where it is nobody's, or no step's."""
    try:
        return uuid.UUID((key or "").partition(".")[0])
    except ValueError:
        return None


def _sagas_of_number(term: str) -> list[uuid.UUID]:
    return list(models.Order.objects.filter(number=term.strip().upper()).values_list("saga_id", flat=True))


def _keys(saga_ids: Sequence[uuid.UUID]) -> list[str]:
    """The keys under which these orders' steps are known to the services, wherever the sagas are now."""
    sagas: Iterable[Any] = reading.in_bulk(saga_ids).values()
    steps = [step.key for saga in sagas for step in saga.steps.all()]
    # An invoice that can no longer be cancelled is taken back by another one.
    return [key for step in steps for key in (step, f"{step}.return")]
