"""The addresses under /api/v1; and how an order is named in them."""

import uuid

from django.urls import path, register_converter

import api.urls
from orders import numbers
from orders.api import views


class OrderName:
    """An order's id, or its number, in whichever letters they are written."""

    regex = f"(?:{api.urls.Id.regex}|[oO][rR][dD]-[0-9a-zA-Z]{{{numbers.LENGTH}}})"

    def to_python(self, value: str) -> uuid.UUID | str:
        """The id, or the number as it is kept."""
        return value.upper() if value[3] == "-" else uuid.UUID(value)

    def to_url(self, value: uuid.UUID | str) -> str:
        """As it stands in an address."""
        return str(value)


register_converter(OrderName, "order")

urlpatterns = [
    path("orders", views.Orders.as_view(), name="orders"),
    path("orders/<order:order_id>", views.Order.as_view(), name="order"),
    path("orders/<order:order_id>/cancel", views.Cancellation.as_view(), name="order-cancel"),
    path("orders/<order:order_id>/events", views.OrderEvents.as_view(), name="order-events"),
    path("products", views.Products.as_view(), name="products"),
    path("webhooks/payments", views.PaymentsCallback.as_view(), name="webhooks-payments"),
    path("webhooks/carrier", views.CarrierCallback.as_view(), name="webhooks-carrier"),
]
