"""The views of the list of sagas that each user has saved under a name, and the columns that each likes."""

from collections.abc import Collection
from typing import Any

from django import http
from django.contrib import messages
from django.core import exceptions
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from sagas.console.admin import rows
from sagas.console.models import SavedView

AT_MOST = 20
"""So many one user may have: more would be a list to search, not a row of names."""

COLUMNS = "columns"
"""In the list's address: which columns are shown, with points between them."""

_NOT_KEPT = ("p", "e", "all")
"""What an address says of one look at it: the page, say."""


def of(request: http.HttpRequest) -> list[SavedView]:
    """The user's own, by name."""
    return [view for view in _all(request) if view.name != SavedView.UNNAMED]


def liked(request: http.HttpRequest) -> list[str]:
    """The columns that the user chose for wherever an address names none; empty without a choice."""
    kept = next((view.query for view in _all(request) if view.name == SavedView.UNNAMED), "")
    return columns_of(http.QueryDict(kept))


def columns_of(query: http.QueryDict) -> list[str]:
    """The columns that an address names."""
    return [name for name in query.get(COLUMNS, "").split(".") if name]


def _all(request: http.HttpRequest) -> list[SavedView]:
    """The user's own, read once for a request, in one statement."""
    if not hasattr(request, "saved_views"):
        mine = SavedView.objects.filter(owner_id=request.user.pk)[: AT_MOST + 1]
        request.saved_views = list(mine)  # type: ignore[attr-defined]
    found: list[SavedView] = request.saved_views  # type: ignore[attr-defined]
    return found


class SavedViews(rows.ReadOnly):
    """Saves the list's address under a name, and forgets it again; keeps which columns somebody likes."""

    columns: Collection[str] = ()
    """Those that can be chosen."""

    def get_urls(self) -> list[URLPattern]:
        """With where views are saved and removed, and columns are chosen."""
        view = self.admin_site.admin_view
        return [
            path("views/", view(self.saved_views_view), name="sagas_sagainstance_views"),
            path("columns/", view(self.columns_view), name="sagas_sagainstance_columns"),
            *super().get_urls(),
        ]

    def columns_view(self, request: http.HttpRequest) -> http.HttpResponse:
        """Show these columns from now on, wherever an address names none; or the usual ones again."""
        if not self.has_view_permission(request):
            raise exceptions.PermissionDenied
        if request.method != "POST":
            return http.HttpResponseNotAllowed(["POST"])
        chosen = [name for name in self.columns if name in request.POST.getlist("column")]
        mine: Any = SavedView.objects.filter(owner_id=request.user.pk, name=SavedView.UNNAMED)
        if "usual" in request.POST or not chosen:
            mine.delete()
        else:
            SavedView.objects.update_or_create(
                owner_id=request.user.pk,
                name=SavedView.UNNAMED,
                defaults={"query": f"{COLUMNS}={'.'.join(chosen)}"},
            )
        # An address counts the columns that it is sorted by: among others it would name another.
        return _back(_kept(request, (*_NOT_KEPT, COLUMNS, "o")).urlencode())

    def saved_views_view(self, request: http.HttpRequest) -> http.HttpResponse:
        """Save what the list shows, under a name; or remove what has that name. Leads back to the list."""
        if not self.has_view_permission(request):
            raise exceptions.PermissionDenied
        if request.method != "POST":
            return http.HttpResponseNotAllowed(["POST"])
        name = request.POST.get("name", "").strip()
        mine: Any = SavedView.objects.filter(owner_id=request.user.pk).exclude(name=SavedView.UNNAMED)
        query = _kept(request, _NOT_KEPT).urlencode()
        if "remove" in request.POST:
            mine.filter(name=name).delete()
        elif not name or len(name) > SavedView._meta.get_field("name").max_length:  # type: ignore[operator]
            messages.error(request, _("Give the view a name of up to 60 characters."))
        elif len(query) > 2000:
            messages.error(request, _("That is too much to be saved: search, or filter, for less."))
        elif mine.exclude(name=name).count() >= AT_MOST:
            messages.error(request, _("You have %(most)s views: remove one first.") % {"most": AT_MOST})
        else:
            SavedView.objects.update_or_create(owner_id=request.user.pk, name=name, defaults={"query": query})
        return _back(query)


def _kept(request: http.HttpRequest, without: Collection[str]) -> http.QueryDict:
    """The address of the list from which a form was sent, without these words."""
    kept = http.QueryDict(request.POST.get("query", ""), mutable=True)
    for word in without:
        kept.pop(word, None)
    return kept


def _back(query: str) -> http.HttpResponse:
    back = redirect("admin:sagas_sagainstance_changelist")
    back["Location"] += f"?{query}" if query else ""
    return back
