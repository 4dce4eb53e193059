"""Times in the viewer's zone: the browser says which in a cookie, or the viewer chooses one."""

import functools
import zoneinfo
from collections.abc import Callable

from django import http
from django.utils import timezone

COOKIE = "zone"
"""Holds the name of the viewer's time zone; the browser writes it, or the viewer chooses one."""

Handler = Callable[[http.HttpRequest], http.HttpResponseBase]


@functools.cache
def known() -> frozenset[str]:
    """The names of all time zones, read once: `zoneinfo` opens each of their files to tell them."""
    return frozenset(zoneinfo.available_timezones())


class ViewerZone:
    """Activates the viewer's time zone for as long as the request is worked on."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def __call__(self, request: http.HttpRequest) -> http.HttpResponseBase:
        """Activate the zone that the cookie names, if there is such a zone."""
        name = request.COOKIES.get(COOKIE, "").rstrip("!")
        if name in known():
            timezone.activate(zoneinfo.ZoneInfo(name))
        try:
            return self.handler(request)
        finally:
            timezone.deactivate()
