"""The framework's own errors: problem documents under /api, Django's pages elsewhere."""

from collections.abc import Callable

from django import http, urls
from django.views import defaults

from api import problems


def _handler(
    page: Callable[..., http.HttpResponse], kind: problems.Kind, detail: str
) -> Callable[..., http.HttpResponse]:
    """What Django calls with a request and, but for a bug, with the exception."""

    def handler(request: http.HttpRequest, exception: Exception | None = None) -> http.HttpResponse:
        if not f"{request.path}/".startswith("/api/"):
            return page(request) if exception is None else page(request, exception)
        known = problems.of(exception) if exception and kind is problems.MALFORMED_REQUEST else None
        said = detail
        if kind is problems.NOT_FOUND and _is_there_without_slash(request.path):
            said = f"{detail} Without the slash at its end there is: {request.path.rstrip('/')}."
        return problems.page(request, known or problems.Problem(kind, said))

    return handler


def _is_there_without_slash(path: str) -> bool:
    """Whether an address has one slash too many; ours end in none, and a redirect would lose a body."""
    try:
        urls.resolve(path.rstrip("/"))
    except urls.Resolver404:
        return False
    return path.endswith("/")


bad_request = _handler(defaults.bad_request, problems.MALFORMED_REQUEST, "This is not understood.")
forbidden = _handler(defaults.permission_denied, problems.NOT_PERMITTED, "You may not do that.")
not_found = _handler(defaults.page_not_found, problems.NOT_FOUND, "There is nothing at this address.")
server_error = _handler(defaults.server_error, problems.INTERNAL_ERROR, "Something went wrong on our side.")
"""A bug of ours, which Django has logged with the request's id."""
