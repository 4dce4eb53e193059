"""The views of the list of sagas that each user has saved under a name."""

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

_NOT_KEPT = ("p", "e", "all")
"""What an address says of one look at it: the page, say."""


def of(request: http.HttpRequest) -> list[SavedView]:
    """The user's own, by name, in one statement."""
    return list(SavedView.objects.filter(owner_id=request.user.pk)[:AT_MOST])


class SavedViews(rows.ReadOnly):
    """Saves the list's address under a name, and forgets it again."""

    def get_urls(self) -> list[URLPattern]:
        """With where views are saved and removed."""
        view = self.admin_site.admin_view(self.saved_views_view)
        return [path("views/", view, name="sagas_sagainstance_views"), *super().get_urls()]

    def saved_views_view(self, request: http.HttpRequest) -> http.HttpResponse:
        """Save what the list shows, under a name; or remove what has that name. Leads back to the list."""
        if not self.has_view_permission(request):
            raise exceptions.PermissionDenied
        if request.method != "POST":
            return http.HttpResponseNotAllowed(["POST"])
        name = request.POST.get("name", "").strip()
        kept = http.QueryDict(request.POST.get("query", ""), mutable=True)
        for word in _NOT_KEPT:
            kept.pop(word, None)
        mine: Any = SavedView.objects.filter(owner_id=request.user.pk)
        query = kept.urlencode()
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
        back = redirect("admin:sagas_sagainstance_changelist")
        back["Location"] += f"?{query}" if query else ""
        return back
