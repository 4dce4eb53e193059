"""Sagas, for those who look after them."""

from typing import Any
from uuid import UUID

from django import http
from django.db.models import F, QuerySet, functions
from django.shortcuts import get_object_or_404
from django.utils import translation
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from api import auth, pagination, problems, rendering, schema, serializers
from api.views import View
from orders import models
from orders.api import kinds, operated
from sagas import errors as saga_errors
from sagas import models as saga_models
from sagas.console import interventions
from sagas.declaration import states
from sagas.engine.seen import Seen


class StaffView(View):
    """For staff only."""

    scopes = auth.STAFF


class Sagas(StaffView):
    """Everybody's sagas."""

    @schema.operation(
        id="listSagas", tag="sagas", summary="List everybody's sagas, newest first",
        query=operated.SagaQuery, answers={200: serializers.page(operated.Saga)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """A page of them, newest first."""
        wanted = serializers.read_query(operated.SagaQuery, request)
        return pagination.ByCursor.answer(chosen(wanted), request, operated.Saga)


class Saga(StaffView):
    """One saga."""

    @schema.operation(
        id="getSaga", tag="sagas", summary="Read a saga", headers=[schema.IF_NONE_MATCH],
        answers={200: operated.Saga, 304: None}, sends={"ETag": [200, 304]},
        problems_=[problems.NOT_FOUND, problems.INVALID_QUERY],
    )  # fmt: skip
    def get(self, request: Request, saga_id: UUID) -> http.HttpResponse:
        """It, with its steps."""
        serializers.read_query(serializers.Nothing, request)
        return rendering.answer(request, operated.Saga.of(get_object_or_404(sagas(), pk=saga_id)))


class SagaEvents(StaffView):
    """What happened to a saga."""

    @schema.operation(
        id="listSagaEvents", tag="sagas", summary="Read what happened to a saga, from the beginning on",
        query=serializers.Page, answers={200: serializers.page(operated.SagaEvent)},
        problems_=[problems.NOT_FOUND],
    )  # fmt: skip
    def get(self, request: Request, saga_id: UUID) -> Response:
        """A page of it, from the beginning on."""
        serializers.read_query(serializers.Page, request)
        get_object_or_404(saga_models.SagaInstance.objects.only("pk"), pk=saga_id)
        events = saga_models.Event.objects.filter(saga_id=saga_id)
        # Its declaration says what is hidden: name and version find it.
        events = events.select_related("saga").defer("saga__facts", "saga__failure", "saga__attention")
        return EventPages.answer(events, request, operated.SagaEvent)


class EventPages(pagination.ByNumber):
    """In the order of happening."""

    ordering = "id"
    page_size = 100


class Move(StaffView):
    """An operator's move: permitted, with what it was decided on and a reason, which its event keeps."""

    form: type[operated.Move] = operated.Move
    permission = ""

    def post(self, request: Request, saga_id: UUID) -> Response:
        """Make it, unless the saga has moved on (I3), or ask for the second person where two must agree."""
        need(request, f"sagas.{self.permission}")
        given = dict(serializers.read(self.form, request.data).validated_data)
        seen, reason = given.pop("seen"), given.pop("reason")
        move = interventions.INTERVENTIONS[self.move(saga_id, seen, given)]
        assert move.permission == self.permission
        actor = auth.caller(request).get_username()
        waits = False
        try:
            # What is refused is told in English, whatever the caller's language, as everything here is.
            with translation.override("en"):
                interventions.make(saga_id, move, seen=seen, actor=actor, reason=reason, arguments=given)
        except interventions.NeedsApproval:
            waits = True
        except saga_errors.NotFound:
            raise http.Http404 from None
        except saga_errors.NotAllowed as error:
            raise conflict(saga_id, error) from error
        except saga_errors.BadFacts as error:
            fault = {"pointer": "/facts", "detail": str(error), "code": "invalid"}
            raise problems.Problem(problems.INVALID_BODY, "The body has faults.", errors=[fault]) from error
        body = operated.Saga.of(sagas().get(pk=saga_id)) | {"waits_for_approval": waits}
        return Response(body, status=202)

    def move(self, saga_id: UUID, seen: Seen, given: dict[str, Any]) -> str:
        """Which of `interventions.INTERVENTIONS` is wanted."""
        raise NotImplementedError


@operated.move(id="retrySaga", summary="Try again now", request=operated.Move)
class Retry(Move):
    """Try again now."""

    permission = "operate_saga"

    def move(self, saga_id: UUID, seen: Seen, given: dict[str, Any]) -> str:
        """What needs attention, or waits for its next attempt, has it now; what waits is asked about."""
        state = saga_models.SagaInstance.objects.filter(pk=saga_id).values_list("state", flat=True).first()
        if state == states.SagaState.NEEDS_ATTENTION:
            return "resume"
        return "ask" if seen.state == states.StepState.WAITING else "retry"


@operated.move(id="compensateSaga", summary="Have a saga undone", request=operated.Move)
class Compensate(Move):
    """Have it undone."""

    permission = "compensate_saga"

    def move(self, saga_id: UUID, seen: Seen, given: dict[str, Any]) -> str:
        """Turn it round."""
        return "compensate"


@operated.move(
    id="resolveSaga", summary="Say whether a step took effect",
    request=operated.Resolution,
)  # fmt: skip
class Resolve(Move):
    """Say what happened."""

    form = operated.Resolution
    permission = "resolve_saga"

    def move(self, saga_id: UUID, seen: Seen, given: dict[str, Any]) -> str:
        """Settle whether the action, or the undo, of the step that was seen took effect."""
        return "happened" if given.pop("happened") else "did-not-happen"


def sagas() -> QuerySet[saga_models.SagaInstance]:
    """Sagas with all that is shown of them: two statements, however many there are."""
    return saga_models.SagaInstance.objects.select_related("order").prefetch_related("steps")


def chosen(wanted: dict[str, Any]) -> QuerySet[saga_models.SagaInstance]:
    """The sagas that a query asks for."""
    rows = sagas()
    if "state" in wanted:
        rows = rows.filter(state=wanted["state"])
    if "step" in wanted:
        rows = rows.filter(steps__name=wanted["step"], steps__position=F("position"))
    if "error" in wanted:
        rows = rows.filter(failure__error=wanted["error"])
    if "key" in wanted:
        # A union, for each of the two has an index, and "one or the other" has none.
        keyed = saga_models.SagaInstance.objects.filter(key=wanted["key"]).values("pk")
        numbered = models.Order.objects.filter(number=wanted["key"].upper()).values("saga_id")
        rows = rows.filter(pk__in=keyed.union(numbered))
    if "older_than" in wanted:
        rows = rows.filter(created_at__lt=functions.Now() - wanted["older_than"])
    if "younger_than" in wanted:
        rows = rows.filter(created_at__gte=functions.Now() - wanted["younger_than"])
    return rows


def need(request: Request, permission: str) -> None:
    """Refuse whoever does not have the permission."""
    if not auth.caller(request).has_perm(permission):
        raise exceptions.PermissionDenied(f"This needs the permission {permission}.")


def conflict(saga_id: UUID, error: Exception) -> problems.Problem:
    """It does not apply; the answer says where the saga stands now."""
    row = saga_models.SagaInstance.objects.get(pk=saga_id)
    kind = kinds.MOVED_ON if isinstance(error, saga_errors.MovedOn) else kinds.MOVE_NOT_ALLOWED
    return problems.Problem(kind, str(error), saga={"id": str(row.pk), "state": row.state})
