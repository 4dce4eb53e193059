"""The addresses under /api/v1 that are about webhooks."""

from django.urls import path

import api.urls  # noqa: F401 - says how an id is written
from webhooks.api import views

urlpatterns = [
    path("events", views.Events.as_view(), name="events"),
    path("webhook-endpoints", views.Endpoints.as_view(), name="webhook-endpoints"),
    path("webhook-endpoints/<id:endpoint_id>", views.Endpoint.as_view(), name="webhook-endpoint"),
    path("webhook-endpoints/<id:endpoint_id>/secret", views.Secret.as_view(), name="webhook-secret"),
    path("webhook-endpoints/<id:endpoint_id>/test", views.Test.as_view(), name="webhook-test"),
    path("webhook-endpoints/<id:endpoint_id>/replay", views.Replays.as_view(), name="webhook-replays"),
    path(
        "webhook-endpoints/<id:endpoint_id>/deliveries",
        views.Deliveries.as_view(),
        name="webhook-deliveries",
    ),
    path(
        "webhook-endpoints/<id:endpoint_id>/deliveries/<int:delivery_id>/replay",
        views.Replay.as_view(),
        name="webhook-replay",
    ),
]
