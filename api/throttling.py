"""How much a caller may ask: one row each, one statement to ask it, the same in every process (GCRA).

The row says when the caller would be back at rest if it stopped now; a request moves that further away,
and is refused where it would lie further ahead than a burst is long.
"""

import dataclasses
import math
from typing import Any

from django.conf import settings
from django.db import connection
from rest_framework import exceptions, throttling
from rest_framework.request import Request

from api import models


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowance:
    """What a caller has left, when it has just asked for something."""

    rate: float
    burst: int
    ahead_s: float
    """How long it would take to be back at rest."""
    wait_s: int
    """0 if the request may go on, or the seconds after which to come back."""

    @property
    def headers(self) -> dict[str, str]:
        """As the IETF's draft "RateLimit header fields for HTTP" says it.

        A burst is the quota, which comes back evenly within the window; `t` says when all of it is back.
        """
        left = 0 if self.wait_s else max(0, math.floor(self.burst - self.ahead_s * self.rate))
        return {
            "RateLimit-Policy": f'"token";q={self.burst};w={math.ceil(self.burst / self.rate)}',
            "RateLimit": f'"token";r={left};t={max(0, math.ceil(self.ahead_s))}',
        }


def admit(*, key: str, rate: float, burst: int) -> int:
    """Count one request of the caller; 0 if it may go on, or the seconds after which to come back.

    A request that is refused is not counted, so a caller that keeps asking is not kept out for ever.
    """
    return ask(key=key, rate=rate, burst=burst).wait_s


def ask(*, key: str, rate: float, burst: int) -> Allowance:
    """The same; what is left to the caller afterwards, too."""
    interval = 1 / rate
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO api_throttle AS t (key, due_at)"
            " VALUES (%(key)s, clock_timestamp() + make_interval(secs => %(interval)s))"
            " ON CONFLICT (key) DO UPDATE"
            " SET due_at = greatest(t.due_at, clock_timestamp()) + make_interval(secs => %(interval)s)"
            " WHERE t.due_at <= clock_timestamp() + make_interval(secs => %(ahead)s)"
            " RETURNING extract(epoch FROM due_at - clock_timestamp())::float",
            {"key": key, "interval": interval, "ahead": interval * (burst - 1)},
        )
        if row := cursor.fetchone():
            return Allowance(rate=rate, burst=burst, ahead_s=row[0], wait_s=0)
        cursor.execute(
            "SELECT extract(epoch FROM due_at - clock_timestamp())::float FROM api_throttle WHERE key = %s",
            [key],
        )
        row = cursor.fetchone()
    ahead = row[0] if row else 0
    wait = max(1, math.ceil(ahead - interval * (burst - 1)))
    return Allowance(rate=rate, burst=burst, ahead_s=ahead, wait_s=wait)


def look(*, key: str, rate: float, burst: int) -> Allowance:
    """What is left to a caller, who asks for nothing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM due_at - clock_timestamp())::float FROM api_throttle WHERE key = %s",
            [key],
        )
        row = cursor.fetchone()
    return Allowance(rate=rate, burst=burst, ahead_s=max(0, row[0]) if row else 0, wait_s=0)


def purge(*, limit: int = 1_000) -> int:
    """Forget those who are at rest, so many at a time; how many it were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM api_throttle WHERE key = ANY (ARRAY("
            " SELECT key FROM api_throttle WHERE due_at < clock_timestamp()"
            " LIMIT %s FOR UPDATE SKIP LOCKED))",
            [limit],
        )
        return int(cursor.rowcount)


class PerToken(throttling.BaseThrottle):
    """Every token has its own allowance; one user's other tokens are not affected."""

    def allow_request(self, request: Request, view: Any) -> bool:
        """Whether it has any left."""
        if not isinstance(request.auth, models.Token):
            return True
        key = f"token:{request.auth.pk}"
        # An answer that has waited is made anew, of a request that was counted when it came.
        waited = "has_waited" in getattr(request._request, "scope", {})
        allowance = (look if waited else ask)(key=key, rate=settings.API_RATE, burst=settings.API_BURST)
        request._request.allowance = allowance  # type: ignore[attr-defined]
        self._wait = allowance.wait_s
        return self._wait == 0

    def wait(self) -> float:
        """Seconds until it has."""
        return self._wait


def headers(request: Any) -> dict[str, str]:
    """What the answer to a request says of the allowance of its token; nothing where there was no token."""
    allowance = getattr(getattr(request, "_request", request), "allowance", None)
    return allowance.headers if isinstance(allowance, Allowance) else {}


def stranger(request: Request) -> None:
    """Count a wrong token or a wrong signature; an address that sent too many learns no more than that."""
    address = request.META.get("REMOTE_ADDR", "")
    key = f"address:{address}"
    wait = admit(key=key, rate=settings.STRANGERS_RATE, burst=settings.STRANGERS_BURST)
    if wait:
        raise exceptions.Throttled(wait)
