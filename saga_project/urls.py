"""The table of contents: one line per room."""

from django.contrib import admin
from django.urls import include, path
from django.views import generic

from saga_project import health, metrics

urlpatterns = [
    # Whoever opens the bare address wants to know what there is.
    path("", generic.RedirectView.as_view(url="/api/docs"), name="start"),
    path("admin/", admin.site.urls),
    path("api/", include("orders.api.about")),
    path("api/v1/", include("orders.api.urls")),
    path("livez", health.live, name="livez"),
    path("readyz", health.ready, name="readyz"),
    path("metrics", metrics.Metrics.as_view(), name="metrics"),
]

handler400 = "orders.api.handlers.bad_request"
handler403 = "orders.api.handlers.forbidden"
handler404 = "orders.api.handlers.not_found"
handler500 = "orders.api.handlers.server_error"
