"""The pages on which an operator intervenes in a saga, a second person decides, or somebody approves."""

import uuid
from typing import Any

from django import forms, http
from django.contrib import messages
from django.core import exceptions
from django.forms.fields import InvalidJSONInput
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sagas import errors, strictjson
from sagas.console import approving, history, interventions, outcomes, panels, summary, translation
from sagas.console import forms as console_forms
from sagas.console.admin import permissions, saga_page
from sagas.console.models import Consent
from sagas.engine import messages as engine_messages
from sagas.engine.seen import Seen


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


class InterventionPages(saga_page.SagaPage):
    """What will be done and why is asked for, and then it is done, agreed to, or answered."""

    def get_urls(self) -> list[URLPattern]:
        """With the pages on which somebody intervenes, decides on what another asked for, or answers."""
        view = self.admin_site.admin_view
        return [
            path(
                "<uuid:saga_id>/intervention/<slug:name>/",
                view(self.intervention_view),
                name="sagas_saga_intervention",
            ),
            path(
                "<uuid:saga_id>/consent/<int:consent_id>/", view(self.decide_view), name="sagas_saga_decide"
            ),
            path(
                "<uuid:saga_id>/answer/<slug:step>/<slug:answer>/",
                view(self.answer_view),
                name="sagas_saga_answer",
            ),
            *super().get_urls(),
        ]

    def intervention_view(
        self, request: http.HttpRequest, saga_id: uuid.UUID, name: str
    ) -> http.HttpResponse:
        """Say what the intervention will do, ask why, and make it."""
        intervention = interventions.INTERVENTIONS.get(name)
        if intervention is None:
            raise http.Http404
        record = self.read(request, saga_id)
        if not permissions.may(request, intervention):
            raise exceptions.PermissionDenied
        posted = request.method == "POST"
        # What the page that led here showed; who comes by another way decides on what is shown here.
        seen = _seen(request.POST.get("seen", "") if posted else request.GET.get("seen", str(record.seen)))
        record = record.looking_at(seen.step if seen is not None else None)
        form = InterventionForm(intervention, record, request.POST if posted else None)
        moved_on = seen is None or intervention.moved_on(seen, record)
        refusal = intervention.refused(record)
        if posted and form.is_valid() and seen is not None and not moved_on and not refusal:
            try:
                return self._make(request, record, intervention, form, seen)
            except errors.SagaError as error:
                # Somebody, or the engine, was first: the page shows what the saga has come to (I3).
                moved_on = isinstance(error, errors.MovedOn)
                record = self.read(request, saga_id).looking_at(seen.step)
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
            "outcome": [] if refusal or moved_on else outcomes.foretold(record, name),
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
                actor=permissions.actor(request),
                reason=reason,
                arguments=arguments,
            )
        except interventions.NeedsConsent:
            self.log_change(request, record.saga, f"asked for {intervention.name}: {reason}")
            messages.warning(
                request,
                _("“%(intervention)s” waits for a second person now.")
                % {"intervention": intervention.title(record)},
            )
        else:
            self.log_change(request, record.saga, f"{intervention.name}: {reason}")
            after = self.read(request, record.saga.pk)
            messages.success(request, outcomes.told(record, after, intervention.name))
        return redirect("admin:sagas_sagainstance_change", record.saga.pk)

    def decide_view(
        self, request: http.HttpRequest, saga_id: uuid.UUID, consent_id: int
    ) -> http.HttpResponse:
        """Agree to what somebody else asked for, or refuse it."""
        record = self.read(request, saga_id)
        consent = get_object_or_404(Consent, pk=consent_id, saga_id=saga_id)
        record = interventions.looked_at(consent, record)
        intervention = interventions.INTERVENTIONS[consent.intervention]
        if not permissions.may(request, intervention):
            raise exceptions.PermissionDenied
        asked_for = interventions.asked_for(consent)
        own = consent.actor == permissions.actor(request)
        form = InterventionForm(
            interventions.INTERVENTIONS["hold"], record, request.POST if request.method == "POST" else None
        )
        if request.method == "POST" and form.is_valid():
            agree = request.POST.get("decision") == "agree"
            reason = form.cleaned_data["reason"]
            try:
                decided = interventions.decide(
                    consent_id, agree=agree, actor=permissions.actor(request), reason=reason
                )
            except errors.SagaError as error:
                form.add_error(None, str(error))
            else:
                self.log_change(request, record.saga, f"{decided.state} {intervention.name}: {reason}")
                level = messages.WARNING if decided.state == Consent.State.VOID else messages.SUCCESS
                what, why = asked_for, translation.translate(decided.decision)
                text = f"“{what}”: {decided.get_state_display()}. {why}"
                if decided.state == Consent.State.AGREED:
                    text = outcomes.told(record, self.read(request, saga_id), intervention.name)
                messages.add_message(request, level, text)
                return redirect("admin:sagas_sagainstance_change", saga_id)
        context = {
            **self.admin_site.each_context(request),
            "title": _("A second person's word: %(intervention)s") % {"intervention": asked_for},
            "opts": self.opts,
            "saga": record.saga,
            "subject": panels.describe([record.saga]).get(saga_id),
            "record": record,
            "summary": summary.of(record),
            "intervention": intervention,
            "asked_for": asked_for,
            "consent": consent,
            "own": own,
            "moved_on": translation.translate(engine_messages.MOVED_ON)
            if interventions.consent_moved_on(consent, record)
            else "",
            "preview": intervention.preview(record),
            "outcome": outcomes.foretold(record, intervention.name),
            "form": form,
        }
        status = 409 if form.non_field_errors() else 200
        return TemplateResponse(request, "sagas/decide.html", context, status=status)

    def answer_view(
        self, request: http.HttpRequest, saga_id: uuid.UUID, step: str, answer: str
    ) -> http.HttpResponse:
        """Say what a yes, or a no, to an approval will do, ask why, and give it.

        Only for those who have the permission that the approval's own declaration names.
        """
        record = self.read(request, saga_id)
        wanted = approving.permission(record, step)
        if not wanted or answer not in approving.LABELS:
            raise http.Http404
        if not request.user.has_perm(wanted):
            raise exceptions.PermissionDenied
        asked, refusal = approving.question(record, step), approving.refused(record, step)
        posted = request.method == "POST"
        outputs = asked.declared.outputs if asked is not None else ()
        form = console_forms.AnswerForm(answer, outputs, request.POST if posted else None)
        if posted and asked is not None and form.is_valid():
            try:
                return self._answer(request, asked, answer, form)
            except errors.SagaError as error:
                # Somebody was first: the page shows what the saga has come to (I3).
                record = self.read(request, saga_id)
                refusal = approving.refused(record, step)
                form.add_error(None, refusal or str(error))
        context = {
            **self.admin_site.each_context(request),
            "title": str(approving.LABELS[answer]),
            "opts": self.opts,
            "saga": record.saga,
            "subject": panels.describe([record.saga]).get(saga_id),
            "record": record,
            "summary": summary.of(record),
            "question": asked,
            "answer": answer,
            "refusal": refusal,
            "preview": approving.preview(record, asked, answer) if asked is not None else [],
            "form": form,
            "written": request.POST.get("reason", "") if posted else "",
        }
        status = 409 if posted and (refusal or form.non_field_errors()) else 200
        return TemplateResponse(request, "sagas/answer.html", context, status=status)

    def _answer(
        self,
        request: http.HttpRequest,
        asked: approving.Question,
        answer: str,
        form: console_forms.AnswerForm,
    ) -> http.HttpResponse:
        """Give the answer, and say so on the saga's page."""
        saga, reason = asked.row.saga, form.cleaned_data["reason"]
        approving.answer(
            saga.pk, asked.row.name, answer=answer, actor=permissions.actor(request), reason=reason,
            facts=form.facts, through="console",
        )  # fmt: skip
        self.log_change(request, saga, f"{answer} {asked.row.name}: {reason}")
        given = {"step": asked.label}
        if answer == approving.REFUSE:
            text = _("“%(step)s” is refused, and the saga turns back.") % given
        elif asked.missing > 1:
            text = _("You have approved “%(step)s”; somebody else must, too.") % given
        else:
            text = _("“%(step)s” is approved, and the saga goes on.") % given
        messages.success(request, text)
        return redirect("admin:sagas_sagainstance_change", saga.pk)


def _seen(text: str) -> Seen | None:
    """What a link or a form says was seen; None where it says nothing that anybody could have seen."""
    try:
        return Seen.parse(text)
    except errors.BadSeen:
        return None
