"""The API's own pages: what each problem means, and the documentation."""

from django import http
from django.shortcuts import render
from django.views.decorators import http as methods

from orders.api import problems


@methods.require_safe
def kinds(request: http.HttpRequest) -> http.HttpResponse:
    """Every kind of problem."""
    return render(request, "orders/problems.html", {"kinds": problems.KINDS.values()})


@methods.require_safe
def kind(request: http.HttpRequest, slug: str) -> http.HttpResponse:
    """One kind of problem: where its `type` leads."""
    if slug not in problems.KINDS:
        raise http.Http404
    return render(request, "orders/problems.html", {"kinds": [problems.KINDS[slug]], "one": True})
