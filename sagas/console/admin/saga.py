"""The list of sagas, the page of one, and the pages on which it is moved."""

import contextlib
import csv
import io
import json
import uuid
from collections.abc import Iterable
from typing import Any

from django import forms, http
from django.contrib import admin, messages
from django.contrib.admin.views import main
from django.core import exceptions
from django.db.models import QuerySet
from django.forms.fields import InvalidJSONInput
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import html
from django.utils.cache import patch_cache_control
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

import strictjson
from sagas import conf, errors, models
from sagas.console import (
    bulk,
    export,
    failure_groups,
    formatting,
    history,
    interventions,
    notices,
    panels,
    redaction,
    summary,
    translation,
)
from sagas.console.admin import callbacks, filters, graph, paging, rows, runs, timeline
from sagas.console.models import Approval, FailureNote
from sagas.console.templatetags import console
from sagas.declaration.states import SagaState
from sagas.engine import messages as engine_messages
from sagas.engine.seen import Seen
from sagas.models import SagaInstance

ATTENTION_FIRST = 8
"""How many of those that wait for a person stand above the list."""

REFRESH_S = 5
"""Countdowns on a live page are sent anew this often, even if nothing moved."""


# --- The list -------------------------------------------------------------------------------------


class SagaList(main.ChangeList):
    """With their subjects, which are read once for the whole page."""

    def get_results(self, request: http.HttpRequest) -> None:
        """Add to each saga whom it is about."""
        super().get_results(request)
        _add_subjects(self.result_list)
        seen = bulk.look(saga.pk for saga in self.result_list)
        for saga in self.result_list:
            saga.seen = seen.get(saga.pk)


def _add_subjects(sagas: Iterable[Any]) -> None:
    subjects = panels.describe(sagas)
    for saga in sagas:
        saga.subject = subjects.get(saga.pk)


# --- The pages ------------------------------------------------------------------------------------


class FactsField(forms.JSONField):
    """JSON as every other door takes it: what no row could keep is refused while it can be corrected."""

    def to_python(self, value: Any) -> Any:
        """What was typed, read strictly."""
        if self.disabled or value in self.empty_values or not isinstance(value, str):
            return super().to_python(value)
        try:
            return strictjson.loads(value)
        except strictjson.Refused as error:
            raise exceptions.ValidationError(
                _("This cannot be kept as JSON: %(why)s."), params={"why": str(error)}
            ) from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What was typed, to be shown again whether it can be read or not."""
        return InvalidJSONInput(data) if isinstance(data, str) else super().bound_data(data, initial)


class InterventionForm(forms.Form):
    """Why an intervention is made, and what it needs to know."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "autofocus": True}),
        help_text=gettext_lazy("Kept for ever in the saga's events, with your name. No personal data."),
    )
    hours = forms.DecimalField(
        label=gettext_lazy("Hours"), min_value=0, max_value=24 * 90, decimal_places=2, initial=24
    )
    facts = FactsField(
        label=gettext_lazy("Facts"),
        required=False,
        initial=dict,
        help_text=gettext_lazy(
            "What the step would have answered, as JSON; needed where later steps ask for it."
        ),
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
    )

    def __init__(
        self, intervention: interventions.Intervention, record: history.History, data: Any = None
    ) -> None:
        super().__init__(data)
        for name in {"hours", "facts"} - set(intervention.fields):
            del self.fields[name]
        if "facts" in self.fields and record.backward:
            del self.fields["facts"]
        if intervention.evidence:
            self.fields["reason"].label = _("Evidence")
            self.fields["reason"].help_text = _(
                "How you know: the provider's answer, a reference, who said so. Kept for ever in the saga's "
                "events, with your name. No personal data."
            )

    def clean_facts(self) -> dict[str, Any]:
        """An object, or nothing."""
        facts = self.cleaned_data.get("facts") or {}
        if not isinstance(facts, dict):
            raise exceptions.ValidationError(_('An object, such as {"access_key": "..."}.'))
        return facts


