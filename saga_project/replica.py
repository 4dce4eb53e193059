"""What may be read from a standby: pages and figures that are looked at, and by which nothing is decided.

    replica.read(look)

Inside `look`, rows of sagas, of the order and of the services are read from the database alias `replica`, if
there is one that is close enough behind the primary; `as_of()` says when what is read was true. Everywhere
else, and for who somebody is and what they may, the primary is read; and only it is ever written.
"""

import contextlib
import contextvars
import datetime
import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from django import http
from django.conf import settings
from django.db import Error, connections
from django.db.models import Model

from saga_project import postgres
from sagas import database, models

_Answer = TypeVar("_Answer")

logger = logging.getLogger(__name__)

ALIAS = "replica"

NEVER_THERE = {"admin", "api", "auth", "contenttypes", "sessions"}
"""Apps whose rows say who somebody is and what they may: rights that were taken away are so everywhere."""

REST_S = 15.0
"""A replica that did not answer is not asked again for so long: each page would wait for it."""

_is_read: contextvars.ContextVar[datetime.datetime | None] = contextvars.ContextVar("read", default=None)
_rests_until = float("-inf")


class Router:
    """Django's, which asks it where to read and write each model."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """The replica inside `reading`."""
        if _is_read.get() is None:
            # Also for what is related to a row that came from there.
            return "default"
        return "default" if model._meta.app_label in NEVER_THERE else ALIAS

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        """Never the replica, wherever a row was read."""
        return "default"

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool:
        """It is the same database."""
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """It is migrated by being a copy."""
        return False if db == ALIAS else None


@contextlib.contextmanager
def reading() -> Iterator[datetime.datetime | None]:
    """Read from the replica inside, if it is there, is a standby, and is close enough behind.

    Yields:
        When what is read was true at least, by the primary's clock; None where the primary is read.
    """
    true_at = _as_of() if is_configured() else None
    token = _is_read.set(true_at)
    try:
        yield true_at
    finally:
        _is_read.reset(token)


def is_configured() -> bool:
    """Whether there is a replica."""
    return ALIAS in connections.databases


def page(
    view: Callable[..., http.HttpResponseBase], *, decides: Callable[[http.HttpRequest], bool] | None = None
) -> Callable[..., http.HttpResponseBase]:
    """A view whose page is read from the replica, whole: until it is rendered.

    Where the replica fails in the middle of it, the page is made anew from the primary.

    Arguments:
        view: of the admin; `request.as_of` is for its page to show.
        decides: whether what that viewer may do with the page depends on what it shows; then it is never read
            from the replica.
    """

    @functools.wraps(view)
    def looked_at(request: Any, *args: Any, **kwargs: Any) -> http.HttpResponseBase:
        only_looks = request.method in ("GET", "HEAD") and not (decides is not None and decides(request))
        if not (is_configured() and only_looks):
            return view(request, *args, **kwargs)

        def answer() -> http.HttpResponseBase:
            request.as_of = as_of()
            response = view(request, *args, **kwargs)
            return response.render() if hasattr(response, "render") else response

        return read(answer)

    return looked_at


def read(look: Callable[[], _Answer]) -> _Answer:
    """What that function reads from the replica; where this fails in the middle, from the primary.

    Arguments:
        look: decides nothing by it, and may be called twice.
    """
    with reading() as true_at:
        try:
            return look()
        except Error as error:
            if true_at is None or not database.is_passing(error):
                raise
            logger.warning("the replica failed, the primary is read: %s", type(error).__name__, exc_info=True)
            if database.is_away(error):
                _rest()
    return look()


def as_of() -> datetime.datetime | None:
    """When what is read here was true at least; None where it is the primary's."""
    return _is_read.get()


def _as_of() -> datetime.datetime | None:
    """When the replica's rows were true, if they may be shown."""
    if time.monotonic() < _rests_until:
        return None
    try:
        found = postgres.replica(ALIAS)
    except Error as error:
        logger.warning("the replica does not answer, the primary is read: %s", str(error).partition("\n")[0])
        _rest()
        return None
    # By the primary's clock, as the replica's own stamp is: a third machine's would be one too many.
    lag = found.lag(models.database_now())
    if lag is None:
        # It has become the primary, or has replayed nothing yet. The next connection looks for a standby.
        connections[ALIAS].close()
        return None
    return found.as_of if lag <= settings.DATABASE_REPLICA_MAX_LAG else None


def _rest() -> None:
    global _rests_until
    _rests_until = time.monotonic() + REST_S
    connections[ALIAS].close()
