"""The addresses under /api/v1."""

from django.urls import path

import api.urls  # noqa: F401 - says how an id is written
from orders.api import views

urlpatterns = [
    path("orders", views.Orders.as_view(), name="orders"),
    path("orders/<id:order_id>", views.Order.as_view(), name="order"),
    path("orders/<id:order_id>/cancel", views.Cancellation.as_view(), name="order-cancel"),
    path("orders/<id:order_id>/events", views.OrderEvents.as_view(), name="order-events"),
    path("products", views.Products.as_view(), name="products"),
    path("webhooks/payments", views.PaymentsCallback.as_view(), name="webhooks-payments"),
    path("webhooks/carrier", views.CarrierCallback.as_view(), name="webhooks-carrier"),
]
