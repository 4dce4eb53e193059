"""Sagas, for those who look after them."""

import functools
import operator
from typing import Any
from uuid import UUID

from django import http
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import translation
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from api import auth, pagination, problems, rendering, schema, serializers
from api.views import View
from sagas import errors, models, reading
from sagas.console import approving, history, interventions, panels
from sagas.console.api import forms, kinds, shapes
from sagas.declaration import registry, states
from sagas.engine.seen import Seen


class StaffView(View):
    """For staff only."""

    scopes = auth.STAFF


class Sagas(StaffView):
    """Everybody's sagas."""

    @schema.operation(
        id="listSagas", tag="sagas", summary="List everybody's sagas, newest first",
        query=forms.SagaQuery, answers={200: serializers.page(shapes.Saga)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """A page of them, newest first."""
        wanted = serializers.read_query(forms.SagaQuery, request)
        if wanted.get("archived") == "true":
            return SagaPages.answer(chosen_of_archive(wanted), request, shapes.Saga)
        return SagaPages.answer(chosen(wanted, auth.caller(request)), request, shapes.Saga)


class SagaPages(pagination.ByCursor):
    """Newest first, each with what it is about."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        """The rows of the page."""
        rows: list[Any] = super().paginate_queryset(queryset, request, view) or []
        if queryset.model is models.ArchivedSaga:
            rows = [reading.opened(row).saga for row in rows]
        panels.attach(rows)
        shapes.attach_families(rows)
        shapes.fetch_reasons(rows)
        return rows


class Saga(StaffView):
    """One saga."""

    @schema.operation(
        id="getSaga", tag="sagas", summary="Read a saga", headers=[schema.IF_NONE_MATCH],
        answers={200: shapes.Saga, 304: None}, sends={"ETag": [200, 304]},
        problems_=[problems.NOT_FOUND, problems.INVALID_QUERY],
    )  # fmt: skip
    def get(self, request: Request, saga_id: UUID) -> http.HttpResponse:
        """It, with its steps."""
        serializers.read_query(serializers.Nothing, request)
        return rendering.answer(request, shown(saga_id))


class SagaEvents(StaffView):
    """What happened to a saga."""

    @schema.operation(
        id="listSagaEvents", tag="sagas", summary="Read what happened to a saga, from the beginning on",
        query=serializers.Page, answers={200: serializers.page(shapes.SagaEvent)},
        problems_=[problems.NOT_FOUND],
    )  # fmt: skip
    def get(self, request: Request, saga_id: UUID) -> Response:
        """A page of it, from the beginning on."""
        serializers.read_query(serializers.Page, request)
        if not models.SagaInstance.objects.filter(pk=saga_id).exists():
            if (found := reading.archived(saga_id)) is None:
                raise http.Http404
            return EventPages.answer(Events(found.events), request, shapes.SagaEvent)
        events = models.Event.objects.filter(saga_id=saga_id)
        # Its declaration says what is hidden: name and version find it.
        events = events.select_related("saga").defer("saga__facts", "saga__failure", "saga__attention")
        return EventPages.answer(events, request, shapes.SagaEvent)


class EventPages(pagination.ByNumber):
    """In the order of happening."""

    ordering = "id"
    page_size = 100


class Events(list[models.Event]):
    """Those of an archived saga, with as much of a queryset as pages by cursor ask for."""

    def order_by(self, ordering: str) -> "Events":
        """By id, upwards or downwards."""
        return Events(sorted(self, key=lambda event: event.pk, reverse=ordering.startswith("-")))

    def filter(self, *, id__lt: str | None = None, id__gt: str | None = None) -> "Events":
        """Those beyond a cursor's place."""
        if id__lt is not None:
            return Events(event for event in self if event.pk < int(id__lt))
        return Events(event for event in self if id__gt is None or event.pk > int(id__gt))


class Intervene(StaffView):
    """An operator's intervention: permitted, with what it was decided on and the reason for it."""

    form: type[forms.Move] = forms.Move
    permission = ""

    def post(self, request: Request, saga_id: UUID) -> Response:
        """Make it, unless the saga has moved on (I3), or ask for the second person where two must agree."""
        need(request, f"sagas.{self.permission}")
        given = dict(serializers.read(self.form, request.data).validated_data)
        seen, reason = given.pop("seen"), given.pop("reason")
        intervention = interventions.INTERVENTIONS[self.chosen(saga_id, seen, given)]
        assert intervention.permission == self.permission
        actor = auth.caller(request).get_username()
        waits = False
        try:
            # What is refused is told in English, whatever the caller's language, as everything here is.
            with translation.override("en"):
                interventions.make(
                    saga_id, intervention, seen=seen, actor=actor, reason=reason, arguments=given
                )
        except interventions.NeedsConsent:
            waits = True
        except errors.NotFound:
            raise http.Http404 from None
        except errors.NotAllowed as error:
            raise conflict(saga_id, error) from error
        except errors.BadFacts as error:
            raise bad_facts(error) from error
        body = shown(saga_id) | {"waits_for_approval": waits}
        return Response(body, status=202)

    def chosen(self, saga_id: UUID, seen: Seen, given: dict[str, Any]) -> str:
        """Which of `interventions.INTERVENTIONS` is wanted."""
        raise NotImplementedError


def described(*, id: str, summary: str, request: type[forms.Move]) -> Any:
    """Describe a view by which an operator intervenes in a saga."""
    return schema.view(
        post=schema.operation(
            id=id,
            tag="sagas",
            summary=summary,
            description=(
                "Needs the permission. `seen` says what you decided on, as the saga shows it: if the saga has"
                " moved on since, nothing is done. The reason is kept with its events. Where two must agree"
                " it waits for the second, and `waits_for_approval` says so."
            ),
            request=request,
            answers={202: shapes.MovedSaga},
            problems_=[problems.NOT_FOUND, kinds.MOVE_NOT_ALLOWED, kinds.MOVED_ON],
        )
    )


@described(id="retrySaga", summary="Try again now", request=forms.Move)
class Retry(Intervene):
    """Try again now."""

    permission = "operate_saga"

    def chosen(self, saga_id: UUID, seen: Seen, given: dict[str, Any]) -> str:
        """What needs attention, or waits for its next attempt, has it now; what waits is asked about."""
        state = models.SagaInstance.objects.filter(pk=saga_id).values_list("state", flat=True).first()
        if state == states.SagaState.NEEDS_ATTENTION:
            return "resume"
        return "ask" if seen.state == states.StepState.WAITING else "retry"


@described(id="compensateSaga", summary="Have a saga undone", request=forms.Move)
class Compensate(Intervene):
    """Have it undone."""

    permission = "compensate_saga"

    def chosen(self, saga_id: UUID, seen: Seen, given: dict[str, Any]) -> str:
        """Turn it round."""
        return "compensate"


@described(id="resolveSaga", summary="Say whether a step took effect", request=forms.Resolution)
class Resolve(Intervene):
    """Say what happened."""

    form = forms.Resolution
    permission = "resolve_saga"

    def chosen(self, saga_id: UUID, seen: Seen, given: dict[str, Any]) -> str:
        """Settle whether the action, or the undo, of the step that was seen took effect."""
        return "happened" if given.pop("happened") else "did-not-happen"


class Answer(StaffView):
    """A person's answer where an approval is waited for: permitted by the approval's own declaration."""

    form: type[forms.Refusal] = forms.Refusal
    answer = approving.REFUSE

    def post(self, request: Request, saga_id: UUID) -> Response:
        """Give it; once more the same answer by the same caller changes nothing, and is no fault."""
        given = serializers.read(self.form, request.data).validated_data
        step, reason, facts = given["step"], given["reason"], given.get("facts")
        actor = auth.caller(request).get_username()[:150]
        try:
            with translation.override("en"):
                need_for(request, history.read(saga_id), step)
                if not approving.is_repeated(saga_id, step, answer=self.answer, actor=actor, facts=facts):
                    approving.answer(
                        saga_id, step, answer=self.answer, actor=actor, reason=reason, facts=facts,
                        through="api",
                    )  # fmt: skip
        except errors.NotFound:
            raise http.Http404 from None
        except errors.NotAllowed as error:
            raise conflict(saga_id, error) from error
        except errors.BadFacts as error:
            raise bad_facts(error) from error
        return Response(shown(saga_id), status=202)


def answered(*, id: str, summary: str, request: type[forms.Refusal]) -> Any:
    """Describe a view by which a person answers where an approval is waited for."""
    return schema.view(
        post=schema.operation(
            id=id,
            tag="sagas",
            summary=summary,
            description=(
                "Needs the permission that the approval's declaration names. The answer and its reason are"
                " kept with the saga's events. Sent again by the same caller it changes nothing, and is"
                " answered as before."
            ),
            request=request,
            answers={202: shapes.Saga},
            problems_=[problems.NOT_FOUND, kinds.MOVE_NOT_ALLOWED],
        )
    )


@answered(id="approveSaga", summary="Say yes where an approval is waited for", request=forms.Approval)
class Approve(Answer):
    """Say yes."""

    form = forms.Approval
    answer = approving.APPROVE


@answered(id="refuseSaga", summary="Say no where an approval is waited for", request=forms.Refusal)
class Refuse(Answer):
    """Say no."""


def sagas() -> QuerySet[models.SagaInstance]:
    """Sagas with their steps: two statements, however many there are."""
    return models.SagaInstance.objects.prefetch_related("steps")


def shown(saga_id: UUID) -> dict[str, Any]:
    """The saga as it is shown now."""
    row = reading.in_bulk([saga_id]).get(saga_id)
    if row is None:
        raise http.Http404
    panels.attach([row])
    shapes.attach_families([row])
    return shapes.Saga.of(row)


def chosen(wanted: dict[str, Any], caller: Any) -> QuerySet[models.SagaInstance]:
    """The sagas that a query of that caller asks for."""
    rows = sagas()
    if "state" in wanted:
        rows = rows.filter(state=wanted["state"])
    if "step" in wanted:
        rows = rows.filter(_at(wanted["step"]), steps__name=wanted["step"])
    if "error" in wanted:
        rows = rows.filter(failure__error=wanted["error"])
    if "key" in wanted:
        # A union, for each of them has an index, and "one or the other" has none.
        keyed = models.SagaInstance.objects.filter(key=wanted["key"]).values_list("pk", flat=True)
        rows = rows.filter(pk__in=keyed.union(*panels.numbered(wanted["key"])))
    if "parent" in wanted:
        rows = rows.filter(reading.of_parent(*wanted["parent"]))
    if wanted.get("roots") == "true":
        rows = rows.filter(parent_id=None)
    if "approval" in wanted:
        asked = approving.waiting(caller if wanted["approval"] == "mine" else None)
        rows = rows.filter(pk__in=asked.values("pk"))
    return rows.filter(_of_age(wanted))


def _at(name: str) -> Q:
    """At that step: it is at the saga's position, or one of those at once there that is not done with."""
    alone = Q(steps__position=F("position"), steps__epoch=None)
    stages = [
        Q(name=saga.name, version=saga.version, position=saga.stage_at(saga.positions[name]).first)
        for saga in registry.everything()
        if name in saga.positions and saga.stage_at(saga.positions[name]).parallel is not None
    ]
    at_stage = functools.reduce(operator.or_, stages, Q(pk__in=[]))
    forward = {*states.StepState} - {states.StepState.DONE, states.StepState.SKIPPED}
    backward = {*states.StepState} - {states.StepState.UNDONE, states.StepState.SKIPPED}
    left = Q(direction=states.Direction.FORWARD, steps__state__in=sorted(forward))
    left |= Q(direction=states.Direction.BACKWARD, steps__state__in=sorted(backward))
    return alone | at_stage & left & Q(finished_at=None)


def chosen_of_archive(wanted: dict[str, Any]) -> QuerySet[models.ArchivedSaga]:
    """The archived sagas that a query asks for."""
    rows = models.ArchivedSaga.objects.all()
    if "state" in wanted:
        rows = rows.filter(state=wanted["state"])
    if "step" in wanted:
        rows = rows.filter(failed_step=wanted["step"])
    if "error" in wanted:
        rows = rows.filter(failed_error=wanted["error"])
    if "key" in wanted:
        keyed = models.ArchivedSaga.objects.filter(key=wanted["key"]).values_list("pk", flat=True)
        rows = rows.filter(pk__in=keyed.union(*panels.numbered(wanted["key"])))
    if "parent" in wanted:
        rows = rows.filter(key__in=reading.child_keys(*wanted["parent"]))
    if wanted.get("roots") == "true":
        rows = rows.exclude(key__regex=reading.CHILD_KEY)
    if "approval" in wanted:
        rows = rows.none()  # Nobody is asked about what has ended.
    return rows.filter(_of_age(wanted))


def _of_age(wanted: dict[str, Any]) -> Q:
    """Begun as long ago as a query asks for."""
    begun = Q()
    if "older_than" in wanted:
        begun &= Q(created_at__lt=Now() - wanted["older_than"])
    if "younger_than" in wanted:
        begun &= Q(created_at__gte=Now() - wanted["younger_than"])
    return begun


def need(request: Request, permission: str) -> None:
    """Refuse whoever does not have the permission."""
    if not auth.caller(request).has_perm(permission):
        raise exceptions.PermissionDenied(f"This needs the permission {permission}.")


def need_for(request: Request, record: history.History, step: str) -> None:
    """Refuse whoever may not answer the approval of that name.

    Raises:
        NotFound: the saga has no such step.
        NotAllowed: it is no approval.
    """
    why = approving.refused(record, step)
    if permission := approving.permission(record, step):
        need(request, permission)
    elif why:
        raise errors.NotAllowed(why, state=record.saga.state)


def bad_facts(error: errors.BadFacts) -> problems.Problem:
    """The facts that somebody states cannot be kept."""
    fault = {"pointer": "/facts", "detail": str(error), "code": "invalid"}
    return problems.faulty(problems.INVALID_BODY, [fault])


def conflict(saga_id: UUID, error: Exception) -> problems.Problem:
    """It does not apply; the answer says where the saga stands now."""
    row = reading.in_bulk([saga_id])[saga_id]
    kind = kinds.MOVED_ON if isinstance(error, errors.MovedOn) else kinds.MOVE_NOT_ALLOWED
    return problems.Problem(kind, str(error), saga={"id": str(row.pk), "state": row.state})
