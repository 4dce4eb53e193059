"""The answers that a caller gets, each as a status and JSON."""

import dataclasses
from typing import Any

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """A status and a body of JSON; what was written to the books stays written, whatever the status."""

    status: int
    body: Json
    lost: bool = False
    """It is done and recorded, and the connection breaks before the caller hears of it."""


class Invalid(Exception):
    """The request makes no sense. It names what is allowed; nothing was written."""


def ok(body: Json) -> Answer:
    """200: it was there, or was done before."""
    return Answer(status=200, body=body)


def created(body: Json, *, lost: bool = False) -> Answer:
    """201: it was done just now."""
    return Answer(status=201, body=body, lost=lost)


def no(status: int, code: str, message: str) -> Answer:
    """A refusal with a code that machines may rely on and a sentence for people."""
    return Answer(status=status, body={"code": code, "message": message})


def unavailable() -> Answer:
    """Nothing was done, and the same request may be made again."""
    return no(503, "unavailable", "Nothing was done; try again later.")


def denied() -> Answer:
    """The caller's key is not good; nothing was done, whatever was asked."""
    return no(401, "bad_credentials", "This key is not, or no longer, good.")


def not_found() -> Answer:
    """404: nothing was ever done under this key."""
    return no(404, "not_found", "Nothing was ever done under this key.")


def voided() -> Answer:
    """409: the undo came first, so nothing is done under this key any more."""
    return no(409, "voided", "This key was voided before it was used.")


def key_reused() -> Answer:
    """422: a key stands for one request only."""
    return no(422, "key_reused", "This key was used for a request with another body.")
