"""Every row of the engine, to look at: nothing is added, changed or deleted here by hand."""

import uuid
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views import main
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from sagas import models
from sagas.console import event_names, history, interventions, marks, panels, redaction
from sagas.console.admin import moments
from sagas.console.models import Consent, FailureNote
from sagas.console.templatetags import console


class ReadOnly(moments.Moments):
    """Nobody adds, changes or deletes here: interventions have pages of their own, with a reason."""

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody has it: the engine alone writes its rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody has it: the engine alone writes its rows."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody has it: the engine alone writes its rows."""
        return False


class ChangeList(main.ChangeList):
    """Rows of sagas, with what these are about, which is read once for the whole page."""

    def get_results(self, request: HttpRequest) -> None:
        """Add to each row its saga and what that is about; None where nobody knows, or it is archived."""
        super().get_results(request)
        listed: Any = self.model_admin
        ids = {row.pk: listed.saga_id(row) for row in self.result_list}
        wanted = models.SagaInstance.objects.filter(pk__in=set(ids.values()) - {None}).defer("facts")
        sagas = {saga.pk: saga for saga in wanted}
        known = panels.describe(sagas.values())
        for row in self.result_list:
            row.saga_known, row.saga_subject = sagas.get(ids[row.pk]), known.get(ids[row.pk])


class OfSagas(ReadOnly):
    """Rows of sagas, found by the saga's id or number or by a step's key, which begins with its id.

    Never by a scan.
    """

    search_fields: ClassVar[tuple[str, ...]] = ("saga__id",)
    search_help_text = _("Id of a saga, key of a step, or order number")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list that knows subjects."""
        return ChangeList

    def saga_id(self, row: Any) -> uuid.UUID | None:
        """The id of the saga that it is a row of."""
        found: uuid.UUID | None = row.saga_id
        return found

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Those of the saga that the term names."""
        if not search_term:
            return queryset, False
        return queryset.filter(saga_id__in=sagas_named(search_term)), False

    @admin.display(description=_("saga"))
    def its_saga(self, row: Any) -> SafeString:
        """The page that tells all of it."""
        return led_to(row, row.saga_id, str(row.saga_id))

    @admin.display(description=_("data"))
    def redacted(self, row: Any) -> SafeString:
        """What is excluded: its JSON, without what the saga's declaration hides."""
        (column,) = self.exclude or ()
        data = redaction.redact(getattr(row, column), redaction.hidden(self.saga_of(row)))
        return html.format_html("<pre>{}</pre>", console.pretty(data))

    def saga_of(self, row: Any) -> models.SagaInstance | None:
        """The saga that it is a row of."""
        saga: models.SagaInstance | None = row.saga
        return saga

    @admin.display(description=_("state"), ordering="state")
    def badge(self, row: Any) -> SafeString:
        """The state, with its mark."""
        return marks.badge(row.state)


def led_to(row: Any, saga_id: uuid.UUID | None, code: str) -> SafeString:
    """A link to the page of a row's saga: what that is about, where it is known, and what it is named by."""
    page = reverse("admin:sagas_sagainstance_change", args=[saga_id])
    about = getattr(row, "saga_subject", None)
    if about is None:
        return html.format_html('<a href="{}"><code>{}</code></a>', page, code)
    said = '<a href="{}">{} <code>{}</code></a>'
    return html.format_html(said, page, marks.subject(about.text), code[24:])


def sagas_named(term: str) -> set[uuid.UUID]:
    """The saga whose id this is, or whose step has this key; else those about the thing with this number."""
    if saga_id := saga_id_of(term):
        return {saga_id}
    return {found for numbered in panels.numbered(term.strip()) for found in numbered}


def saga_id_of(term: str) -> uuid.UUID | None:
    """The saga whose id this is, or whose step has this key; None where it is neither."""
    try:
        return uuid.UUID(term.strip().partition(".")[0])
    except ValueError:
        return None


