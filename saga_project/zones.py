"""Times in the viewer's zone: the browser says which in a cookie, or the viewer chooses one."""

import zoneinfo
from collections.abc import Callable

from django import http
from django.utils import timezone

from saga_project import admin

Handler = Callable[[http.HttpRequest], http.HttpResponseBase]


class ViewerZone:
    """Activates the viewer's time zone for as long as the request is worked on."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def __call__(self, request: http.HttpRequest) -> http.HttpResponseBase:
        """Activate the zone that the cookie names, if there is such a zone."""
        name = request.COOKIES.get(admin.ZONE_COOKIE, "").rstrip("!")
        if name in zoneinfo.available_timezones():
            timezone.activate(zoneinfo.ZoneInfo(name))
        try:
            return self.handler(request)
        finally:
            timezone.deactivate()
