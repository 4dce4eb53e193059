"""The Idempotency-Key header: where it may be wrong, and the answer that it brings back."""

import re
from collections.abc import Callable
from typing import Any

from django import http
from django.conf import settings
from rest_framework.request import Request

from orders import errors, idempotency
from orders.api import auth, problems

KEY = re.compile(r'"(?P<quoted>(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"|(?P<bare>[\x21\x23-\x7e]+)')
"""A structured-field string, as the draft says, or the same without quotes, as everybody sends it."""

PATTERN = "^(?:" + re.sub(r"\?P<\w+>", "?:", KEY.pattern) + ")$"
"""The same, for the schema."""

LONGEST = 200


def read(request: Request) -> str:
    """The request's key."""
    header = request.headers.get("Idempotency-Key")
    if header is None:
        raise problems.Problem(problems.KEY_MISSING, "The header Idempotency-Key is missing.")
    match = KEY.fullmatch(header.strip())
    if match is None or len(match[0]) > LONGEST:
        raise problems.Problem(
            problems.KEY_INVALID,
            f"The header Idempotency-Key must have 1 to {LONGEST} visible ASCII characters.",
        )
    return match["bare"] or re.sub(r'\\(["\\])', r"\1", match["quoted"])


def once(request: Request, endpoint: str, work: Callable[[], idempotency.Answer]) -> http.HttpResponse:
    """Do the work of a request once, and answer every repetition with the first answer."""
    key = read(request)
    try:
        answer = idempotency.once(
            owner=auth.caller(request),
            endpoint=endpoint,
            key=key,
            fingerprint=fingerprint(request),
            lifetime=settings.IDEMPOTENCY_KEYS_LIVE,
            work=work,
        )
    except errors.KeyReused as error:
        raise problems.Problem(problems.KEY_REUSED, str(error)) from error
    except errors.StillInProgress as error:
        raise problems.Problem(problems.IN_PROGRESS, str(error), headers={"Retry-After": "1"}) from error
    response = http.HttpResponse(answer.body, status=answer.status, headers=answer.headers)
    if answer.replayed:
        response["Idempotency-Replayed"] = "true"
    return response


def fingerprint(request: Request) -> str:
    """What was asked, as one hash."""
    data: Any = request.data
    return idempotency.fingerprint(method=request.method or "", path=request.path, body=data)
