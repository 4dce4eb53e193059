"""Every error as a problem document (RFC 9457), the framework's own included.

`KINDS` is the list, to which each app adds its own; each has a page at its `type`, and docs/problems.md is
tested against it. What an app's exceptions come to is the app's to say, with `translate`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django import http
from django.core import exceptions as django_exceptions
from rest_framework import exceptions

from sagas import strictjson

MEDIA_TYPE = "application/problem+json"
BASE = "/api/problems/"
"""A path: it resolves on every installation, and a client may compare it."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """One kind of problem: `type` for machines, the rest for people."""

    slug: str
    status: int
    title: str
    advice: str
    """What the caller may do about it."""
    sample: Mapping[str, Any]
    """The members of an example beside those that every problem has."""

    @property
    def type(self) -> str:
        """The URI reference that names it and leads to its page."""
        return BASE + self.slug

    @property
    def example(self) -> dict[str, Any]:
        """A whole document, for the description."""
        return {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "instance": "/api/v1/orders/0199c2e0-7a10-7cc3-98c4-dc0c0c07398f",
            "request_id": "0199c2e0-7a12-7000-8000-3f6d1c9a2b44",
            "detail": self.advice.replace("`", ""),
            **self.sample,
        }


KINDS: dict[str, Kind] = {}


def kind(slug: str, status: int, title: str, advice: str, **sample: Any) -> Kind:
    """A new kind of problem, which is listed from now on."""
    assert slug not in KINDS, f"two kinds of problems are called {slug}"
    KINDS[slug] = Kind(slug=slug, status=status, title=title, advice=advice, sample=sample)
    return KINDS[slug]


def listed() -> list[Kind]:
    """Every kind, by status."""
    return sorted(KINDS.values(), key=lambda kind: kind.status)


# A table: slug, status and title; what the caller may do; and what the example has besides.
# fmt: off
MALFORMED_BODY = kind(
    "malformed-body", 400, "The body is not JSON",
    "Send one JSON object, encoded in UTF-8, with `Content-Type: application/json`.",
)
MALFORMED_REQUEST = kind(
    "malformed-request", 400, "The request makes no sense",
    "`detail` says what is wrong; correct the request before you send it again.",
)
INVALID_QUERY = kind(
    "invalid-query", 400, "A query parameter is not acceptable",
    "`errors` names each parameter and says what is allowed; `detail` says the first.",
    detail="limit: This must be a whole number from 1 to 100.",
    errors=[{"parameter": "limit", "detail": "This must be a whole number from 1 to 100.",
             "code": "invalid"}],
)
KEY_MISSING = kind(
    "idempotency-key-missing", 400, "An Idempotency-Key is required",
    "Send a header `Idempotency-Key` with a value of your own choosing that is new for every new order,"
    " such as a UUID, and the same when you send the same order again.",
)
KEY_INVALID = kind(
    "idempotency-key-invalid", 400, "The Idempotency-Key is not acceptable",
    "Use 1 to 200 visible ASCII characters, bare or in double quotes.",
)
NOT_AUTHENTICATED = kind(
    "not-authenticated", 401, "A valid token is required",
    "Send `Authorization: Bearer ...` with a token that has neither expired nor been revoked.",
)
NOT_PERMITTED = kind(
    "not-permitted", 403, "This token may not do that",
    "Use a token with the scope that the operation names; for a staff operation its user also needs the"
    " permission.",
)
NOT_FOUND = kind(
    "not-found", 404, "There is nothing here",
    "Check the address. What belongs to somebody else is not to be found either.",
)
METHOD_NOT_ALLOWED = kind(
    "method-not-allowed", 405, "This address does not take that method",
    "The `Allow` header lists the methods that it takes.",
)
NOT_ACCEPTABLE = kind(
    "not-acceptable", 406, "The answer cannot be had in that form",
    "Accept `application/json`.",
)
IN_PROGRESS = kind(
    "idempotency-key-in-progress", 409, "The first request with this key is still being worked on",
    "Wait as long as `Retry-After` says and send the same request again: you will get the first answer.",
)
TOO_LARGE = kind(
    "body-too-large", 413, "The body is too large",
    "`detail` says how large it may be.",
)
UNSUPPORTED_MEDIA_TYPE = kind(
    "unsupported-media-type", 415, "The body is of a type that is not understood",
    "Send `Content-Type: application/json`, and the body as it is: without `Content-Encoding`.",
)
INVALID_BODY = kind(
    "invalid-body", 422, "The body is not acceptable",
    "`errors` points to each member that is wrong (a JSON pointer) and says what is allowed; `detail` says"
    " the first.",
    detail="/lines/0/quantity: This must be a whole number from 1 to 999.",
    errors=[{"pointer": "/lines/0/quantity", "detail": "This must be a whole number from 1 to 999.",
             "code": "max_value"}],
)
KEY_REUSED = kind(
    "idempotency-key-reused", 422, "The Idempotency-Key was used for another request",
    "Use a new key for a new request. If this was meant to be the same one, send exactly what you sent"
    " the first time.",
)
THROTTLED = kind(
    "throttled", 429, "Too many requests",
    "Wait as long as `Retry-After` says.",
)
INTERNAL_ERROR = kind(
    "internal-error", 500, "Something went wrong on our side",
    "Send the same request with the same Idempotency-Key again later; nothing is done twice. If it stays,"
    " tell the shop the `request_id`.",
)
BUSY = kind(
    "busy", 503, "Somebody else is at it just now",
    "Nothing was changed. Wait as long as `Retry-After` says and send the same request again.",
)
OVERLOADED = kind(
    "overloaded", 503, "Too many orders wait already",
    "Nothing was done. Wait as long as `Retry-After` says and send the same request again, with the same"
    " Idempotency-Key. Give up only if every request with it was answered so; else the order may be placed.",
)
UNAVAILABLE = kind(
    "unavailable", 503, "The service cannot answer just now",
    "Wait as long as `Retry-After` says and send the same request again.",
)
# fmt: on


class Problem(exceptions.APIException):
    """An answer that is an error."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        self.kind = kind
        self.status_code = kind.status
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.members = members
        super().__init__(detail)

    def document(self, request: http.HttpRequest) -> dict[str, Any]:
        """The document that is sent."""
        document = {
            "type": self.kind.type,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": str(self.detail),
            "instance": request.path,
            "request_id": getattr(request, "request_id", None),
        }
        if self.errors:
            document["errors"] = self.errors
        return document | self.members


