"""What the list of sagas can be narrowed to. Each reads an index, or what is live; none counts."""

import datetime
import functools
import operator
from typing import Any

from django import http
from django.contrib import admin
from django.db.models import Q, QuerySet, functions, lookups
from django.db.models.fields.json import KeyTextTransform
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sagas import models, reading
from sagas.console import approving, failure_groups, families, marks, panels
from sagas.console.templatetags import console
from sagas.declaration import registry
from sagas.declaration.states import LIVE, SagaState

Sagas = QuerySet[models.SagaInstance]


class State(admin.SimpleListFilter):
    """By state; what needs attention is what a person is to act at, and not what was put aside."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The states, and the two that operators add."""
        names = marks.state_names()
        order = [SagaState.NEEDS_ATTENTION, SagaState.RUNNING, SagaState.COMPENSATING]
        order += [SagaState.COMPLETED, SagaState.COMPENSATED]
        return [
            ("live", _("Live")),
            *((str(state), names[state]) for state in order),
            *((name, names[name]) for name in ("held", "closed")),
            *([("child", _("Waits for a child in need"))] if families.have_children() else []),
        ]

    def queryset(self, request: http.HttpRequest, queryset: Sagas) -> Sagas:
        """Narrow the list down to what was chosen."""
        value = self.value()
        if value == "live":
            return queryset.filter(state__in=LIVE, closed_at=None)
        if value == "held":
            return queryset.filter(state__in=LIVE, held_at__isnull=False)
        if value == "closed":
            return queryset.filter(state=SagaState.NEEDS_ATTENTION, closed_at__isnull=False)
        if value in (SagaState.NEEDS_ATTENTION, "child"):
            called = queryset.filter(state=SagaState.NEEDS_ATTENTION, closed_at=None)
            for_child = families.for_a_childs_sake()
            return called.filter(for_child) if value == "child" else called.exclude(for_child)
        return queryset.filter(state=value) if value in SagaState.values() else queryset


class Definition(admin.SimpleListFilter):
    """By declaration and version."""

    title = gettext_lazy("definition")
    parameter_name = "definition"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """What the code declares; what it no longer does is found by typing it into the address."""
        return [(f"{saga.name}.{saga.version}", str(saga)) for saga in registry.everything()]

    def queryset(self, request: http.HttpRequest, queryset: Sagas) -> Sagas:
        """Narrow the list down to what was chosen."""
        name, _dot, version = (self.value() or "").rpartition(".")
        if not name or not version.isdigit():
            return queryset
        return queryset.filter(name=name, version=int(version))


class Step(admin.SimpleListFilter):
    """By the step at which it failed first."""

    title = gettext_lazy("failed step")
    parameter_name = "step"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every declared step."""
        steps = {step.name: saga.name for saga in registry.everything() for step in saga.all_steps}
        return [(name, f"{name} ({panels.label(saga, name)})") for name, saga in steps.items()]

    def queryset(self, request: http.HttpRequest, queryset: Sagas) -> Sagas:
        """Narrow the list down to what was chosen."""
        value = self.value()
        return _failed(queryset, "step", value) if value else queryset


def _failed(queryset: Sagas, name: str, value: str) -> Sagas:
    """By a word of the first failure, written as its index is: as text, of what failed."""
    return queryset.filter(lookups.Exact(KeyTextTransform(name, "failure"), value), failure__isnull=False)


class Error(admin.SimpleListFilter):
    """By the kind of the first failure."""

    title = gettext_lazy("error")
    parameter_name = "error"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The kinds of outcome that the engine tells apart."""
        return list(console.kind_names().items())

    def queryset(self, request: http.HttpRequest, queryset: Sagas) -> Sagas:
        """Narrow the list down to what was chosen."""
        value = self.value()
        return _failed(queryset, "kind", value) if value else queryset


class Age(admin.SimpleListFilter):
    """By when it began."""

    title = gettext_lazy("beginning")
    parameter_name = "begun"

    SPANS = {
        "1h": datetime.timedelta(hours=1),
        "24h": datetime.timedelta(days=1),
        "7d": datetime.timedelta(days=7),
    }

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The spans, and what is older than the first of them."""
        return [
            ("1h", _("in the last hour")),
            ("24h", _("in the last 24 hours")),
            ("7d", _("in the last 7 days")),
            ("older-1h", _("more than an hour ago")),
            ("older-24h", _("more than a day ago")),
            ("older-7d", _("more than a week ago")),
        ]

    def queryset(self, request: http.HttpRequest, queryset: Sagas) -> Sagas:
        """Only those, by the database's clock."""
        value = self.value() or ""
        span = self.SPANS.get(value.removeprefix("older-"))
        if span is None:
            return queryset
        limit = (
            functions.Now() - span
        )  # Unlike the clock, the same for the whole statement: an index may be used.
        if value.startswith("older-"):
            return queryset.filter(created_at__lt=limit)
        return queryset.filter(created_at__gte=limit)


