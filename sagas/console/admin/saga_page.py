"""The page of one saga, the part of it that changes, and its downloads."""

import csv
import io
import json
import uuid
from collections.abc import Iterable
from typing import Any

from django import http
from django.contrib import messages
from django.core import exceptions
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.cache import patch_cache_control
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from sagas import conf, errors, models
from sagas.console import (
    approving,
    bulk,
    event_names,
    export,
    families,
    history,
    interventions,
    notices,
    panels,
    redaction,
    summary,
)
from sagas.console.admin import graph, permissions, rows, runs, timeline

REFRESH_S = 5
"""Countdowns on a live page are sent anew this often, even if nothing moved."""


class SagaPage(rows.ReadOnly):
    """All that is known of one saga."""

    def get_urls(self) -> list[URLPattern]:
        """With the page of one saga, its live part and its downloads."""
        view = self.admin_site.admin_view
        return [
            path("<uuid:saga_id>/change/", view(self.saga_view), name="sagas_sagainstance_change"),
            path("<uuid:saga_id>/live/", view(self.live_view), name="sagas_saga_live"),
            path("<uuid:saga_id>/history.json", view(self.json_view), name="sagas_saga_json"),
            path("<uuid:saga_id>/events.csv", view(self.csv_view), name="sagas_saga_csv"),
            path(
                "<uuid:saga_id>/children/<slug:step>/<slug:intervention>/",
                view(self.children_view),
                name="sagas_saga_children",
            ),
            *super().get_urls(),
        ]

    def saga_view(self, request: http.HttpRequest, saga_id: uuid.UUID) -> http.HttpResponse:
        """Everything about one saga."""
        record = self.read(request, saga_id)
        return TemplateResponse(request, "sagas/saga.html", self._page(request, record))

    def live_view(self, request: http.HttpRequest, saga_id: uuid.UUID) -> http.HttpResponse:
        """The part of the page that changes; 304 while nothing did."""
        record = self.read(request, saga_id)
        etag = _etag(request, record)
        if request.headers.get("If-None-Match") == etag:
            response: http.HttpResponse = http.HttpResponseNotModified()
        else:
            response = TemplateResponse(request, "sagas/saga_live.html", self._page(request, record))
        response["ETag"] = etag
        response["X-Saga-Live"] = "1" if record.moves else "0"
        patch_cache_control(response, private=True, no_cache=True)
        return response

    def json_view(self, request: http.HttpRequest, saga_id: uuid.UUID) -> http.HttpResponse:
        """The whole history, or the chosen events of it, for machines and for the record."""
        record = self.read(request, saga_id)
        body = json.dumps(export.saga(record, events=_chosen(request, record)), indent=2, ensure_ascii=False)
        return _download(body, "application/json", f"saga-{saga_id}.json")

    def csv_view(self, request: http.HttpRequest, saga_id: uuid.UUID) -> http.HttpResponse:
        """The chosen events as a table."""
        record = self.read(request, saga_id)
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
        for event in _chosen(request, record):
            row = export.event(event, record.hidden)
            row["data"] = json.dumps(row["data"])
            writer.writerow([harmless(row[name]) for name in names])
        return _download(text.getvalue(), "text/csv", f"saga-{saga_id}.csv")

    def children_view(
        self, request: http.HttpRequest, saga_id: uuid.UUID, step: str, intervention: str
    ) -> http.HttpResponse:
        """Choose the children of a step at which a person is to act, and lead to the page that begins a run.

        Nothing is done by that: the run begins with the form on that page.
        """
        self.read(request, saga_id)
        if intervention not in bulk.INTERVENTIONS:
            raise http.Http404
        if not permissions.may(request, interventions.INTERVENTIONS[intervention]):
            raise exceptions.PermissionDenied
        called = families.needing_a_person().filter(parent_id=saga_id, parent_step=step)
        ids = list(called.order_by("parent_item").values_list("pk", flat=True)[: bulk.LARGEST_RUN + 1])
        if not ids:
            messages.info(request, _("No child of %(step)s needs a person now.") % {"step": step})
            return redirect("admin:sagas_sagainstance_change", saga_id)
        return runs.choose(request, intervention, ids, {})

    def read(self, request: http.HttpRequest, saga_id: uuid.UUID) -> history.History:
        """The saga's history, for those who may see it.

        Raises:
            PermissionDenied: they may not.
            Http404: there is no such saga.
        """
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
        above = [record.parent.saga] if record.parent is not None else []
        subjects = panels.describe([saga, *above])
        subject = subjects.get(saga.pk)
        _describe_children(steps)
        said, held = summary.of(record), panels.of(record)
        offers = _offer(request, record)
        primary = _primary(offers, said)
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
            "live": record.moves,
            "goes_on": record.live and saga.closed_at is None,
            "shown_state": families.badge(saga),
            "parent": record.parent,
            "parent_subject": subjects.get(record.parent.saga.pk) if record.parent is not None else None,
            "broods": [step.brood for step in steps if step.brood is not None],
            "may_resume": permissions.may(request, interventions.INTERVENTIONS["resume"]),
            "summary": said,
            "primary": primary,
            "to_settle": next(
                (step for step in steps if said.at is not None and step.row.pk == said.at.pk), None
            ),
            "at_stake": [panel for panel in held if panel.at_stake],
            # What waits for a second person stands beside the interventions, where it is decided.
            "notices": [notice for notice in notices.of(record) if notice.kind != "consent"],
            "consents": [
                (
                    consent,
                    interventions.asked_for(consent),
                    permissions.may(request, intervention),
                    interventions.consent_moved_on(consent, record),
                    consent.seen.partition(":")[0] if intervention.of_step and record.members else "",
                )
                for consent in record.consents
                for intervention in [interventions.INTERVENTIONS[consent.intervention]]
            ],
            "questions": [
                (question, permissions.may_answer(request, question))
                for question in approving.questions(record)
            ],
            "interventions": offers,
            "offers": _by_step(offer for offer in offers if offer is not primary),
            "steps": steps,
            "attempts": attempts,
            "timeline": timeline.of(record, attempts),
            "graph": graph.of(record, steps),
            "panels": held,
            "facts": redaction.redact(saga.facts, record.hidden),
            "events": chosen,
            "events_all": len(record.events),
            "events_cut": len(record.events) == history.EVENTS_AT_MOST,
            "event_kinds": sorted(
                ((kind, event_names.name(kind)) for kind in {event.kind for event in record.events}),
                key=lambda pair: pair[1],
            ),
            "event_subjects": [step.name for step in record.steps],
            "event_actors": sorted({event.actor for event in record.events}),
            "event_query": f"?{query}" if query else "",
            "chosen": {name: request.GET.get(name, "") for name in _EVENT_FILTERS},
            "flower": conf.flower_url(),
            "error_kind": (saga.failure or {}).get("kind", ""),
        }


