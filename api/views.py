"""What all views of an API share; and the pages about it: its description, and what each problem means."""

import functools
from collections.abc import Callable
from typing import Any

import yaml
from django import http
from django.shortcuts import render
from django.views.decorators import csrf
from rest_framework import views

from api import idempotency, problems, rendering, throttling
from sagas import strictjson


class View(views.APIView):
    """A view that says truly which methods it takes; OPTIONS is none, for there is /api/schema."""

    http_method_names = ["get", "head", "post", "patch", "delete"]

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Every answer to a token says what is left of its allowance."""
        response = super().finalize_response(request, response, *args, **kwargs)
        for name, value in throttling.headers(request).items():
            response[name] = value
        return response


def only_read(view: Callable[..., http.HttpResponse]) -> Callable[..., http.HttpResponse]:
    """A page to be looked at; any other method is a problem, and none of a missing cookie."""

    @csrf.csrf_exempt
    @functools.wraps(view)
    def checked(request: http.HttpRequest, **words: str) -> http.HttpResponse:
        if request.method in ("GET", "HEAD"):
            return view(request, **words)
        return problems.page(request, problems.method_not_allowed({"Allow": "GET, HEAD"}))

    return checked


@only_read
def schema(request: http.HttpRequest) -> http.HttpResponse:
    """The description as JSON, or as YAML for who asks for that."""
    in_yaml = request.GET.get("format") == "yaml" or "yaml" in request.headers.get("Accept", "")
    body, kind = _described(in_yaml)
    return rendering.unless_known(request, body, **{"Content-Type": kind})


@functools.cache
def _described(in_yaml: bool) -> tuple[bytes, str]:
    # Imported late: it reads every view, and no other request needs it.
    from api import schema as description

    if in_yaml:
        return yaml.safe_dump(description.document(), sort_keys=False).encode(), "application/yaml"
    return strictjson.dumps(description.document()), "application/json"


@only_read
def docs(request: http.HttpRequest) -> http.HttpResponse:
    """The description for people: Swagger UI, with nothing inline and nothing from elsewhere."""
    return render(request, "api/docs.html", {"sample_key": idempotency.SAMPLE})


@only_read
def kinds(request: http.HttpRequest) -> http.HttpResponse:
    """Every kind of problem."""
    return render(request, "api/problems.html", {"kinds": problems.listed()})


@only_read
def kind(request: http.HttpRequest, slug: str) -> http.HttpResponse:
    """One kind of problem: where its `type` leads."""
    if slug not in problems.KINDS:
        raise http.Http404
    return render(request, "api/problems.html", {"kinds": [problems.KINDS[slug]], "one": True})