class Dates(admin.ListFilter):
    """By the days on which it began, in the viewer's zone: both are counted."""

    title = gettext_lazy("begun from, until")
    template = "sagas/dates_filter.html"
    NAMES = ("from", "until")

    def __init__(
        self, request: http.HttpRequest, params: dict[str, Any], model: Any, model_admin: Any
    ) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.NAMES:
            for value in params.pop(name, [])[-1:]:
                self.used_parameters[name] = value

    def has_output(self) -> bool:
        """Whether it is shown: always."""
        return True

    def expected_parameters(self) -> list[Any]:
        """Its names in the address."""
        return list(self.NAMES)

    def choices(self, changelist: Any) -> Any:
        """What was chosen, and what else the address says, which the form sends along."""
        others = [
            (name, value)
            for name, values in changelist.filter_params.items()
            if name not in self.NAMES
            for value in values
        ]
        if changelist.query:
            others.append(("q", changelist.query))
        return [{"chosen": self.used_parameters, "others": others, "active": bool(self.used_parameters)}]

    def queryset(self, request: http.HttpRequest, queryset: Sagas) -> Sagas:
        """Only those that began on these days; what is no date narrows nothing down."""
        first, last = (_day(self.used_parameters.get(name)) for name in self.NAMES)
        if first is not None:
            queryset = queryset.filter(created_at__gte=_midnight(first))
        if last is not None and last < datetime.date.max:
            queryset = queryset.filter(created_at__lt=_midnight(last + datetime.timedelta(days=1)))
        return queryset


def _day(text: object) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(str(text))
    except ValueError:
        return None


def _midnight(day: datetime.date) -> datetime.datetime:
    """The moment at which that day begins where the viewer is."""
    return datetime.datetime.combine(day, datetime.time.min, timezone.get_current_timezone())


class Amount(admin.SimpleListFilter):
    """By how much money it is about, as the apps know it."""

    title = gettext_lazy("amount")
    parameter_name = "amount"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Powers of ten, in major units; none where no app knows of money."""
        if not panels.registered():
            return []
        return [
            ("0-10000", _("up to 100")),
            ("10000-100000", _("100 to 1,000")),
            ("100000-1000000", _("1,000 to 10,000")),
            ("1000000-", _("10,000 and more")),
        ]

    def queryset(self, request: http.HttpRequest, queryset: Sagas) -> Sagas:
        """Narrow the list down to what was chosen."""
        least, dash, most = (self.value() or "").partition("-")
        if not dash or not least.isdigit() or (most and not most.isdigit()):
            return queryset
        found: Sagas = queryset.none()
        for subjects in panels.registered():
            found = found | queryset.filter(
                pk__in=subjects.amounting(int(least), int(most) if most else None)
            )
        return found


class Asked(admin.SimpleListFilter):
    """By whether an approval is waited for; offered where a declaration has one."""

    title = gettext_lazy("approval")
    parameter_name = "approval"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """What the viewer may answer, and whatever anybody may."""
        if not approving.asks_anybody():
            return []
        return [("mine", _("that I may give")), ("any", _("by anybody"))]

    def queryset(self, request: http.HttpRequest, queryset: Sagas) -> Sagas:
        """Narrow the list down to what was chosen."""
        value = self.value()
        if value not in ("mine", "any"):
            return queryset
        waiting = approving.waiting(request.user if value == "mine" else None)
        return queryset.filter(pk__in=waiting.values("pk"))


class Group(admin.SimpleListFilter):
    """By failure group; shown only where one was chosen on the page of groups."""

    title = gettext_lazy("failure group")
    parameter_name = "group"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The one that was chosen."""
        chosen = request.GET.get(self.parameter_name, "")
        return [(chosen, chosen.partition(":")[2][:8])] if chosen else []

    def queryset(self, request: http.HttpRequest, queryset: Sagas) -> Sagas:
        """Narrow the list down to what was chosen."""
        scope, _colon, signature = (self.value() or "").partition(":")
        if scope not in (failure_groups.ATTENTION, failure_groups.FAILED):
            return queryset
        return queryset.filter(pk__in=failure_groups.members(signature, scope))


class Family(admin.SimpleListFilter):
    """By whether it is a child of another saga, or may have children; offered where a declaration has any."""

    title = gettext_lazy("family")
    parameter_name = "family"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Without children each family stands there once."""
        if not families.have_children():
            return []
        return [
            ("no-children", _("not a child of another")),
            ("parents", _("with children of their own")),
            ("children", _("children only")),
        ]

    def queryset(self, request: http.HttpRequest, queryset: Sagas) -> Sagas:
        """Narrow the list down to what was chosen."""
        value = self.value()
        if value == "no-children":
            return queryset.filter(parent_id=None)
        if value == "children":
            return queryset.filter(parent_id__isnull=False)
        if value == "parents":
            of_them = [Q(name=name, version=version) for name, version in families.have_children()]
            return queryset.filter(functools.reduce(operator.or_, of_them)) if of_them else queryset.none()
        return queryset


class Parent(admin.SimpleListFilter):
    """By whose child it is; shown only where a page led to the children of one saga."""

    title = gettext_lazy("children of")
    parameter_name = "parent"

    def lookups(self, request: http.HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The one that was chosen, by its name, and by its step where one was."""
        chosen = request.GET.get(self.parameter_name, "")
        saga_id, step = families.parse(chosen)
        saga = reading.in_bulk([saga_id]).get(saga_id) if saga_id is not None else None
        if saga is None:
            return [(chosen, chosen)] if chosen else []
        about = panels.describe([saga]).get(saga.pk)
        name = about.text if about is not None else saga.key
        return [(chosen, f"{step} · {name}" if step else name)]

    def queryset(self, request: http.HttpRequest, queryset: Sagas) -> Sagas:
        """Narrow the list down to what was chosen."""
        if not self.value():
            return queryset
        saga_id, step = families.parse(self.value() or "")
        if saga_id is None:
            return queryset.none()
        children = queryset.filter(parent_id=saga_id)
        return children.filter(parent_step=step) if step else children