@admin.register(models.StepInstance)
class StepAdmin(OfSagas):
    """Newest first."""

    list_display = ("id", "its_saga", "name", "badge", "attempts", "undo_attempts", "started_at", "worker")
    exclude = ("facts",)
    readonly_fields = ("badge", "redacted")
    ordering = ("-id",)
    show_full_result_count = False

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The state stands there in words, too."""
        return ("facts", "state")

    @admin.display(description=_("state"), ordering="state")
    def badge(self, step: models.StepInstance) -> SafeString:
        """The state, as the page of its saga calls it."""
        saga = getattr(step, "saga_known", None) or step.saga
        return marks.badge(history.stands(saga, step))


@admin.register(models.Event)
class EventAdmin(OfSagas):
    """Newest first; the database refuses to change or delete one."""

    list_display = ("at", "its_saga", "what", "subject", "came_from", "went_to", "attempt", "actor")
    exclude = ("data",)
    readonly_fields = ("what", "came_from", "went_to", "redacted")
    ordering = ("-id",)
    show_full_result_count = False

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The states stand there in words, too."""
        return ("data", "from_state", "to_state")

    @admin.display(description=_("event"))
    def what(self, event: models.Event) -> SafeString:
        """What happened, in words; the kind that machines read lies under it."""
        return html.format_html('<span title="{}">{}</span>', event.kind, event_names.name(event.kind))

    @admin.display(description=_("from state"), ordering="from_state")
    def came_from(self, event: models.Event) -> str:
        """The state that was left, as its mark calls it."""
        return console.state_name(event.from_state)

    @admin.display(description=_("to state"), ordering="to_state")
    def went_to(self, event: models.Event) -> str:
        """The state that was entered, as its mark calls it."""
        return console.state_name(event.to_state)


@admin.register(models.Queue)
class QueueAdmin(ReadOnly):
    """What probes tell of each queue."""

    list_display = ("name", "asked", "answered", "worker")

    @admin.display(description=_("last asked"), ordering="probed_at")
    def asked(self, queue: models.Queue) -> str | SafeString:
        """When its workers were last asked whether they are there."""
        return marks.moment(queue.probed_at)

    @admin.display(description=_("last answer"), ordering="returned_at")
    def answered(self, queue: models.Queue) -> str | SafeString:
        """When one of them last answered."""
        return marks.moment(queue.returned_at)


@admin.register(Consent)
class ConsentAdmin(OfSagas):
    """Newest first; they are decided on the page of their saga."""

    list_display = ("asked_at", "its_saga", "asked_for", "actor", "badge", "decided_by", "decided_at")
    list_filter = ("state",)
    exclude = ("arguments",)
    readonly_fields = ("redacted",)
    ordering = ("-asked_at",)
    show_full_result_count = False

    @admin.display(description=_("intervention"), ordering="intervention")
    def asked_for(self, consent: Consent) -> str:
        """The intervention, as its button calls it."""
        return interventions.asked_for(consent)


@admin.register(FailureNote)
class FailureNoteAdmin(ReadOnly):
    """Newest first; they are written on the page of failure groups."""

    list_display = ("text", "actor", "at")
    ordering = ("-at",)


@admin.register(models.Circuit)
class CircuitAdmin(ReadOnly):
    """Which provider is out."""

    list_display = ("name", "failures", "failing_since", "reason", "opened_at", "open_until", "mended")
    exclude = ("error", "needs_person")
    readonly_fields = ("reason", "mended")

    @admin.display(description=_("needs person"), ordering="needs_person")
    def mended(self, circuit: models.Circuit) -> str:
        """In a word: Django's red cross for "no" would look like trouble."""
        return str(_("Yes") if circuit.needs_person else _("No"))

    @admin.display(description=_("last error"))
    def reason(self, circuit: models.Circuit) -> str:
        """The last error that opened it."""
        return circuit.reason
