"""The admin's site: the engine's health on its first page, and each viewer's language and zone."""

import functools
from collections.abc import Iterable
from typing import Any

from django import http
from django.conf import settings
from django.contrib import admin
from django.core import paginator
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path
from django.utils import timezone, translation
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from saga_project import logins, zones

A_YEAR_S = 365 * 24 * 3600


class Site(admin.AdminSite):
    """Django's admin, with a first page that says how the sagas fare."""

    site_header = gettext_lazy("Saga console")
    site_title = gettext_lazy("Saga console")
    index_title = gettext_lazy("How the sagas fare")
    site_url = None
    empty_value_display = "–"
    enable_nav_sidebar = False
    """The way through the rooms is one line under the head; the width is the tables'."""
    index_template = "admin/console_index.html"

    login_form = logins.Form

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> http.HttpResponse:
        """Show Django's page; after too many wrong passwords it says when to come back."""
        return logins.finish(request, super().login(request, extra_context))

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """With what the lists and pages of every app have here, of which the app itself knows nothing.

        Moments stand as on the console's own pages, and a service's row says whose order it is.
        """
        from orders import numbered
        from sagas.console import admin as console

        models = model_or_iterable if isinstance(model_or_iterable, Iterable) else [model_or_iterable]
        for model in models:
            shown: Any = admin_class or admin.ModelAdmin
            if not issubclass(shown, console.Moments):
                shown = type(shown.__name__, (console.Moments, shown), {"__module__": shown.__module__})
            if (key := numbered.KEYS.get(model._meta.label_lower)) is not None:
                more = {"__module__": shown.__module__, "order_key": key}
                shown = type(shown.__name__, (numbered.Numbered, shown), more)
            super().register(model, shown, **options)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add the page where a viewer chooses language and time zone."""
        from sagas.console import admin as console

        self._read_from_replica()
        for model_admin in self._registry.values():
            model_admin.show_facets = admin.ShowFacets.NEVER  # type: ignore[misc]
            # No list counts its table to the end, whatever the room that registered it thinks of that.
            if model_admin.paginator is paginator.Paginator:
                model_admin.paginator = console.Bounded  # type: ignore[misc]
        urls: list[URLPattern | URLResolver] = [
            path("viewer/", self.admin_view(self.viewer_view), name="viewer"),
        ]
        return urls + super().get_urls()

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Add what the header of every page shows: the time zone, and where Flower is."""
        return super().each_context(request) | {
            "console_style": True,  # base_site.html has it on every page.
            "as_of": getattr(request, "as_of", None),
            "zone": timezone.get_current_timezone_name(),
            "flower_url": settings.FLOWER_URL.rstrip("/"),
        }

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The first page: health for those who may see sagas, and the list of what there is."""
        from sagas.console import admin as console

        context = dict(extra_context or {})
        if request.user.has_perm("sagas.view_sagainstance"):
            context |= console.overview(request)
        return super().index(request, context)

    def _read_from_replica(self) -> None:
        """Have the overview and the lists read from the replica, where there is one.

        A list of sagas says with each row how it stands, and that is what its viewer decides on: who may
        decide sees the primary's, and so does who may change the rows of another list. What else can be done
        leads to a page of its own, which is the primary's.
        """
        from saga_project import replica

        setattr(self, "index", replica.page(self.index))  # noqa: B010 - as the lists of the rooms below
        for model, model_admin in self._registry.items():
            if model._meta.app_label in replica.NEVER_THERE:
                continue
            decides = functools.partial(_decides, model_admin)
            for view in ("changelist_view", "groups_view"):
                if hasattr(model_admin, view):
                    setattr(model_admin, view, replica.page(getattr(model_admin, view), decides=decides))

    def viewer_view(self, request: HttpRequest) -> http.HttpResponse:
        """Choose a language and a time zone; works without JavaScript."""
        goal = request.POST.get("next") or request.GET.get("next") or ""
        if not url_has_allowed_host_and_scheme(goal, {request.get_host()}, request.is_secure()):
            goal = "../"
        if request.method != "POST":
            context = {
                **self.each_context(request),
                "title": _("Language and time zone"),
                "zones": sorted(zones.known()),
                "languages": settings.LANGUAGES,
                "next": goal,
            }
            return TemplateResponse(request, "admin/viewer.html", context)
        response = http.HttpResponseRedirect(goal)
        language, zone = request.POST.get("language", ""), request.POST.get("zone", "")
        secure = request.is_secure()
        if translation.check_for_language(language):
            response.set_cookie(
                settings.LANGUAGE_COOKIE_NAME, language, A_YEAR_S, samesite="Lax", secure=secure
            )
        if zone in zones.known():
            # Marked as chosen, so that the browser's own zone does not take its place.
            response.set_cookie(zones.COOKIE, f"{zone}!", A_YEAR_S, samesite="Lax", secure=secure)
        return response


def _decides(model_admin: Any, request: HttpRequest) -> bool:
    """Whether that viewer may do something to the rows of the list, or to sagas where these are its rows."""
    may = {*SAGAS, "add", "change", "delete"}
    return any(
        getattr(model_admin, f"has_{what}_permission")(request)
        for what in may
        if hasattr(model_admin, f"has_{what}_permission")
    )


SAGAS = ("operate", "compensate")
"""What may be done to many sagas from their list."""
