"""The addresses under /api/v1."""

from django.urls import path

from orders.api import views

urlpatterns = [
    path("orders", views.Orders.as_view(), name="orders"),
    path("orders/<uuid:order_id>", views.Order.as_view(), name="order"),
    path("orders/<uuid:order_id>/cancel", views.Cancellation.as_view(), name="order-cancel"),
    path("products", views.Products.as_view(), name="products"),
    path("webhooks/payments", views.PaymentsCallback.as_view(), name="webhooks-payments"),
    path("webhooks/carrier", views.CarrierCallback.as_view(), name="webhooks-carrier"),
]
