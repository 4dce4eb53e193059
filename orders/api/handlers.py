"""The framework's own errors: problem documents under /api, Django's pages elsewhere."""

from typing import Any

from django import http
from django.views import defaults

from orders.api import problems


def bad_request(request: http.HttpRequest, exception: Exception) -> http.HttpResponse:
    """400."""
    if not _is_of_the_api(request):
        return defaults.bad_request(request, exception)
    problem = problems.of(exception) or problems.Problem(
        problems.MALFORMED_REQUEST, "This is not understood."
    )
    return problems.page(request, problem)


def forbidden(request: http.HttpRequest, exception: Exception) -> http.HttpResponse:
    """403."""
    if not _is_of_the_api(request):
        return defaults.permission_denied(request, exception)
    return problems.page(request, problems.Problem(problems.NOT_PERMITTED, "You may not do that."))


def not_found(request: http.HttpRequest, exception: Exception) -> http.HttpResponse:
    """404."""
    if not _is_of_the_api(request):
        return defaults.page_not_found(request, exception)
    return problems.page(request, problems.Problem(problems.NOT_FOUND, "There is nothing at this address."))


def server_error(request: http.HttpRequest, **kwargs: Any) -> http.HttpResponse:
    """500: a bug of ours, which Django has logged with the request's id."""
    if not _is_of_the_api(request):
        return defaults.server_error(request)
    return problems.page(
        request, problems.Problem(problems.INTERNAL_ERROR, "Something went wrong on our side.")
    )


def _is_of_the_api(request: http.HttpRequest) -> bool:
    return f"{request.path}/".startswith("/api/")
