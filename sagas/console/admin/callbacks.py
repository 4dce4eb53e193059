"""The inbox of callbacks, and the page on which one that waits for a person is settled or tried again."""

import uuid
from typing import Any

from django import forms, http
from django.contrib import admin, messages
from django.core import exceptions
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sagas import conf, engine, errors, models
from sagas.console import event_names, formatting, panels, translation
from sagas.console.admin import permissions, rows
from sagas.declaration.states import SagaState
from sagas.models import Signal

WAITING = Q(attention_at__isnull=False, settled_at=None)
"""Those that a person was called for and nobody has settled: read by an index of their own."""


class NeedsPerson(admin.SimpleListFilter):
    """Whether a person must see to it."""

    title = gettext_lazy("need of a person")
    parameter_name = "person"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Those that wait, and those that somebody settled."""
        return [("waiting", _("Waits for a person")), ("settled", _("Settled"))]

    def queryset(self, request: http.HttpRequest, queryset: QuerySet[Signal]) -> QuerySet[Signal]:
        """Narrow the list down to what was chosen."""
        if self.value() == "waiting":
            return queryset.filter(WAITING)
        if self.value() == "settled":
            return queryset.filter(attention_at__isnull=False, settled_at__isnull=False)
        return queryset


class Became(admin.SimpleListFilter):
    """By what became of it, in the words of the column."""

    title = gettext_lazy("what became of it")
    parameter_name = "fate"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every fate."""
        return [(fate, event_names.of_fate(fate)) for fate in Signal.Fate.values]

    def queryset(self, request: http.HttpRequest, queryset: QuerySet[Signal]) -> QuerySet[Signal]:
        """Narrow the list down to what was chosen."""
        return queryset.filter(fate=self.value()) if self.value() in Signal.Fate.values else queryset


class SettleForm(forms.Form):
    """How it is known to be settled, or why it is tried again."""

    reason = forms.CharField(
        label=gettext_lazy("Evidence"),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "autofocus": True}),
        help_text=gettext_lazy(
            "How you know: the provider's answer, a reference, who said so. Kept for ever, with your name. "
            "No personal data."
        ),
    )