@admin.register(SagaInstance)
class SagaAdmin(rows.ReadOnly):
    """The attention queue first, then the newest."""

    list_display = ("saga", "badge", "stands", "about", "amount", "begun", "took")
    list_display_links = ("saga",)
    list_filter = (
        filters.State, filters.Step, filters.Error, filters.Age, filters.Amount, filters.Definition,
        filters.Group,
    )  # fmt: skip
    search_fields = ("=key",)
    search_help_text = gettext_lazy(
        "Saga id, order number, customer, tax id, provider's reference, tracking code"
    )
    ordering = ("-created_at",)
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = paging.Bounded
    actions = ("bulk_resume", "bulk_compensate")
    exclude = ("facts",)
    change_list_template = "sagas/sagas.html"

    # --- The list

    @admin.display(description=SafeString('<input type="checkbox" id="action-toggle">'))
    def action_checkbox(self, obj: Any) -> SafeString:
        """Its tick, with how it stood on this page: what a bulk run is decided on."""
        hidden = html.format_html('<input type="hidden" name="seen" value="{}={}">', obj.pk, obj.seen or "")
        return html.format_html("{}{}", super().action_checkbox(obj), hidden)

    def get_changelist(self, request: http.HttpRequest, **kwargs: Any) -> type[SagaList]:
        """The list that shows subjects."""
        return SagaList

    def get_search_results(
        self, request: http.HttpRequest, queryset: QuerySet[SagaInstance], search_term: str
    ) -> tuple[QuerySet[SagaInstance], bool]:
        """By id, by key, or by whatever the apps know it under; never by scanning the table."""
        term = search_term.strip()
        if not term:
            return queryset, False
        found = set(panels.search(term))
        head = term.partition(".")[0]  # A step's key begins with its saga's id.
        with contextlib.suppress(ValueError):
            found.add(uuid.UUID(head))
        found |= set(SagaInstance.objects.filter(key=term).values_list("pk", flat=True)[:100])
        return queryset.filter(pk__in=found), False

    def changelist_view(
        self, request: http.HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> http.HttpResponse:
        """The list, with those that wait for a person above it."""
        context: dict[str, Any] = {"title": _("Sagas"), **(extra_context or {})}
        if request.method == "GET" and not request.GET:
            queue = list(
                SagaInstance.objects.filter(state=SagaState.NEEDS_ATTENTION, closed_at=None).order_by(
                    "created_at"
                )[: ATTENTION_FIRST + 1]
            )
            _add_subjects(queue)
            context |= {
                "attention": queue[:ATTENTION_FIRST],
                "callbacks_waiting": callbacks.waiting().exists(),
                "attention_more": len(queue) > ATTENTION_FIRST,
                "now": models.database_now(),
            }
        return super().changelist_view(request, context)

    @admin.display(description=gettext_lazy("saga"))
    def saga(self, saga: Any) -> str | SafeString:
        """Its subject, or its id."""
        about = saga.subject.text if saga.subject else saga.key
        return html.format_html('<span class="subject">{}</span> <code>{}</code>', about, str(saga.pk)[-12:])

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def badge(self, saga: SagaInstance) -> SafeString:
        """Its state; held and put aside come first."""
        if saga.closed_at is not None:
            return console.badge("closed")
        badge = console.badge(saga.state)
        return html.format_html("{} {}", badge, console.badge("held")) if saga.held_at else badge

    @admin.display(description=gettext_lazy("where, why"))
    def stands(self, saga: SagaInstance) -> str:
        """Why it stands before a person, what went wrong first, or at which step it is."""
        return Truncator(summary.why(saga)).chars(160) or summary.stands(saga)

    @admin.display(description=gettext_lazy("about"))
    def about(self, saga: Any) -> str:
        """The customer, or whoever else it is about."""
        return saga.subject.who if saga.subject else ""

    @admin.display(description=gettext_lazy("amount"))
    def amount(self, saga: Any) -> str | SafeString:
        """The amount of money that it is about."""
        return html.format_html('<span class="number">{}</span>', saga.subject.amount) if saga.subject else ""

    @admin.display(description=gettext_lazy("begun"), ordering="created_at")
    def begun(self, saga: SagaInstance) -> str | SafeString:
        """The moment at which it began."""
        return console.moment(saga.created_at)

    @admin.display(description=gettext_lazy("took"))
    def took(self, saga: SagaInstance) -> str:
        """Its duration, once it has ended."""
        return formatting.length(saga.finished_at - saga.created_at) if saga.finished_at else ""

    @admin.action(description=gettext_lazy("Resume, in waves of 1, 5, 25, …"), permissions=["operate"])
    def bulk_resume(
        self, request: http.HttpRequest, queryset: QuerySet[SagaInstance]
    ) -> http.HttpResponse | None:
        """Ask for a reason, and begin a ramped run."""
        return self._bulk(request, queryset, "resume")

    @admin.action(description=gettext_lazy("Compensate, in waves of 1, 5, 25, …"), permissions=["compensate"])
    def bulk_compensate(
        self, request: http.HttpRequest, queryset: QuerySet[SagaInstance]
    ) -> http.HttpResponse | None:
        """Ask for a reason, and begin a ramped run."""
        return self._bulk(request, queryset, "compensate")

    def _bulk(
        self, request: http.HttpRequest, queryset: QuerySet[SagaInstance], intervention: str
    ) -> http.HttpResponse | None:
        ids = list(queryset.order_by("created_at").values_list("pk", flat=True)[: bulk.LARGEST_RUN + 1])
        # As the list showed them, where it did; "select all" also means sagas that are on no page.
        shown = dict(text.split("=", 1) for text in request.POST.getlist("seen") if "=" in text)
        return runs.choose(request, intervention, ids, shown)

    # --- Who may

    def has_operate_permission(self, request: http.HttpRequest) -> bool:
        """Whether they may retry, hold, release and extend."""
        return request.user.has_perm("sagas.operate_saga")

    def has_compensate_permission(self, request: http.HttpRequest) -> bool:
        """Whether they may have sagas undone."""
        return request.user.has_perm("sagas.compensate_saga")

    # --- The page of one

    def get_urls(self) -> list[URLPattern]:
        """The page of one, its live part, its downloads, and the pages on which it is moved."""
        view = self.admin_site.admin_view
        return [
            path("groups/", view(self.groups_view), name="sagas_groups"),
            path("<uuid:saga_id>/change/", view(self.saga_view), name="sagas_sagainstance_change"),
            path("<uuid:saga_id>/live/", view(self.live_view), name="sagas_saga_live"),
            path("<uuid:saga_id>/history.json", view(self.json_view), name="sagas_saga_json"),
            path("<uuid:saga_id>/events.csv", view(self.csv_view), name="sagas_saga_csv"),
            path(
                "<uuid:saga_id>/intervention/<slug:name>/",
                view(self.intervention_view),
                name="sagas_saga_intervention",
            ),
            path(
                "<uuid:saga_id>/approval/<int:approval_id>/", view(self.decide_view), name="sagas_saga_decide"
            ),
            *super().get_urls(),
        ]

    def saga_view(self, request: http.HttpRequest, saga_id: uuid.UUID) -> http.HttpResponse:
        """Everything about one saga."""
        record = self._read(request, saga_id)
        return TemplateResponse(request, "sagas/saga.html", self._page(request, record))

    def live_view(self, request: http.HttpRequest, saga_id: uuid.UUID) -> http.HttpResponse:
        """The part of the page that changes; 304 while nothing did."""
        record = self._read(request, saga_id)
        etag = _etag(request, record)
        if request.headers.get("If-None-Match") == etag:
            response: http.HttpResponse = http.HttpResponseNotModified()
        else:
            response = TemplateResponse(request, "sagas/saga_live.html", self._page(request, record))
        response["ETag"] = etag
        response["X-Saga-Live"] = "1" if record.live and record.saga.closed_at is None else "0"
        patch_cache_control(response, private=True, no_cache=True)
        return response

    def json_view(self, request: http.HttpRequest, saga_id: uuid.UUID) -> http.HttpResponse:
        """The whole history, or the chosen events of it, for machines and for the record."""
        record = self._read(request, saga_id)
        events = _chosen(request, models.Event.objects.filter(saga_id=saga_id))
        body = json.dumps(export.saga(record, events=list(events)), indent=2, ensure_ascii=False)
        return _download(body, "application/json", f"saga-{saga_id}.json")

    def csv_view(self, request: http.HttpRequest, saga_id: uuid.UUID) -> http.HttpResponse:
        """The chosen events as a table."""
        record = self._read(request, saga_id)
        text = io.StringIO()
        writer = csv.writer(text)
        names = (
            "id",
            "at",
            "kind",
            "subject",
            "from_state",
            "to_state",
            "attempt",
            "actor",
            "reason",
            "data",
        )
        writer.writerow(names)
        for event in _chosen(request, models.Event.objects.filter(saga_id=saga_id)):
            row = export.event(event, record.hidden)
            row["data"] = json.dumps(row["data"])
            writer.writerow([_harmless(row[name]) for name in names])
        return _download(text.getvalue(), "text/csv", f"saga-{saga_id}.csv")

    def _read(self, request: http.HttpRequest, saga_id: uuid.UUID) -> history.History:
        if not self.has_view_permission(request):
            raise exceptions.PermissionDenied
        try:
            return history.read(saga_id)
        except errors.NotFound:
            raise http.Http404 from None

    def _page(self, request: http.HttpRequest, record: history.History) -> dict[str, Any]:
        saga = record.saga
        steps = history.step_views(record)
        attempts = history.attempts(record)
        chosen = _choose(request, record.events)
        subject = panels.describe([saga]).get(saga.pk)
        query = urlencode({name: request.GET[name] for name in _EVENT_FILTERS if request.GET.get(name)})
        return {
            **self.admin_site.each_context(request),
            "title": subject.text if subject else saga.key,
            "subtitle": None,
            "opts": self.opts,
            "record": record,
            "saga": saga,
            "now": record.now,
            "subject": subject,
            "live": record.live and saga.closed_at is None,
            "shown_state": "closed" if saga.closed_at else saga.state,
            "summary": summary.of(record),
            # What waits for a second person stands beside the interventions, where it is decided.
            "notices": [notice for notice in notices.of(record) if notice.kind != "approval"],
            "approvals": [
                (
                    approval,
                    intervention.title(record),
                    _may(request, intervention),
                    interventions.approval_moved_on(approval, saga, record.step),
                )
                for approval in record.approvals
                for intervention in [interventions.INTERVENTIONS[approval.intervention]]
            ],
            "interventions": _offer(request, record),
            "steps": steps,
            "attempts": attempts,
            "timeline": timeline.of(record, attempts),
            "graph": graph.of(record, steps),
            "panels": panels.of(record),
            "facts": redaction.redact(saga.facts, record.hidden),
            "events": chosen,
            "events_all": len(record.events),
            "events_cut": len(record.events) == history.EVENTS_AT_MOST,
            "event_kinds": sorted({event.kind for event in record.events}),
            "event_subjects": [step.name for step in record.steps],
            "event_actors": sorted({event.actor for event in record.events}),
            "event_query": f"?{query}" if query else "",
            "chosen": {name: request.GET.get(name, "") for name in _EVENT_FILTERS},
            "flower": conf.flower_url(),
            "error_kind": (saga.failure or {}).get("kind", ""),
        }

    # --- Moves

    def intervention_view(
        self, request: http.HttpRequest, saga_id: uuid.UUID, name: str
    ) -> http.HttpResponse:
        """Say what the intervention will do, ask why, and make it."""
        intervention = interventions.INTERVENTIONS.get(name)
        if intervention is None:
            raise http.Http404
        record = self._read(request, saga_id)
        if not _may(request, intervention):
            raise exceptions.PermissionDenied
        posted = request.method == "POST"
        form = InterventionForm(intervention, record, request.POST if posted else None)
        # What the page that led here showed; who comes by another way decides on what is shown here.
        seen = _seen(request.POST.get("seen", "") if posted else request.GET.get("seen", str(record.seen)))
        moved_on = seen is None or intervention.moved_on(seen, record)
        refusal = intervention.refused(record)
        if posted and form.is_valid() and seen is not None and not moved_on and not refusal:
            try:
                return self._make(request, record, intervention, form, seen)
            except errors.SagaError as error:
                # Somebody, or the engine, was first: the page shows what the saga has come to (I3).
                moved_on = isinstance(error, errors.MovedOn)
                record = self._read(request, saga_id)
                refusal = intervention.refused(record)
                if not moved_on:
                    form.add_error(None, refusal or str(error))
        subject = panels.describe([record.saga]).get(saga_id)
        context = {
            **self.admin_site.each_context(request),
            "title": intervention.title(record),
            "opts": self.opts,
            "saga": record.saga,
            "subject": subject,
            "record": record,
            "summary": summary.of(record),
            "intervention": intervention,
            "refusal": refusal,
            "moved_on": translation.translate(engine_messages.MOVED_ON) if moved_on else "",
            "seen": seen,
            "written": request.POST.get("reason", "") if posted else "",
            "preview": [] if refusal or moved_on else intervention.preview(record),
            "form": form,
            "two": interventions.needs_two(intervention),
        }
        status = 409 if moved_on or (posted and (refusal or form.non_field_errors())) else 200
        return TemplateResponse(request, "sagas/intervention.html", context, status=status)

    def _make(
        self,
        request: http.HttpRequest,
        record: history.History,
        intervention: interventions.Intervention,
        form: InterventionForm,
        seen: Seen,
    ) -> http.HttpResponse:
        """Make the intervention, and say so on the saga's page."""
        reason = form.cleaned_data["reason"]
        arguments = {key: value for key, value in form.cleaned_data.items() if key != "reason"}
        if "hours" in arguments:
            arguments["hours"] = float(arguments["hours"])
        try:
            interventions.make(
                record.saga.pk,
                intervention,
                seen=seen,
                actor=_actor(request),
                reason=reason,
                arguments=arguments,
            )
        except interventions.NeedsApproval:
            self.log_change(request, record.saga, f"asked for {intervention.name}: {reason}")
            messages.warning(
                request,
                _("“%(intervention)s” waits for a second person now.")
                % {"intervention": intervention.title(record)},
            )
        else:
            self.log_change(request, record.saga, f"{intervention.name}: {reason}")
            messages.success(
                request,
                _("“%(intervention)s” is done; see the events.")
                % {"intervention": intervention.title(record)},
            )
        return redirect("admin:sagas_sagainstance_change", record.saga.pk)

    def decide_view(
        self, request: http.HttpRequest, saga_id: uuid.UUID, approval_id: int
    ) -> http.HttpResponse:
        """Agree to what somebody else asked for, or refuse it."""
        record = self._read(request, saga_id)
        approval = get_object_or_404(Approval, pk=approval_id, saga_id=saga_id)
        intervention = interventions.INTERVENTIONS[approval.intervention]
        if not _may(request, intervention):
            raise exceptions.PermissionDenied
        own = approval.actor == _actor(request)
        form = InterventionForm(
            interventions.INTERVENTIONS["hold"], record, request.POST if request.method == "POST" else None
        )
        if request.method == "POST" and form.is_valid():
            agree = request.POST.get("decision") == "agree"
            reason = form.cleaned_data["reason"]
            try:
                decided = interventions.decide(approval_id, agree=agree, actor=_actor(request), reason=reason)
            except errors.SagaError as error:
                form.add_error(None, str(error))
            else:
                self.log_change(request, record.saga, f"{decided.state} {intervention.name}: {reason}")
                level = messages.WARNING if decided.state == Approval.State.VOID else messages.SUCCESS
                text = f"“{intervention.title(record)}”: {decided.get_state_display()}. {translation.translate(decided.decision)}"
                messages.add_message(request, level, text)
                return redirect("admin:sagas_sagainstance_change", saga_id)
        context = {
            **self.admin_site.each_context(request),
            "title": _("A second person's word: %(intervention)s")
            % {"intervention": intervention.title(record)},
            "opts": self.opts,
            "saga": record.saga,
            "subject": panels.describe([record.saga]).get(saga_id),
            "record": record,
            "summary": summary.of(record),
            "intervention": intervention,
            "approval": approval,
            "own": own,
            "moved_on": translation.translate(engine_messages.MOVED_ON)
            if interventions.approval_moved_on(approval, record.saga, record.step)
            else "",
            "preview": intervention.preview(record),
            "form": form,
        }
        status = 409 if form.non_field_errors() else 200
        return TemplateResponse(request, "sagas/decide.html", context, status=status)

    # --- Failure groups

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
            "may_operate": self.has_operate_permission(request),
            "may_compensate": self.has_compensate_permission(request),
        }
        return TemplateResponse(request, "sagas/groups.html", context)

    def _groups_post(self, request: http.HttpRequest, scope: str) -> http.HttpResponse:
        signature = request.POST.get("signature", "")[:32]
        intervention = request.POST.get("intervention", "")
        if intervention in bulk.INTERVENTIONS:
            if not _may(request, interventions.INTERVENTIONS[intervention]):
                raise exceptions.PermissionDenied
            return runs.choose(request, intervention, failure_groups.members(signature, scope), {})
        if not self.has_operate_permission(request):
            raise exceptions.PermissionDenied
        text = request.POST.get("text", "").strip()[:1000]
        if text:
            FailureNote.objects.update_or_create(
                signature=signature,
                defaults={"text": text, "actor": _actor(request), "at": models.database_now()},
            )
        else:
            FailureNote.objects.filter(signature=signature).delete()
        return redirect(f"{reverse('admin:sagas_groups')}?{urlencode({'scope': scope})}#{signature}")


