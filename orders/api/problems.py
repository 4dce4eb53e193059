"""Every error as a problem document (RFC 9457), the framework's own included.

`KINDS` is the list; each has a page at its `type`, and docs/problems.md is tested against it.
"""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from django import http
from django.core import exceptions as django_exceptions
from rest_framework import exceptions, response

from orders import wire
from sagas import database
from sagas import errors as saga_errors

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
BASE = "/api/problems/"
"""A path: it resolves on every installation, and a client may compare it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of problem: `type` for machines, the rest for people."""

    slug: str
    status: int
    title: str
    advice: str
    """What the caller may do about it."""

    @property
    def type(self) -> str:
        """The URI reference that names it and leads to its page."""
        return BASE + self.slug


KINDS: dict[str, Kind] = {}


def _kind(slug: str, status: int, title: str, advice: str) -> Kind:
    KINDS[slug] = Kind(slug=slug, status=status, title=title, advice=advice)
    return KINDS[slug]


MALFORMED_BODY = _kind(
    "malformed-body",
    400,
    "The body is not JSON",
    "Send one JSON object, encoded in UTF-8, with `Content-Type: application/json`.",
)
MALFORMED_REQUEST = _kind(
    "malformed-request",
    400,
    "The request makes no sense",
    "`detail` says what is wrong; correct the request before you send it again.",
)
INVALID_QUERY = _kind(
    "invalid-query",
    400,
    "A query parameter is not acceptable",
    "`errors` names each parameter and says what is allowed.",
)
KEY_MISSING = _kind(
    "idempotency-key-missing",
    400,
    "An Idempotency-Key is required",
    "Send a header `Idempotency-Key` with a value of your own choosing that is new for every new order,"
    " such as a UUID, and the same when you send the same order again.",
)
KEY_INVALID = _kind(
    "idempotency-key-invalid",
    400,
    "The Idempotency-Key is not acceptable",
    "Use 1 to 200 visible ASCII characters, bare or in double quotes.",
)
BAD_SIGNATURE = _kind(
    "bad-signature",
    400,
    "The callback is not acceptable",
    "`detail` says what is wrong. Sign it as Standard Webhooks says, with the shared secret and a timestamp"
    " that is not older than five minutes, and send the members that the description names.",
)
NOT_AUTHENTICATED = _kind(
    "not-authenticated",
    401,
    "A valid token is required",
    "Send `Authorization: Token ...` with a token that has neither expired nor been revoked.",
)
NOT_PERMITTED = _kind(
    "not-permitted",
    403,
    "This token may not do that",
    "Use a token with the scope that the operation names; for a staff operation its user also needs the"
    " permission.",
)
OPERATORS_MOVE = _kind(
    "operators-move",
    403,
    "The order belongs to somebody else",
    "Only who ordered may ask for this; for the staff it is a decision about another."
    " `POST /sagas/{id}/compensate` undoes it: with the permission, with what you saw of the saga, and with a"
    " second person where the shop asks for one. `saga.id` says which saga.",
)
NOT_FOUND = _kind(
    "not-found",
    404,
    "There is nothing here",
    "Check the address. What belongs to somebody else is not to be found either.",
)
METHOD_NOT_ALLOWED = _kind(
    "method-not-allowed",
    405,
    "This address does not take that method",
    "The `Allow` header lists the methods that it takes.",
)
NOT_ACCEPTABLE = _kind(
    "not-acceptable",
    406,
    "The answer cannot be had in that form",
    "Accept `application/json`.",
)
IN_PROGRESS = _kind(
    "idempotency-key-in-progress",
    409,
    "The first request with this key is still being worked on",
    "Wait as long as `Retry-After` says and send the same request again: you will get the first answer.",
)
TOO_LATE = _kind(
    "too-late",
    409,
    "It is too late for that",
    "The order has ended or can no longer be turned round; `order.status` says where it stands.",
)
MOVE_NOT_ALLOWED = _kind(
    "move-not-allowed",
    409,
    "That does not apply to the saga as it stands",
    "Somebody or something else was first. Read the saga again; `saga.state` says where it stands.",
)
MOVED_ON = _kind(
    "moved-on",
    409,
    "The saga has moved on since you looked at it",
    "It no longer stands as `seen` says, so nothing was done. Read the saga again (`GET /sagas/{id}`), decide"
    " on what stands now, and send its `seen`.",
)
ENDPOINT_DISABLED = _kind(
    "endpoint-disabled",
    409,
    "The endpoint is disabled",
    'See to what was wrong with it, then enable it with `PATCH` and `{"enabled": true}`.',
)
TOO_MANY = _kind(
    "too-many",
    409,
    "There are as many of these as there may be",
    "Delete one that you do not need any more.",
)
TOO_LARGE = _kind(
    "body-too-large",
    413,
    "The body is too large",
    "`detail` says how large it may be.",
)
UNSUPPORTED_MEDIA_TYPE = _kind(
    "unsupported-media-type",
    415,
    "The body is of a type that is not understood",
    "Send `Content-Type: application/json`.",
)
INVALID_BODY = _kind(
    "invalid-body",
    422,
    "The body is not acceptable",
    "`errors` points to each member that is wrong (a JSON pointer) and says what is allowed.",
)
KEY_REUSED = _kind(
    "idempotency-key-reused",
    422,
    "The Idempotency-Key was used for another request",
    "Use a new key for a new request. If this was meant to be the same one, send exactly what you sent"
    " the first time.",
)
THROTTLED = _kind(
    "throttled",
    429,
    "Too many requests",
    "Wait as long as `Retry-After` says.",
)
INTERNAL_ERROR = _kind(
    "internal-error",
    500,
    "Something went wrong on our side",
    "Send the same request with the same Idempotency-Key again later; nothing is done twice. If it stays,"
    " tell the shop the `request_id`.",
)
BUSY = _kind(
    "busy",
    503,
    "Somebody else is at it just now",
    "Nothing was changed. Wait as long as `Retry-After` says and send the same request again.",
)
UNAVAILABLE = _kind(
    "unavailable", 503, "The service cannot answer just now",
    "Wait as long as `Retry-After` says and send the same request again.",
)  # fmt: skip


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


