"""The addresses of the site, one line for each part."""

from django.contrib import admin
from django.urls import include, path
from django.views import generic

from saga_project import health, metrics

urlpatterns = [
    # The bare address leads to the documentation of the API.
    path("", generic.RedirectView.as_view(url="/api/docs"), name="start"),
    path("admin/", admin.site.urls),
    path("", include("sagas.console.urls")),
    path("api/", include("api.urls")),
    path("api/v1/", include("orders.api.urls")),
    path("api/v1/", include("sagas.console.api.urls")),
    path("api/v1/", include("webhooks.api.urls")),
    path("livez", health.live, name="livez"),
    path("readyz", health.ready, name="readyz"),
    path("metrics", metrics.Metrics.as_view(), name="metrics"),
]

handler400 = "api.handlers.bad_request"
handler403 = "api.handlers.forbidden"
handler404 = "api.handlers.not_found"
handler500 = "api.handlers.server_error"
