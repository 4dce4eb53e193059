"""The page of failure groups: what fails alike, with notes, and bulk runs over a whole group."""

from django import http
from django.core import exceptions
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from sagas import models
from sagas.console import bulk, failure_groups, interventions
from sagas.console.admin import permissions, rows, runs
from sagas.console.models import FailureNote


class FailureGroupPage(rows.ReadOnly):
    """What fails alike."""

    def get_urls(self) -> list[URLPattern]:
        """With the page of failure groups."""
        view = self.admin_site.admin_view
        return [
            path("groups/", view(self.groups_view), name="sagas_groups"),
            *super().get_urls(),
        ]

    def groups_view(self, request: http.HttpRequest) -> http.HttpResponse:
        """Failures that are the same failure, with notes, and a ramped run for each group."""
        if not self.has_view_permission(request):
            raise exceptions.PermissionDenied
        scope = request.GET.get("scope", failure_groups.ATTENTION)
        if scope not in (failure_groups.ATTENTION, failure_groups.FAILED):
            scope = failure_groups.ATTENTION
        if request.method == "POST":
            return self._groups_post(request, scope)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Failure groups"),
            "opts": self.opts,
            "scope": scope,
            "groups": failure_groups.groups(scope),
            "at_most": failure_groups.AT_MOST,
            "now": models.database_now(),
            "may_operate": request.user.has_perm("sagas.operate_saga"),
            "may_compensate": request.user.has_perm("sagas.compensate_saga"),
        }
        return TemplateResponse(request, "sagas/groups.html", context)

    def _groups_post(self, request: http.HttpRequest, scope: str) -> http.HttpResponse:
        signature = request.POST.get("signature", "")[:32]
        intervention = request.POST.get("intervention", "")
        if intervention in bulk.INTERVENTIONS:
            if not permissions.may(request, interventions.INTERVENTIONS[intervention]):
                raise exceptions.PermissionDenied
            members = failure_groups.members(signature, scope)
            return runs.choose(request, intervention, members, {})
        if not request.user.has_perm("sagas.operate_saga"):
            raise exceptions.PermissionDenied
        text = request.POST.get("text", "").strip()[:1000]
        if text:
            FailureNote.objects.update_or_create(
                signature=signature,
                defaults={"text": text, "actor": permissions.actor(request), "at": models.database_now()},
            )
        else:
            FailureNote.objects.filter(signature=signature).delete()
        return redirect(f"{reverse('admin:sagas_groups')}?{urlencode({'scope': scope})}#{signature}")
