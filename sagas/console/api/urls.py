"""The addresses under /api/v1 that are about sagas."""

from django.urls import path

import api.urls  # noqa: F401 - says how an id is written
from sagas.console.api import views

urlpatterns = [
    path("sagas", views.Sagas.as_view(), name="sagas"),
    path("sagas/<id:saga_id>", views.Saga.as_view(), name="saga"),
    path("sagas/<id:saga_id>/events", views.SagaEvents.as_view(), name="saga-events"),
    path("sagas/<id:saga_id>/retry", views.Retry.as_view(), name="saga-retry"),
    path("sagas/<id:saga_id>/compensate", views.Compensate.as_view(), name="saga-compensate"),
    path("sagas/<id:saga_id>/approve", views.Approve.as_view(), name="saga-approve"),
    path("sagas/<id:saga_id>/refuse", views.Refuse.as_view(), name="saga-refuse"),
    path("sagas/<id:saga_id>/resolve", views.Resolve.as_view(), name="saga-resolve"),
]
