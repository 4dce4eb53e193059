"""The list of sagas: what waits for a person above it, its columns, its search, and what is done in bulk."""

from typing import Any

from django import http
from django.contrib import admin
from django.contrib.admin.views import main
from django.db.models import QuerySet
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sagas import models
from sagas.console import approving, bulk, families, formatting, marks, panels, summary
from sagas.console.admin import archived, callbacks, filters, paging, rows, runs
from sagas.console.admin.archived import named
from sagas.declaration.states import Direction
from sagas.models import SagaInstance

ATTENTION_FIRST = 8
"""How many of those that wait for a person stand above the list."""


class ChangeList(main.ChangeList):
    """Sagas with their subjects, which are read once for the whole page."""

    def get_results(self, request: http.HttpRequest) -> None:
        """Add to each saga whom it is about."""
        super().get_results(request)
        panels.attach(self.result_list)
        families.attach(self.result_list)
        seen = bulk.look(saga.pk for saga in self.result_list)
        for saga in self.result_list:
            saga.seen = seen.get(saga.pk)


class SagaList(rows.ReadOnly):
    """The attention queue first, then the newest."""

    list_display = ("saga", "badge", "stands", "about", "amount", "begun", "took")
    list_display_links = ("saga",)
    list_filter = (
        filters.State, filters.Asked, filters.Step, filters.Error, filters.Age, filters.Amount,
        filters.Definition, filters.Family, filters.Group, filters.Parent,
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

    @admin.display(description=SafeString('<input type="checkbox" id="action-toggle">'))
    def action_checkbox(self, obj: Any) -> SafeString:
        """Its tick, with how it stood on this page: what a bulk run is decided on."""
        hidden = html.format_html('<input type="hidden" name="seen" value="{}={}">', obj.pk, obj.seen or "")
        return html.format_html("{}{}", super().action_checkbox(obj), hidden)

    def get_changelist(self, request: http.HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list that shows subjects."""
        return ChangeList

    def get_search_results(
        self, request: http.HttpRequest, queryset: QuerySet[SagaInstance], search_term: str
    ) -> tuple[QuerySet[SagaInstance], bool]:
        """By id, by key, or by whatever the apps know it under; never by scanning the table."""
        term = search_term.strip()
        if not term:
            return queryset, False
        found = named(term)
        found |= set(SagaInstance.objects.filter(key=term).values_list("pk", flat=True)[:100])
        return queryset.filter(pk__in=found), False

    def changelist_view(
        self, request: http.HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> http.HttpResponse:
        """The list, with those that wait for a person above it."""
        context: dict[str, Any] = {"title": _("Sagas"), **(extra_context or {})}
        if term := request.GET.get("q", "").strip():
            context["archived"] = archived.found(term)
        if request.method == "GET" and not request.GET:
            queue = list(families.needing_a_person().order_by("created_at")[: ATTENTION_FIRST + 1])
            panels.attach(queue)
            context |= {
                "attention": queue[:ATTENTION_FIRST],
                "callbacks_waiting": callbacks.waiting().exists(),
                "attention_more": len(queue) > ATTENTION_FIRST,
                "approvals_asked": approving.waiting(request.user).exists(),
                "now": models.database_now(),
            }
        return super().changelist_view(request, context)

    @admin.display(description=gettext_lazy("saga"))
    def saga(self, saga: Any) -> str | SafeString:
        """Its subject, or its id."""
        about = saga.subject.text if saga.subject else saga.key
        return html.format_html('<span class="subject">{}</span> <code>{}</code>', about, str(saga.pk)[-12:])

    def get_ordering(self, request: http.HttpRequest) -> Any:
        """The newest first; the children of one saga in the order of its lists."""
        return ("parent_step", "parent_item") if request.GET.get("parent") else super().get_ordering(request)

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def badge(self, saga: SagaInstance) -> SafeString:
        """Its state; held and put aside come first."""
        badge = families.badge(saga)
        if saga.closed_at is not None:
            return badge
        return html.format_html("{} {}", badge, marks.badge("held")) if saga.held_at else badge

    @admin.display(description=gettext_lazy("where, why"))
    def stands(self, saga: Any) -> str | SafeString:
        """Why it stands before a person, what went wrong first, or at which step it is; and its children."""
        said = Truncator(summary.why(saga)).chars(160) or summary.stands(saga)
        back = saga.direction == Direction.BACKWARD
        lists = [
            html.format_html(
                '<a href="?parent={}.{}">{}: {}</a>',
                saga.pk,
                step,
                step,
                families.words(counts, backward=back),
            )
            for step, counts in saga.children.items()
        ]
        under = html.format_html_join("", '<span class="under">{}</span>', [(link,) for link in lists])
        return html.format_html("{} {}", said, under) if lists else said

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
        return marks.moment(saga.created_at)

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

    def has_operate_permission(self, request: http.HttpRequest) -> bool:
        """Whether they may retry, hold, release and extend."""
        return request.user.has_perm("sagas.operate_saga")

    def has_compensate_permission(self, request: http.HttpRequest) -> bool:
        """Whether they may have sagas undone."""
        return request.user.has_perm("sagas.compensate_saga")
