"""What may go wrong.

`Error` is the base of all. A `Problem` is an answer of the server that says no, made of its problem document
(RFC 9457). Those whose class is `passing` were tried again already, as often as the client may.
"""

import contextlib
import dataclasses
import datetime
import email.utils
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import httpx

from saga_orders import models


class Error(Exception):
    """The base of all errors of this package."""

    passing: ClassVar[bool] = False
    """Whether the same request may well succeed a little later."""

    retry_after: float | None = None
    """For how many seconds the server asked us to wait, where it did."""

    idempotency_key: str | None = None
    """Of `place()`: where the error is `passing`, the order may have been placed or not. Call `place()` with
    this key and the same order later, as often as you like within a day: there will be one order."""


class ConnectionFailed(Error):
    """No answer came: the request may have arrived or not."""

    passing = True


class UnexpectedAnswer(Error):
    """What came is no answer of this API: does `base_url` lead to the shop, and is this client new enough?"""


class StillPending(Error, TimeoutError):
    """The order has not ended within the time that `wait()` was given; `order` is how it stood last."""

    def __init__(self, order: models.Order) -> None:
        super().__init__(f"{order.number} is {order.status}: {order.next.message}")
        self.order = order


class BadSignature(Error):
    """The message was not sent by the shop, or not lately: do not believe it, and answer 400."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong with a request."""

    detail: str
    code: str = ""
    pointer: str | None = None
    """Where in the body, as a JSON pointer: `/lines/0/quantity`."""
    parameter: str | None = None
    """Or which parameter of the query."""

    def __str__(self) -> str:
        return f"{self.pointer or self.parameter or 'the request'}: {self.detail}"


class Problem(Error):
    """The server said no.

    Attributes:
        kind: what it is, for programs: the last part of the document's `type`, such as `invalid-body`; empty
            if the answer was no problem document.
        status: of HTTP.
        title, detail: what it is, for people.
        faults: each thing that is wrong with the request.
        request_id: what the shop finds it by in its logs.
        document: all that was told.
    """

    def __init__(self, document: Mapping[str, Any], *, status: int, retry_after: float | None = None) -> None:
        self.document = document
        self.status = status
        self.retry_after = retry_after
        self.kind = str(document.get("type") or "").rpartition("/")[2]
        self.title = str(document.get("title") or f"The server answered {status}")
        self.detail = str(document.get("detail") or "")
        self.request_id: str | None = document.get("request_id")
        self.faults = tuple(_faults(document.get("errors")))
        super().__init__(str(self))

    def __str__(self) -> str:
        said = " ".join(str(fault) for fault in self.faults) or self.detail
        marks = [f"{self.status} {self.kind}".strip()]
        if self.request_id:
            marks.append(f"request {self.request_id}")
        return f"{self.title}{': ' if said else ''}{said} ({', '.join(marks)})"


class InvalidRequest(Problem):
    """The request is not acceptable; `faults` says where and why."""


class IdempotencyKeyReused(InvalidRequest):
    """The key was used for another order: take a new one, or send exactly what you sent the first time."""


class TotalDiffers(InvalidRequest):
    """The order comes to another total than you expected, and was not placed: show your customer `total`."""

    @property
    def expected(self) -> models.Money | None:
        """What you expected."""
        return _money(self.document.get("expected"))

    @property
    def total(self) -> models.Money | None:
        """What it comes to now."""
        return _money(self.document.get("total"))


class NotAuthenticated(Problem):
    """The token is missing, has expired or was revoked."""


class NotPermitted(Problem):
    """This token may not do that."""


class NotFound(Problem):
    """There is nothing here that you may see: what belongs to others is not there either."""


class EventsGone(Problem):
    """The event log has no such event, or has it no more: something may have been missed since."""


class TooLate(Problem):
    """The order has ended, or can no longer be turned round."""

    @property
    def order_status(self) -> str | None:
        """Where the order stands."""
        order = self.document.get("order")
        return order.get("status") if isinstance(order, Mapping) else None


class InProgress(Problem):
    """The first request with this key is still being worked on."""

    passing = True


class Throttled(Problem):
    """Too many requests; `retry_after` says for how long."""

    passing = True


class ServerError(Problem):
    """Something went wrong on the server's side."""

    passing = True


class Unavailable(ServerError):
    """The service cannot answer just now."""


class Overloaded(Unavailable):
    """So many orders wait that the shop takes no more just now; nothing was placed by this request."""


BY_KIND: Mapping[str, type[Problem]] = {
    "malformed-body": InvalidRequest,
    "malformed-request": InvalidRequest,
    "invalid-query": InvalidRequest,
    "invalid-body": InvalidRequest,
    "idempotency-key-missing": InvalidRequest,
    "idempotency-key-invalid": InvalidRequest,
    "idempotency-key-reused": IdempotencyKeyReused,
    "idempotency-key-in-progress": InProgress,
    "total-differs": TotalDiffers,
    "not-authenticated": NotAuthenticated,
    "not-permitted": NotPermitted,
    "operators-move": NotPermitted,
    "not-found": NotFound,
    "too-late": TooLate,
    "events-gone": EventsGone,
    "throttled": Throttled,
    "internal-error": ServerError,
    "busy": Unavailable,
    "overloaded": Overloaded,
    "unavailable": Unavailable,
}
BY_STATUS: Mapping[int, type[Problem]] = {
    400: InvalidRequest, 401: NotAuthenticated, 403: NotPermitted, 404: NotFound, 405: InvalidRequest,
    406: InvalidRequest, 408: Unavailable, 413: InvalidRequest, 415: InvalidRequest, 422: InvalidRequest,
    429: Throttled, 502: Unavailable, 503: Unavailable, 504: Unavailable,
}  # fmt: skip
"""For kinds that this version does not know, and for what stands between: a proxy, a load balancer."""


def of(answer: httpx.Response) -> Problem:
    """The error that an answer which is not 2xx comes to; its body must have been read."""
    document: Any = None
    with contextlib.suppress(ValueError):
        document = json.loads(answer.content)
    if not isinstance(document, Mapping) or "title" not in document:
        document = {"detail": f"What it said is no problem document: {answer.text[:200]!r}"}
    kind = str(document.get("type") or "").rpartition("/")[2]
    status = answer.status_code
    found = BY_KIND.get(kind) or BY_STATUS.get(status) or (ServerError if status >= 500 else Problem)
    return found(document, status=status, retry_after=retry_after(answer.headers))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that `Retry-After` asks for: a number, or a date, as some proxies have it."""
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        at = email.utils.parsedate_to_datetime(said)
    except ValueError:
        return None
    now = datetime.datetime.now(datetime.UTC)
    return max(0.0, (at.replace(tzinfo=at.tzinfo or datetime.UTC) - now).total_seconds())


def _money(told: Any) -> models.Money | None:
    if not isinstance(told, Mapping) or not isinstance(told.get("amount"), int):
        return None
    return models.Money(amount=told["amount"], currency=str(told.get("currency", "")))


def _faults(told: Any) -> list[Fault]:
    names = [field.name for field in dataclasses.fields(Fault)]
    faults = told if isinstance(told, list) else []
    return [
        Fault(**{"detail": ""} | {name: str(fault[name]) for name in names if fault.get(name) is not None})
        for fault in faults
        if isinstance(fault, Mapping)
    ]