Translator = Callable[[Exception], Problem | None]
_TRANSLATORS: list[Translator] = []


def translate(translator: Translator) -> Translator:
    """Have an app say what its exceptions come to; it answers None for those that are not its own."""
    _TRANSLATORS.append(translator)
    return translator


def handle(error: Exception, context: dict[str, Any]) -> http.HttpResponse | None:
    """What Django REST framework calls with every exception of a view; None leaves it to Django."""
    problem = of(error)
    return page(context["request"]._request, problem) if problem else None


ASK_FOR_TOKEN = {"WWW-Authenticate": "Bearer"}


def of(error: Exception) -> Problem | None:
    """The problem that an exception stands for; None for a bug, which is Django's to report.

    The framework's own words are left out where they would come in the caller's language: ours do not.
    """
    match error:
        case Problem():
            return error
        case http.Http404() | exceptions.NotFound():
            return Problem(NOT_FOUND, "There is nothing at this address that you may see.")
        case exceptions.NotAuthenticated():
            return Problem(
                NOT_AUTHENTICATED,
                "No token was shown: send the header `Authorization: Bearer ...`.",
                headers=ASK_FOR_TOKEN,
            )
        case exceptions.AuthenticationFailed():
            return Problem(NOT_AUTHENTICATED, str(error.detail), headers=ASK_FOR_TOKEN)
        case exceptions.PermissionDenied():
            return Problem(NOT_PERMITTED, str(error.detail))
        case django_exceptions.PermissionDenied():
            return Problem(NOT_PERMITTED, "You may not do that.")
        case exceptions.MethodNotAllowed():
            return method_not_allowed()
        case exceptions.NotAcceptable():
            return Problem(NOT_ACCEPTABLE, "The answer cannot be had in a form that you accept.")
        case exceptions.UnsupportedMediaType():
            return Problem(UNSUPPORTED_MEDIA_TYPE, "The body must be application/json.")
        case exceptions.Throttled():
            wait = str(math.ceil(getattr(error, "wait", None) or 1))
            return Problem(THROTTLED, f"Come back in {wait} s.", headers={"Retry-After": wait})
        case exceptions.ValidationError():
            return faulty(INVALID_BODY, list(_faults(error.detail)))
        case exceptions.ParseError():
            return Problem(MALFORMED_BODY, str(error.detail))
        case django_exceptions.RequestDataTooBig():
            return Problem(TOO_LARGE, "The body is too large.")
        case django_exceptions.BadRequest() | django_exceptions.SuspiciousOperation():
            return Problem(MALFORMED_REQUEST, "The request is not one that is understood.")
    return next(filter(None, (translator(error) for translator in _TRANSLATORS)), None)


LONGEST_PLACE = 80
"""Of a place that is named in a sentence: a member that nobody asked for may be called anything."""


def faulty(kind: Kind, errors: Sequence[Mapping[str, str]]) -> Problem:
    """The problem of a body or a query that has these faults; the first is said in `detail` too."""
    first = errors[0]
    place = first.get("pointer") or first.get("parameter") or ""
    if len(place) > LONGEST_PLACE:
        place = f"{place[: LONGEST_PLACE - 1]}…"
    said = f"{place}: {first['detail']}" if place else first["detail"]
    match len(errors) - 1:
        case 0:
            more = ""
        case 1:
            more = " One more fault is in `errors`."
        case others:
            more = f" {others} more faults are in `errors`."
    return Problem(kind, f"{said}{more}", errors=errors)


def method_not_allowed(headers: Mapping[str, str] | None = None) -> Problem:
    """405; Django REST framework adds the `Allow` header by itself."""
    return Problem(
        METHOD_NOT_ALLOWED, "The method is not one that this address takes; see `Allow`.", headers=headers
    )


def page(request: http.HttpRequest, problem: Problem) -> http.HttpResponse:
    """The problem as an answer, whatever form was asked for."""
    answer = http.HttpResponse(
        strictjson.dumps(problem.document(request)),
        status=problem.status_code,
        headers=problem.headers,
        content_type=MEDIA_TYPE,
    )
    answer["Cache-Control"] = "no-store"
    return answer


def _faults(detail: Any, pointer: str = "") -> Any:
    """Each fault of a nested validation error with the JSON pointer (RFC 6901) to its place."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            own = name == "non_field_errors"
            yield from _faults(inner, pointer if own else f"{pointer}/{_escaped(name)}")
    elif isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        for index, inner in enumerate(detail):
            if inner:
                yield from _faults(inner, f"{pointer}/{index}")
    elif isinstance(detail, list):
        for inner in detail:
            yield from _faults(inner, pointer)
    else:
        yield {"pointer": pointer, "detail": str(detail), "code": getattr(detail, "code", "invalid")}


def _escaped(name: Any) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")