_EVENT_FILTERS = ("kind", "subject", "actor")


def _describe_children(steps: Iterable[history.StepView]) -> None:
    """Give the children that the page names the subjects that their apps know."""
    panels.attach_known([child.row for step in steps if step.brood for child in step.brood.named])


def _choose(request: http.HttpRequest, events: Iterable[models.Event]) -> list[models.Event]:
    chosen = [(name, request.GET[name]) for name in _EVENT_FILTERS if request.GET.get(name)]
    return [event for event in events if all(getattr(event, name) == value for name, value in chosen)]


def _chosen(request: http.HttpRequest, record: history.History) -> list[models.Event]:
    """All of its events that were chosen, more than the page shows at once."""
    if record.archive is not None:
        return _choose(request, record.archive.events)
    chosen = {name: request.GET[name] for name in _EVENT_FILTERS if request.GET.get(name)}
    return list(models.Event.objects.filter(saga_id=record.saga.pk, **chosen))


def _by_step(offers: Iterable[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """What has a button: what is about the saga; then, under its name, what is about one of several steps."""
    found: dict[str, list[dict[str, Any]]] = {}
    for offer in offers:
        if not offer["refusal"]:
            found.setdefault(offer["step"], []).append(offer)
    return list(found.items())


def _primary(offers: Iterable[dict[str, Any]], said: summary.Summary) -> dict[str, Any] | None:
    """The recommended intervention, if the viewer may make it: its button stands in the verdict."""
    for offer in offers:
        of_that_step = said.at is None or offer["step"] in ("", said.at.name)
        if offer["intervention"].name == said.recommended and of_that_step and not offer["refusal"]:
            return offer
    return None


def _offer(request: http.HttpRequest, record: history.History) -> list[dict[str, Any]]:
    """Every intervention with its button, or with why it has none.

    Where the saga is at several steps, each of them has its own of those that are about a step.
    """
    every = interventions.INTERVENTIONS.values()
    if not record.members:
        return [_offered(request, record, intervention) for intervention in every]
    of_saga = [_offered(request, record, one) for one in every if not one.of_step]
    of_steps = [
        _offered(request, looked_at, one, step=looked_at.step.name)
        for looked_at in record.at_each
        for one in every
        if one.of_step
    ]
    return of_saga + of_steps


def _offered(
    request: http.HttpRequest,
    record: history.History,
    intervention: interventions.Intervention,
    *,
    step: str = "",
) -> dict[str, Any]:
    asked = {
        consent.intervention
        for consent in record.consents
        if not interventions.consent_moved_on(consent, record)
    }
    allowed = permissions.may(request, intervention)
    refusal = (
        ""
        if allowed
        else _("Your role does not allow it (%(permission)s).")
        % {"permission": f"sagas.{intervention.permission}"}
    )
    refusal = refusal or intervention.refused(record)
    if not refusal and intervention.name in asked:
        refusal = _("It was asked for already, and waits for a second person.")
    return {
        "intervention": intervention,
        "title": intervention.title(record),
        "refusal": refusal,
        "two": interventions.needs_two(intervention),
        "seen": record.seen,
        "step": step,
    }


def _etag(request: http.HttpRequest, record: history.History) -> str:
    """What the live part is made of; its countdowns change by themselves while it is live."""
    saga = record.saga
    parts = [
        saga.updated_at.timestamp(),
        record.events[-1].pk if record.events else 0,
        len(record.consents),
        *record.children.items(),
        record.parent and (record.parent.saga.state, record.parent.saga.held_at),
        *(f"{signal.pk}{signal.fate}{signal.compensated_at}" for signal in record.signals),
        request.GET.urlencode(),
        getattr(request, "LANGUAGE_CODE", ""),
        int(record.now.timestamp()) // REFRESH_S if record.moves else "",
    ]
    return f'"{uuid.uuid5(uuid.NAMESPACE_OID, repr(parts)).hex}"'


def _download(body: str, content_type: str, name: str) -> http.HttpResponse:
    response = http.HttpResponse(body, content_type=f"{content_type}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value
