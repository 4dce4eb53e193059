"""The list of archived sagas; each of them leads to the page that every saga has."""

import contextlib
import uuid
from typing import Any

from django import http
from django.contrib import admin
from django.contrib.admin.views import main
from django.db.models import QuerySet
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sagas import reading
from sagas.console import families, formatting, marks, panels
from sagas.console.admin import filters, paging, rows
from sagas.console.templatetags import console
from sagas.declaration.states import SagaState
from sagas.models import ArchivedSaga, StepInstance

FOUND_AT_MOST = 20
"""How many archived sagas the search of the live ones shows above its list."""

LISTED = ("document", "digest")
"""What no list reads."""


def named(term: str) -> set[uuid.UUID]:
    """The sagas that people mean by this: one's id, a step's key, or what the apps know it under."""
    found = set(panels.search(term))
    head = term.partition(".")[0]  # A step's key begins with its saga's id.
    with contextlib.suppress(ValueError):
        found.add(uuid.UUID(head))
    return found


def found(term: str) -> list[ArchivedSaga]:
    """The archived sagas that are found by this word, the newest first, with their subjects."""
    sagas = list(
        _search(ArchivedSaga.objects.all(), term).defer(*LISTED).order_by("-ended_at")[:FOUND_AT_MOST]
    )
    panels.attach(sagas)
    return sagas


def _search(queryset: QuerySet[ArchivedSaga], term: str) -> QuerySet[ArchivedSaga]:
    keyed = list(ArchivedSaga.objects.filter(key=term).values_list("pk", flat=True)[:100])
    wanted = named(term) | set(keyed)
    return queryset.filter(pk__in=ArchivedSaga.around(wanted).values("pk")) if wanted else queryset.none()


class State(admin.SimpleListFilter):
    """By how it ended."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The ends that there are."""
        names = marks.state_names()
        return [(name, names[name]) for name in (*ENDS, "closed")]

    def queryset(self, request: http.HttpRequest, queryset: QuerySet[ArchivedSaga]) -> QuerySet[ArchivedSaga]:
        """Narrow the list down to what was chosen."""
        value = self.value()
        if value == "closed":
            return queryset.filter(state=SagaState.NEEDS_ATTENTION)
        return queryset.filter(state=value) if value in ENDS else queryset


ENDS = (SagaState.COMPLETED, SagaState.COMPENSATED)


class Parent(filters.Parent):
    """By whose child it is; shown only where the page of an archived saga led to its children."""

    def queryset(self, request: http.HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list down to what was chosen: children are found by their keys here."""
        if not self.value():
            return queryset
        saga_id, wanted = families.parse(self.value() or "")
        saga = reading.in_bulk([saga_id]).get(saga_id) if saga_id is not None else None
        steps: list[StepInstance] = list(saga.steps.all()) if saga is not None else []  # type: ignore[arg-type]
        keys = [key for step in steps if wanted in ("", step.name) for key in step.child_keys]
        return (
            queryset.filter(pk__in=reading.archived_children(keys).values("pk")) if keys else queryset.none()
        )


class Error(admin.SimpleListFilter):
    """By the kind of the first failure."""

    title = gettext_lazy("error")
    parameter_name = "error"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The kinds of outcome that the engine tells apart."""
        return list(console.kind_names().items())

    def queryset(self, request: http.HttpRequest, queryset: QuerySet[ArchivedSaga]) -> QuerySet[ArchivedSaga]:
        """Narrow the list down to what was chosen."""
        value = self.value()
        return queryset.filter(failed_kind=value) if value else queryset


class ChangeList(main.ChangeList):
    """Archived sagas with their subjects, which are read once for the whole page."""

    def get_results(self, request: http.HttpRequest) -> None:
        """Add to each saga whom it is about."""
        super().get_results(request)
        panels.attach(self.result_list)


@admin.register(ArchivedSaga)
class ArchivedSagaAdmin(rows.ReadOnly):
    """What ended last comes first. Whoever may see sagas may see these."""

    list_display = ("saga", "badge", "why", "about", "begun", "ended")
    list_display_links = None
    list_filter = (State, Error, Parent)
    search_fields = ("=key",)
    search_help_text = gettext_lazy(
        "Saga id, order number, customer, tax id, provider's reference, tracking code"
    )
    ordering = ("-ended_at",)
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = paging.Bounded
    actions = None

    def has_view_permission(self, request: http.HttpRequest, obj: object = None) -> bool:
        """Whoever may see sagas."""
        return request.user.has_perm("sagas.view_sagainstance")

    def has_module_permission(self, request: http.HttpRequest) -> bool:
        """The same."""
        return self.has_view_permission(request)

    def get_queryset(self, request: http.HttpRequest) -> QuerySet[ArchivedSaga]:
        """Without the documents, which the list does not open."""
        return super().get_queryset(request).defer(*LISTED)

    def get_changelist(self, request: http.HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list that shows subjects."""
        return ChangeList

    def get_search_results(
        self, request: http.HttpRequest, queryset: QuerySet[ArchivedSaga], search_term: str
    ) -> tuple[QuerySet[ArchivedSaga], bool]:
        """By id, by key, or by whatever the apps know it under; never by scanning the table."""
        term = search_term.strip()
        return (_search(queryset, term) if term else queryset), False

    def changelist_view(
        self, request: http.HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> http.HttpResponse:
        """The list."""
        return super().changelist_view(request, {"title": _("Archived sagas"), **(extra_context or {})})

    def change_view(
        self,
        request: http.HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> http.HttpResponse:
        """The page that every saga has."""
        return redirect("admin:sagas_sagainstance_change", object_id)

    @admin.display(description=gettext_lazy("saga"))
    def saga(self, saga: Any) -> SafeString:
        """Its subject, or its key, with its id; it leads to its page."""
        about = saga.subject.text if saga.subject else saga.key
        page = reverse("admin:sagas_sagainstance_change", args=[saga.pk])
        return html.format_html(
            '<a href="{}">{} <code>{}</code></a>', page, marks.subject(about), str(saga.pk)[-12:]
        )

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def badge(self, saga: ArchivedSaga) -> SafeString:
        """How it ended."""
        return marks.badge("closed" if saga.closed_at is not None else saga.state)

    @admin.display(description=gettext_lazy("where, why"))
    def why(self, saga: ArchivedSaga) -> str:
        """At which step something went wrong first, and of which kind that was."""
        if not saga.failed_kind:
            return ""
        step = panels.label(saga.name, saga.failed_step) if saga.failed_step else ""
        kind = console.kind_names().get(saga.failed_kind, saga.failed_kind)
        return f"{step}: {kind}" if step else str(kind)

    @admin.display(description=gettext_lazy("about"))
    def about(self, saga: Any) -> str:
        """The customer, or whoever else it is about."""
        return saga.subject.who if saga.subject else ""

    @admin.display(description=gettext_lazy("begun"), ordering="created_at")
    def begun(self, saga: ArchivedSaga) -> str | SafeString:
        """The moment at which it began."""
        return marks.moment(saga.created_at)

    @admin.display(description=gettext_lazy("took"))
    def ended(self, saga: ArchivedSaga) -> str:
        """Its duration."""
        return formatting.length(saga.ended_at - saga.created_at)
