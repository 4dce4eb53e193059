"""The addresses under /api/v1."""

from django.urls import converters, path, register_converter

from orders.api import endpoints, staff, views


class Id(converters.UUIDConverter):
    """A UUID. Ours are in small letters; some languages write every one in capitals, which is the same."""

    regex = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


register_converter(Id, "id")

urlpatterns = [
    path("orders", views.Orders.as_view(), name="orders"),
    path("orders/<id:order_id>", views.Order.as_view(), name="order"),
    path("orders/<id:order_id>/cancel", views.Cancellation.as_view(), name="order-cancel"),
    path("orders/<id:order_id>/events", views.OrderEvents.as_view(), name="order-events"),
    path("products", views.Products.as_view(), name="products"),
    path("sagas", staff.Sagas.as_view(), name="sagas"),
    path("sagas/<id:saga_id>", staff.Saga.as_view(), name="saga"),
    path("sagas/<id:saga_id>/events", staff.SagaEvents.as_view(), name="saga-events"),
    path("sagas/<id:saga_id>/retry", staff.Retry.as_view(), name="saga-retry"),
    path("sagas/<id:saga_id>/compensate", staff.Compensate.as_view(), name="saga-compensate"),
    path("sagas/<id:saga_id>/resolve", staff.Resolve.as_view(), name="saga-resolve"),
    path("webhook-endpoints", endpoints.Endpoints.as_view(), name="webhook-endpoints"),
    path("webhook-endpoints/<id:endpoint_id>", endpoints.Endpoint.as_view(), name="webhook-endpoint"),
    path("webhook-endpoints/<id:endpoint_id>/secret", endpoints.Secret.as_view(), name="webhook-secret"),
    path("webhook-endpoints/<id:endpoint_id>/test", endpoints.Test.as_view(), name="webhook-test"),
    path(
        "webhook-endpoints/<id:endpoint_id>/deliveries",
        endpoints.Deliveries.as_view(),
        name="webhook-deliveries",
    ),
    path(
        "webhook-endpoints/<id:endpoint_id>/deliveries/<int:delivery_id>/replay",
        endpoints.Replay.as_view(),
        name="webhook-replay",
    ),
    path("webhooks/payments", views.PaymentsCallback.as_view(), name="webhooks-payments"),
    path("webhooks/carrier", views.CarrierCallback.as_view(), name="webhooks-carrier"),
]