def handle(error: Exception, context: dict[str, Any]) -> response.Response | None:
    """What Django REST framework calls with every exception of a view; None leaves it to Django."""
    database.let_go(error)
    problem = of(error)
    if problem is None:
        return None
    request: http.HttpRequest = context["request"]._request
    answer = response.Response(
        problem.document(request),
        status=problem.status_code,
        headers=problem.headers,
        content_type=MEDIA_TYPE,
    )
    answer["Cache-Control"] = "no-store"
    return answer


ASK_FOR_TOKEN = {"WWW-Authenticate": "Token"}


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
                "No token was shown: send the header `Authorization: Token ...`.",
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
            return Problem(INVALID_BODY, "The body has faults.", errors=list(_faults(error.detail)))
        case exceptions.ParseError():
            return Problem(MALFORMED_BODY, str(error.detail))
        case django_exceptions.RequestDataTooBig():
            return Problem(TOO_LARGE, "The body is too large.")
        case django_exceptions.BadRequest() | django_exceptions.SuspiciousOperation():
            return Problem(MALFORMED_REQUEST, "The request is not one that is understood.")
        case saga_errors.Busy():
            return Problem(BUSY, "Somebody else is at this order just now.", headers={"Retry-After": "1"})
        case _ if database.is_busy(error):
            return Problem(BUSY, "Somebody else is at this just now.", headers={"Retry-After": "1"})
        case _ if database.is_passing(error):
            # The database is away, or gave up on us; nothing was committed.
            logger.warning("The database could not be used: %s", type(error).__name__, exc_info=error)
            return Problem(UNAVAILABLE, "The database cannot be reached.", headers={"Retry-After": "2"})
    return None


def method_not_allowed(headers: Mapping[str, str] | None = None) -> Problem:
    """405; Django REST framework adds the `Allow` header by itself."""
    return Problem(
        METHOD_NOT_ALLOWED, "The method is not one that this address takes; see `Allow`.", headers=headers
    )


def page(request: http.HttpRequest, problem: Problem) -> http.HttpResponse:
    """The problem as an answer outside Django REST framework."""
    answer = http.HttpResponse(
        wire.dumps(problem.document(request)),
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
