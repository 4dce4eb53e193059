"""The addresses under /api that are about the API."""

from django.urls import path

from orders.api import pages

urlpatterns = [
    path("schema", pages.schema, name="schema"),
    path("docs", pages.docs, name="docs"),
    path("problems", pages.kinds, name="problems"),
    path("problems/<slug:slug>", pages.kind, name="problem"),
]
