"""The addresses under /api that are about the API; and how an id is written in all others."""

from django.urls import converters, path, register_converter

from api import views


class Id(converters.UUIDConverter):
    """A UUID. Ours are in small letters; some languages write every one in capitals, which is the same."""

    regex = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


register_converter(Id, "id")

urlpatterns = [
    path("schema", views.schema, name="schema"),
    path("docs", views.docs, name="docs"),
    path("problems", views.kinds, name="problems"),
    path("problems/<slug:slug>", views.kind, name="problem"),
]
