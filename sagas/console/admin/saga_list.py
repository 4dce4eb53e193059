"""The list of sagas: what waits for a person above it, its columns, its search, and what is done in bulk."""

import csv
import datetime
from typing import Any

from django import http
from django.contrib import admin
from django.contrib.admin import options, utils
from django.contrib.admin.views import main
from django.core import exceptions
from django.db.models import DateTimeField, F, Func, QuerySet, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Now
from django.urls import URLPattern, path
from django.utils import html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sagas import models
from sagas.console import approving, bulk, families, formatting, marks, panels, summary, waiting
from sagas.console.admin import archived, callbacks, filters, paging, runs, saved_views
from sagas.console.admin.archived import named
from sagas.console.admin.saga_page import harmless
from sagas.console.templatetags import console
from sagas.declaration.states import Direction, SagaState
from sagas.models import SagaInstance

ATTENTION_FIRST = 8
"""How many of those that wait for a person stand above the list."""

COLUMNS = ("saga", "badge", "stands", "about", "amount", "begun", "took")
"""What is shown to whoever has chosen nothing else."""

MORE_COLUMNS = ("ended", "updated", "since", "deadline", "failed", "declared")
"""What else can be chosen."""

INDEXED = {"badge", "begun"}
"""Columns by which the whole table is sorted, along an index. By any other the newest that match are, as many
as can be paged through."""

