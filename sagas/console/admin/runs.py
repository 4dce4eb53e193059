"""Bulk runs: how one begins, and how far it got."""

import secrets
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms, http
from django.contrib import admin, messages
from django.core import exceptions
from django.core.paginator import Paginator
from django.db.models import Count, QuerySet
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sagas import errors, reading
from sagas.console import bulk, failure_groups, families, interventions, marks, panels
from sagas.console.admin import permissions, rows
from sagas.console.models import BulkItem, BulkRun
from sagas.console.templatetags import console
from sagas.engine.seen import Seen
from sagas.models import SagaInstance

SHOWN = 10
"""How many of the chosen sagas are named before a run begins."""

PAGE = 100


class ReasonForm(forms.Form):
    """Asks for a reason."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Kept for ever in every saga's events, with your name. No personal data."),
    )


def choose(
    request: http.HttpRequest,
    intervention: str,
    ids: Sequence[uuid.UUID],
    shown: Mapping[str, str],
) -> http.HttpResponse:
    """Keep what was chosen for a run, each saga with how it was shown, and lead to the page that begins it.

    Arguments:
        request: whose session keeps it.
        intervention: one of `bulk.INTERVENTIONS`.
        ids: the sagas, in the order in which they are to have their turn.
        shown: by id, how those stood that the page showed; the others are looked at now.
    """
    seen = {str(pk): str(stands) for pk, stands in bulk.look(ids).items()}
    request.session[CHOSEN] = {
        "intervention": intervention,
        "seen": {pk: shown.get(pk) or stands for pk, stands in seen.items()},
        "choice": secrets.token_hex(8),
    }
    return redirect("admin:sagas_console_bulkrun_begin")


CHOSEN = "sagas-bulk"
"""Under which the session keeps what was chosen."""


class What(admin.SimpleListFilter):
    """By intervention, as its button calls it."""

    title = gettext_lazy("intervention")
    parameter_name = "intervention"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """What can be done to many."""
        return [(name, console.intervention_label(name)) for name in bulk.INTERVENTIONS]

    def queryset(self, request: http.HttpRequest, queryset: QuerySet[BulkRun]) -> QuerySet[BulkRun]:
        """Narrow the list down to what was chosen."""
        return queryset.filter(intervention=self.value()) if self.value() in bulk.INTERVENTIONS else queryset


@admin.register(BulkRun)
class BulkRunAdmin(rows.ReadOnly):
    """The list of bulk runs, newest first, and the page of each."""

    list_display = ("created_at", "what", "badge", "wave", "actor", "reason")
    list_filter = ("state", What)
    ordering = ("-created_at",)
    show_full_result_count = False

    @admin.display(description=gettext_lazy("intervention"), ordering="intervention")
    def what(self, run: BulkRun) -> str:
        """The intervention, as its button calls it."""
        return console.intervention_label(run.intervention)

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def badge(self, run: BulkRun) -> SafeString:
        """Its state, with its mark."""
        return marks.badge(run.state)

    def get_urls(self) -> list[URLPattern]:
        """Where one begins, and where it is followed."""
        view = self.admin_site.admin_view
        return [
            path("begin/", view(self.begin_view), name="sagas_console_bulkrun_begin"),
            path("<uuid:run_id>/change/", view(self.run_view), name="sagas_console_bulkrun_change"),
            path("<uuid:run_id>/live/", view(self.live_view), name="sagas_console_bulkrun_live"),
            *super().get_urls(),
        ]

    def begin_view(self, request: http.HttpRequest) -> http.HttpResponse:
        """Say what the run will do, ask why, and begin it."""
        chosen = request.session.get(CHOSEN) or {}
        intervention = interventions.INTERVENTIONS.get(chosen.get("intervention", ""))
        if intervention is None or intervention.name not in bulk.INTERVENTIONS or "seen" not in chosen:
            messages.warning(request, _("Choose sagas in the list, or a failure group, first."))
            return redirect("admin:sagas_sagainstance_changelist")
        if not permissions.may(request, intervention):
            raise exceptions.PermissionDenied
        seen = {uuid.UUID(pk): text for pk, text in chosen["seen"].items()}
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and request.POST.get("choice") != chosen["choice"]:
            # Another tab chose others meanwhile: what this page showed is not what would be done.
            form.add_error(None, _("Other sagas were chosen meanwhile, perhaps in another tab: look again."))
        if request.method == "POST" and form.is_valid():
            reason = form.cleaned_data["reason"]
            try:
                run = bulk.begin(
                    chosen=_parsed(seen),
                    intervention=intervention.name,
                    actor=permissions.actor(request),
                    reason=reason,
                )
            except errors.SagaError as error:
                form.add_error(None, str(error))
            else:
                del request.session[CHOSEN]
                self.log_addition(request, run, f"{intervention.name} of {len(seen)} sagas: {reason}")
                return redirect("admin:sagas_console_bulkrun_change", run.pk)
        ids = list(seen)
        shown = sorted(
            SagaInstance.objects.filter(pk__in=ids[:SHOWN]), key=lambda saga: (saga.created_at, saga.pk)
        )
        subjects = panels.describe(shown)
        context = {
            **self.admin_site.each_context(request),
            "title": _("%(intervention)s, in waves") % {"intervention": intervention.label},
            "opts": self.opts,
            "intervention": intervention,
            "count": len(ids),
            "choice": chosen["choice"],
            "shown": [(saga, subjects.get(saga.pk), _shown(seen[saga.pk])) for saga in shown],
            "more": max(len(ids) - SHOWN, 0),
            "parents": _parents(ids),
            "totals": panels.totals(ids),
            "notes": failure_groups.notes(ids),
            "largest": bulk.LARGEST_RUN,
            "growth": bulk.GROWTH,
            "tolerated": bulk.TOLERATED,
            "two": interventions.needs_two(intervention),
            "form": form,
        }
        return TemplateResponse(request, "sagas/bulk_begin.html", context)

    def run_view(self, request: http.HttpRequest, run_id: uuid.UUID) -> http.HttpResponse:
        """How far it got, saga by saga; and the means to stop it, or let it go on."""
        run = self._run(request, run_id)
        if request.method == "POST":
            return self._act(request, run)
        return TemplateResponse(request, "sagas/bulk_run.html", self._page(request, run))

    def live_view(self, request: http.HttpRequest, run_id: uuid.UUID) -> http.HttpResponse:
        """The part of the page that changes."""
        run = self._run(request, run_id)
        response = TemplateResponse(request, "sagas/bulk_run_live.html", self._page(request, run))
        response["X-Saga-Live"] = "1" if run.state == BulkRun.State.RUNNING else "0"
        return response

    def _run(self, request: http.HttpRequest, run_id: uuid.UUID) -> BulkRun:
        if not self.has_view_permission(request):
            raise exceptions.PermissionDenied
        return get_object_or_404(BulkRun, pk=run_id)

    def _act(self, request: http.HttpRequest, run: BulkRun) -> http.HttpResponse:
        if not permissions.may(request, interventions.INTERVENTIONS[run.intervention]):
            raise exceptions.PermissionDenied
        act = request.POST.get("act", "")
        try:
            if act == "stop":
                bulk.stop(
                    run.pk, actor=permissions.actor(request), reason=request.POST.get("reason", "")[:500]
                )
            elif act == "go-on":
                bulk.go_on(run.pk, actor=permissions.actor(request))
            elif act == "agree":
                bulk.agree(run.pk, actor=permissions.actor(request))
            else:
                raise exceptions.BadRequest
        except errors.SagaError as error:
            messages.error(request, str(error))
        else:
            self.log_change(request, run, act)
        return redirect("admin:sagas_console_bulkrun_change", run.pk)

    def _page(self, request: http.HttpRequest, run: BulkRun) -> dict[str, Any]:
        items = BulkItem.objects.filter(run=run)
        counts = dict(items.values_list("state").annotate(Count("pk")).order_by())
        whole = sum(counts.values())
        page = Paginator(items.prefetch_related("saga"), PAGE).get_page(request.GET.get("page"))
        subjects = panels.describe([item.saga for item in page])
        settled = sum(counts.get(state, 0) for state in ("helped", "failed", "refused", "moved"))
        x, bars = 0.0, []
        for state in ("helped", "failed", "refused", "moved", "sent", "pending"):
            if count := counts.get(state, 0):
                width = count / whole * 100
                bars.append({"state": state, "x": round(x, 3), "width": round(width, 3), "count": count})
                x += width
        return {
            **self.admin_site.each_context(request),
            "title": _("Bulk run: %(intervention)s")
            % {"intervention": interventions.INTERVENTIONS[run.intervention].label},
            "opts": self.opts,
            "run": run,
            "whole": whole,
            "settled": settled,
            "bars": bars,
            "page": page,
            "items": [(item, subjects.get(item.saga_id)) for item in page],
            "live": run.state == BulkRun.State.RUNNING,
            "may": permissions.may(request, interventions.INTERVENTIONS[run.intervention]),
            "own": run.actor == permissions.actor(request),
        }


def _parents(ids: Sequence[uuid.UUID]) -> list[tuple[int, str, str, uuid.UUID]]:
    """Of the chosen sagas those that are children: how many, of which step of which saga, and its id."""
    found = families.parents_of(ids)
    sagas = reading.in_bulk(parent_id for parent_id, _step, _count in found)
    subjects = panels.describe(sagas.values())
    return [
        (count, step, subjects[pk].text if pk in subjects else sagas[pk].key, pk)
        for pk, step, count in found
        if pk in sagas
    ]


def _shown(text: str) -> Seen | None:
    """What was seen of one, to be told in words; None where a page was tampered with."""
    try:
        return Seen.parse(text)
    except errors.BadSeen:
        return None


def _parsed(seen: Mapping[uuid.UUID, str]) -> dict[uuid.UUID, Seen]:
    """What was seen of each.

    Raises:
        BadSeen: a page was tampered with.
    """
    return {pk: Seen.parse(text) for pk, text in seen.items()}