@admin.register(Signal)
class SignalAdmin(rows.OfSagas):
    """The inbox, newest first."""

    list_display = (
        "received_at",
        "source",
        "kind",
        "about",
        "became",
        "person",
    )
    list_filter = (NeedsPerson, Became)
    search_fields = ("step_key__exact", "event_id__exact")
    search_help_text = gettext_lazy(
        "Id of a saga, key of a step, order number, or the provider's id of the callback"
    )
    exclude = ("facts",)
    readonly_fields = ("redacted",)
    ordering = ("-id",)
    show_full_result_count = False

    def saga_of(self, row: Signal) -> models.SagaInstance | None:
        """The saga whose step it is about, if there is one."""
        saga_id = rows.saga_id_of(row.step_key)
        return models.SagaInstance.objects.filter(pk=saga_id).first() if saga_id else None

    def saga_id(self, row: Signal) -> uuid.UUID | None:
        """The saga whose step it is about, whether or not there is one."""
        return rows.saga_id_of(row.step_key)

    def get_search_results(
        self, request: http.HttpRequest, queryset: QuerySet[Signal], search_term: str
    ) -> tuple[QuerySet[Signal], bool]:
        """By index: those of a saga's steps, or the one with that id, whoever sent it."""
        if not search_term:
            return queryset, False
        term = search_term.strip()
        keys = [term]
        if sagas := rows.sagas_named(term):
            keys += [step.key for step in models.StepInstance.objects.filter(saga__in=sagas)]
        # The index begins with the sender, of whom there are few; the latest callbacks name them all.
        senders = set(Signal.objects.order_by("-id").values_list("source", flat=True)[:1000])
        return queryset.filter(Q(step_key__in=keys) | Q(source__in=senders, event_id=term)), False

    @admin.display(description=gettext_lazy("step's key"), ordering="step_key")
    def about(self, signal: Signal) -> str | SafeString:
        """What it is about, with a link to its saga."""
        saga_id = rows.saga_id_of(signal.step_key)
        if saga_id is None or signal.fate == Signal.Fate.UNMATCHED:
            return signal.step_key
        return rows.led_to(signal, saga_id, signal.step_key)

    @admin.display(description=gettext_lazy("what became of it"), ordering="fate")
    def became(self, signal: Signal) -> str:
        """What became of it, in words."""
        return event_names.of_fate(signal.fate)

    @admin.display(description=gettext_lazy("waits for a person"))
    def person(self, signal: Signal) -> str | SafeString:
        """Why it waits, with a link to the page where it is settled; or who settled it."""
        if signal.attention_at is None:
            return ""
        if signal.settled_at is not None:
            return _("settled by %(actor)s") % {"actor": signal.settled_by}
        page = reverse("admin:sagas_signal_settle", args=[signal.pk])
        return html.format_html('<a href="{}">{}</a>', page, formatting.spoken(signal.attention))

    def get_urls(self) -> list[URLPattern]:
        """With the page on which one is settled."""
        view = self.admin_site.admin_view(self.settle_view)
        return [path("<int:signal_id>/settle/", view, name="sagas_signal_settle"), *super().get_urls()]

    def settle_view(self, request: http.HttpRequest, signal_id: int) -> http.HttpResponse:
        """Say with evidence that it is settled, or have what it tells of undone once more."""
        if not self.has_view_permission(request):
            raise exceptions.PermissionDenied
        signal = get_object_or_404(Signal, pk=signal_id)
        may_settle = request.user.has_perm("sagas.resolve_saga")
        may_retry = signal.fate == Signal.Fate.LATE and request.user.has_perm("sagas.operate_saga")
        form = SettleForm(request.POST if request.method == "POST" else None)
        if request.method == "POST":
            again = request.POST.get("act") == "retry"
            if not (may_retry if again else may_settle):
                raise exceptions.PermissionDenied
            if form.is_valid():
                operation = engine.retry_callback if again else engine.settle_callback
                reason = form.cleaned_data["reason"]
                try:
                    signal = operation(signal_id, actor=permissions.actor(request), reason=reason)
                except errors.SagaError as error:
                    form.add_error(None, translation.translate(str(error)))
                else:
                    self.log_change(request, signal, f"{'retry' if again else 'settle'}: {reason}")
                    messages.success(request, _said(signal, again=again))
                    return redirect("admin:sagas_signal_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": _("A callback that waits for a person"),
            "opts": self.opts,
            "signal": signal,
            "saga_id": _saga_of(signal),
            "subject": _subject_of(signal),
            "needed": _needed(signal),
            "two": conf.four_eyes(),
            "open": signal.attention_at is not None and signal.settled_at is None,
            "why": formatting.spoken(signal.attention),
            "advice": _advice(signal),
            "may_settle": may_settle,
            "may_retry": may_retry,
            "form": form,
        }
        status = 409 if form.is_bound and form.non_field_errors() else 200
        return TemplateResponse(request, "sagas/callback.html", context, status=status)


def waiting() -> QuerySet[Signal]:
    """Those that wait for a person, the oldest first."""
    return Signal.objects.filter(WAITING).order_by("attention_at")


def _said(signal: Signal, *, again: bool) -> str:
    if again:
        return _("It is tried again now.")
    if signal.settled_at is None:
        return _("It waits for a second person, who must say so too.")
    return _("It is settled; thank you.")


def _saga_of(signal: Signal) -> uuid.UUID | None:
    saga_id = rows.saga_id_of(signal.step_key)
    return saga_id if saga_id and models.SagaInstance.objects.filter(pk=saga_id).exists() else None


def _subject_of(signal: Signal) -> panels.Subject | None:
    """What its saga is about; None where nobody knows, or it is about no saga of ours."""
    saga_id = rows.saga_id_of(signal.step_key)
    saga = models.SagaInstance.objects.filter(pk=saga_id).first() if saga_id else None
    return panels.describe([saga]).get(saga.pk) if saga is not None else None


def _needed(signal: Signal) -> bool:
    """Whether its saga waits for a person as well, who is to see to that first."""
    needing = models.SagaInstance.objects.filter(state=SagaState.NEEDS_ATTENTION, closed_at=None)
    saga_id = rows.saga_id_of(signal.step_key)
    return saga_id is not None and needing.filter(pk=saga_id).exists()


def _advice(signal: Signal) -> str:
    """What a person may do about it."""
    if signal.fate == Signal.Fate.LATE:
        return _(
            "See to the cause and try again; or settle it with the provider under the key shown, give back "
            "by hand what it took, and say so here."
        )
    if signal.fate == Signal.Fate.UNREADABLE:
        return _(
            "Find in the provider's own console what it wanted to tell, under the id shown, and see that "
            "nothing of it is missing here; then say so."
        )
    return _(
        "Ask the provider what it meant. If it holds money or goods that nobody here asked for, have them "
        "given back there; then say so here."
    )