_NEVER = Value(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
"""Before all others, so that what has no such moment comes last where the latest comes first."""

CSV_AT_MOST = 10_000
"""Rows of a download: as many as a bulk run has, and no more than a worker makes in a moment."""

CSV_CHUNK = 500
"""So many of them are described at a time: the price in statements is that of a page of the list."""

CSV_HEADS = ("id", "name", "version", "key", "state", "number", "about", "customer", "amount", "begun",
             "ended", "seconds", "needs_attention_since", "put_aside", "why", "waits")  # fmt: skip


class ChangeList(main.ChangeList):
    """Sagas with their subjects, which are read once for the whole page."""

    def get_queryset(
        self, request: http.HttpRequest, exclude_parameters: Any = None
    ) -> QuerySet[SagaInstance]:
        """As they are to be sorted. By what has no index only the newest are: nothing sorts a whole table."""
        found = super().get_queryset(request, exclude_parameters)
        if request.GET.get(main.ORDER_VAR) is None:
            return found
        shown, order = dict(enumerate(self.list_display)), self.get_ordering_field_columns()
        columns = {shown.get(column, "begun") for column in order}
        if columns == {"badge"}:
            # Within a state along the index, too: else all of a state are sorted for the sake of a page.
            down = "desc" in order.values()
            by = ("-state", "created_at", "pk") if down else ("state", "-created_at", "-pk")
            return found.order_by(*by)
        if columns <= INDEXED:
            return found
        newest = found.order_by("-created_at").values("pk")[: paging.AT_MOST]
        rows: QuerySet[SagaInstance] = self.root_queryset.filter(pk__in=newest)
        return rows.order_by(*found.query.order_by)

    def get_ordering_field(self, field_name: Any) -> Any:
        """By money as the apps know it."""
        return panels.amounts() if field_name == "amount" else super().get_ordering_field(field_name)

    def get_filters_params(self, params: Any = None) -> Any:
        """The columns narrow nothing down."""
        found = super().get_filters_params(params)
        found.pop(saved_views.COLUMNS, None)
        return found

    @property
    def columns(self) -> list[str]:
        """Those that are shown."""
        return [str(name) for name in self.list_display if name != "action_checkbox"]

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """With the columns, unless they are the usual ones: a sorted address counts them."""
        named = {} if tuple(self.columns) == COLUMNS else {saved_views.COLUMNS: ".".join(self.columns)}
        return super().get_query_string({**named, **(new_params or {})}, remove)

    def get_results(self, request: http.HttpRequest) -> None:
        """Add to each saga whom it is about."""
        super().get_results(request)
        panels.attach(self.result_list)
        families.attach(self.result_list)
        waiting.attach(self.result_list, panels.awaited)
        seen = bulk.look(saga.pk for saga in self.result_list)
        for saga in self.result_list:
            saga.seen = seen.get(saga.pk)


class SagaList(saved_views.SavedViews):
    """The attention queue first, then the newest."""

    list_display = COLUMNS
    columns = (*COLUMNS, *MORE_COLUMNS)
    list_display_links = ("saga",)
    list_filter = (
        filters.State, filters.Asked, filters.Step, filters.Error, filters.Age, filters.Dates, filters.Amount,
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
    object_history_template = "sagas/saga_history.html"

    @admin.display(description=SafeString('<input type="checkbox" id="action-toggle">'))
    def action_checkbox(self, obj: Any) -> SafeString:
        """Its tick, with how it stood on this page: what a bulk run is decided on."""
        hidden = html.format_html('<input type="hidden" name="seen" value="{}={}">', obj.pk, obj.seen or "")
        return html.format_html("{}{}", super().action_checkbox(obj), hidden)

    def get_list_display(self, request: http.HttpRequest) -> Any:
        """Those that the address names; else, unless it is sorted by one of the usual, those one likes."""
        named = saved_views.columns_of(request.GET)
        if not named and request.method == "GET" and main.ORDER_VAR not in request.GET:
            named = saved_views.liked(request)
        known = set(named).intersection(self.columns)
        return tuple(name for name in self.columns if name in known | {"saga"}) if known else COLUMNS

    def get_sortable_by(self, request: http.HttpRequest) -> Any:
        """By money only where an app knows of money."""
        shown = super().get_sortable_by(request)
        return shown if panels.amounts() is not None else [name for name in shown if name != "amount"]

    def get_changelist(self, request: http.HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list that shows subjects."""
        return ChangeList

    def get_urls(self) -> list[URLPattern]:
        """With the table of what is filtered."""
        csv_view = self.admin_site.admin_view(self.list_csv_view)
        return [path("list.csv", csv_view, name="sagas_sagainstance_csv"), *super().get_urls()]

    def list_csv_view(self, request: http.HttpRequest) -> http.HttpResponseBase:
        """What the list shows under the same address, as a table; the newest first, up to `CSV_AT_MOST`."""
        if not self.has_view_permission(request):
            raise exceptions.PermissionDenied
        try:
            found = self.get_changelist_instance(request).get_queryset(request)
        except (options.IncorrectLookupParameters, exceptions.SuspiciousOperation):
            return http.HttpResponseBadRequest(_("No such filter."), content_type="text/plain; charset=utf-8")
        response = http.HttpResponse(content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = 'attachment; filename="sagas.csv"'
        writer = csv.writer(response)
        writer.writerow(CSV_HEADS)
        rows = list(found.defer("facts")[:CSV_AT_MOST])
        for first in range(0, len(rows), CSV_CHUNK):
            chunk: list[Any] = rows[first : first + CSV_CHUNK]
            panels.attach(chunk)
            waiting.attach(chunk, panels.awaited)
            for saga in chunk:
                writer.writerow([harmless(value) for value in _cells(saga)])
        return response

    def get_queryset(self, request: http.HttpRequest) -> QuerySet[SagaInstance]:
        """With the database's clock, by which their age is told; it costs no statement of its own."""
        now = Func(function="clock_timestamp", output_field=DateTimeField())
        found: QuerySet[SagaInstance] = super().get_queryset(request).annotate(now=now)
        return found

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
        if request.method == "GET":
            context |= {
                "views": saved_views.of(request),
                "view_query": self._address(request),
                "columns": self._to_choose(request),
            }
        if term := request.GET.get("q", "").strip():
            context["archived"] = archived.found(term)
        if request.method == "GET" and not request.GET:
            queue = list(families.longest_waiting()[: ATTENTION_FIRST + 1])
            panels.attach(queue)
            context |= {
                "attention": queue[:ATTENTION_FIRST],
                "callbacks_waiting": callbacks.waiting().exists(),
                "attention_more": len(queue) > ATTENTION_FIRST,
                "approvals_asked": approving.waiting(request.user).exists(),
                "now": models.database_now(),
            }
        return super().changelist_view(request, context)

    def _address(self, request: http.HttpRequest) -> str:
        """What is shown, so that it is the same when others are liked: its columns are named."""
        address, shown = request.GET.copy(), self.get_list_display(request)
        if shown != COLUMNS:
            address[saved_views.COLUMNS] = ".".join(shown)
        return address.urlencode()

    def _to_choose(self, request: http.HttpRequest) -> list[tuple[str, str, bool]]:
        """Each column with what it is called, and whether it is shown; the saga itself always is."""
        shown = self.get_list_display(request)
        return [
            (name, str(utils.label_for_field(name, self.model, self)), name in shown)
            for name in self.columns
            if name != "saga"
        ]

    @admin.display(description=gettext_lazy("saga"))
    def saga(self, saga: Any) -> str | SafeString:
        """Its subject, or its id."""
        about = saga.subject.text if saga.subject else saga.key
        return html.format_html("{} <code>{}</code>", marks.subject(about), str(saga.pk)[-12:])

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
        said = Truncator(summary.why(saga)).chars(160) or ("" if saga.waits else summary.stands(saga))
        if saga.waits:
            said = html.format_html('{}<span class="waits">{}</span>', said, saga.waits)
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

    @admin.display(description=gettext_lazy("amount"), ordering="amount")
    def amount(self, saga: Any) -> str | SafeString:
        """The amount of money that it is about."""
        worth = saga.subject.amount if saga.subject else ""
        return html.format_html('<span class="number">{}</span>', worth) if worth else ""

    @admin.display(description=gettext_lazy("begun"), ordering="created_at")
    def begun(self, saga: SagaInstance) -> str | SafeString:
        """The moment at which it began."""
        return marks.moment(saga.created_at)

    @admin.display(
        description=gettext_lazy("took, or age"),
        ordering=Coalesce("finished_at", Now()) - F("created_at"),
    )
    def took(self, saga: Any) -> str | SafeString:
        """Its duration, once it has ended; how old it is, while it lives."""
        if saga.finished_at is not None:
            return formatting.length(saga.finished_at - saga.created_at)
        age = formatting.length(saga.now - saga.created_at)
        return html.format_html('<span class="age" title="{}">{} …</span>', _("age: it has not ended"), age)

    @admin.display(description=gettext_lazy("ended"), ordering=Coalesce("finished_at", "closed_at", _NEVER))
    def ended(self, saga: SagaInstance) -> str | SafeString:
        """The moment at which it ended, or was put aside."""
        return marks.moment(saga.finished_at or saga.closed_at)

    @admin.display(description=gettext_lazy("last change"), ordering="updated_at")
    def updated(self, saga: SagaInstance) -> str | SafeString:
        """The moment at which its row was last written."""
        return marks.moment(saga.updated_at)

    @admin.display(
        description=gettext_lazy("waits for a person since"),
        ordering=Coalesce(KeyTextTransform("since", "attention"), Value("")),
    )
    def since(self, saga: SagaInstance) -> str | SafeString:
        """Since when it has needed attention; of what was put aside too."""
        return console.iso_moment((saga.attention or {}).get("since"))

    @admin.display(description=gettext_lazy("deadline"), ordering=Coalesce("deadline_at", _NEVER))
    def deadline(self, saga: SagaInstance) -> str | SafeString:
        """When the time for the direction in which it goes is over."""
        return marks.moment(saga.deadline_at)

    @admin.display(
        description=gettext_lazy("failed at"),
        ordering=Coalesce(KeyTextTransform("step", "failure"), Value("")),
    )
    def failed(self, saga: SagaInstance) -> str | SafeString:
        """The step at which it failed first, and the kind of that failure."""
        if not saga.failure:
            return "–"
        step, kind = saga.failure.get("step") or "–", console.kind_name(saga.failure.get("kind") or "")
        return html.format_html('{} <span class="under quiet">{}</span>', step, kind)

    @admin.display(description=gettext_lazy("definition"), ordering="name")
    def declared(self, saga: SagaInstance) -> str:
        """The declaration with which it began, and its version."""
        return f"{saga.name} {saga.version}"

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


def _cells(saga: Any) -> list[Any]:
    """A row of the download; moments are in UTC."""
    ended = saga.finished_at or saga.closed_at
    about = saga.subject
    return [
        saga.pk, saga.name, saga.version, saga.key, saga.state,
        about.number if about else "", about.text if about else "", about.who if about else "",
        about.amount if about else "",
        saga.created_at.isoformat(), ended.isoformat() if ended else "",
        round(((ended or saga.now) - saga.created_at).total_seconds(), 3),
        (saga.attention or {}).get("since", "") if saga.state == SagaState.NEEDS_ATTENTION else "",
        saga.closed_at.isoformat() if saga.closed_at else "",
        summary.why(saga), " ".join(html.strip_tags(saga.waits).split()),
    ]  # fmt: skip