_EVENT_FILTERS = ("kind", "subject", "actor")


def _choose(request: http.HttpRequest, events: Iterable[models.Event]) -> list[models.Event]:
    chosen = [(name, request.GET[name]) for name in _EVENT_FILTERS if request.GET.get(name)]
    return [event for event in events if all(getattr(event, name) == value for name, value in chosen)]


def _chosen(request: http.HttpRequest, events: QuerySet[models.Event]) -> QuerySet[models.Event]:
    return events.filter(**{name: request.GET[name] for name in _EVENT_FILTERS if request.GET.get(name)})


def _offer(request: http.HttpRequest, record: history.History) -> list[dict[str, Any]]:
    """Every intervention with its button, or with why it has none."""
    asked = {
        approval.intervention
        for approval in record.approvals
        if not interventions.approval_moved_on(approval, record.saga, record.step)
    }
    offered = []
    for intervention in interventions.INTERVENTIONS.values():
        allowed = _may(request, intervention)
        refusal = (
            ""
            if allowed
            else _("Your role does not allow it (%(permission)s).")
            % {"permission": f"sagas.{intervention.permission}"}
        )
        refusal = refusal or intervention.refused(record)
        if not refusal and intervention.name in asked:
            refusal = _("It was asked for already, and waits for a second person.")
        offered.append(
            {
                "intervention": intervention,
                "title": intervention.title(record),
                "refusal": refusal,
                "two": interventions.needs_two(intervention),
            }
        )
    return offered


def _seen(text: str) -> Seen | None:
    """What a link or a form says was seen; None where it says nothing that anybody could have seen."""
    try:
        return Seen.parse(text)
    except errors.BadSeen:
        return None


def _may(request: http.HttpRequest, intervention: interventions.Intervention) -> bool:
    return request.user.has_perm(f"sagas.{intervention.permission}")


def _actor(request: http.HttpRequest) -> str:
    return request.user.get_username()[:150]


def _etag(request: http.HttpRequest, record: history.History) -> str:
    """What the live part is made of; its countdowns change by themselves while it is live."""
    saga = record.saga
    parts = [
        saga.updated_at.timestamp(),
        record.events[-1].pk if record.events else 0,
        len(record.approvals),
        *(f"{signal.pk}{signal.fate}{signal.compensated_at}" for signal in record.signals),
        request.GET.urlencode(),
        getattr(request, "LANGUAGE_CODE", ""),
        int(record.now.timestamp()) // REFRESH_S if record.live else "",
    ]
    return f'"{uuid.uuid5(uuid.NAMESPACE_OID, repr(parts)).hex}"'


def _download(body: str, content_type: str, name: str) -> http.HttpResponse:
    response = http.HttpResponse(body, content_type=f"{content_type}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value
