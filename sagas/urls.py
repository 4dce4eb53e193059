"""The addresses of sagas outside Django's admin: `path("sagas/", include("sagas.urls"))`.

The console's pages are in the admin. What is here are the links with which somebody approves without logging
in; without the console there is nothing.
"""

from django.apps import apps
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = []
"""What is mounted; nothing without the console."""

if apps.is_installed("sagas.console"):
    urlpatterns.append(path("", include("sagas.console.urls")))
