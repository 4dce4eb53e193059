"""Where merchants are told of their orders: endpoints, and the log of what was sent to them."""

from typing import Any
from uuid import UUID

from django import http
from django.db.models import Prefetch
from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from api import auth, pagination, problems, schema, serializers
from api.models import Scope
from api.views import View
from sagas import strictjson
from webhooks import errors, messages, models, services
from webhooks.api import forms, kinds, shapes


class MerchantView(View):
    """For merchants, and for staff in their own name."""

    scopes = frozenset({Scope.MERCHANT.value, Scope.STAFF.value})

    def endpoint(self, request: Request, endpoint_id: UUID) -> models.Endpoint:
        """The caller's own; another's is not there."""
        own = models.Endpoint.objects.filter(owner=auth.caller(request))
        return get_object_or_404(own, pk=endpoint_id)


class Endpoints(MerchantView):
    """The caller's endpoints."""

    @schema.operation(
        id="listWebhookEndpoints", tag="webhooks", summary="List where you are told",
        answers={200: shapes.Endpoints}, problems_=[problems.INVALID_QUERY],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """All of them: there are only so many."""
        serializers.read_query(serializers.Nothing, request)
        own = models.Endpoint.objects.filter(owner=auth.caller(request)).order_by("-id")
        return Response({"results": [shapes.Endpoint.of(row) for row in own]})

    @schema.operation(
        id="createWebhookEndpoint", tag="webhooks", summary="Be told of your orders",
        request=forms.NewEndpoint,
        answers={201: shapes.NewEndpointWithSecret}, problems_=[kinds.TOO_MANY],
        sends={"Location": [201]},
        leads={
            "endpoint_id": (
                "/id",
                "getWebhookEndpoint updateWebhookEndpoint testWebhookEndpoint rotateWebhookSecret"
                " listWebhookDeliveries deleteWebhookEndpoint",
            )
        },
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """A new one. Its secret is in this answer and in no other."""
        form = serializers.read(forms.NewEndpoint, request.data)
        try:
            row = services.create(owner=auth.caller(request), **form.validated_data)
        except errors.TooMany:
            allowed = f"There may be {services.MOST_ENDPOINTS} endpoints; delete one first."
            raise problems.Problem(kinds.TOO_MANY, allowed) from None
        body = shapes.NewEndpointWithSecret.of(row)
        return Response(body, status=201, headers={"Location": f"{request.path}/{row.pk}"})


class Endpoint(MerchantView):
    """One endpoint."""

    @schema.operation(
        id="getWebhookEndpoint", tag="webhooks", summary="Read an endpoint",
        answers={200: shapes.Endpoint}, problems_=[problems.NOT_FOUND, problems.INVALID_QUERY],
    )  # fmt: skip
    def get(self, request: Request, endpoint_id: UUID) -> Response:
        """It, as it stands."""
        serializers.read_query(serializers.Nothing, request)
        return Response(shapes.Endpoint.of(self.endpoint(request, endpoint_id)))

    @schema.operation(
        id="updateWebhookEndpoint", tag="webhooks", summary="Change an endpoint, disable or enable it",
        request=forms.ChangedEndpoint,
        answers={200: shapes.Endpoint}, problems_=[problems.NOT_FOUND],
    )  # fmt: skip
    def patch(self, request: Request, endpoint_id: UUID) -> Response:
        """Change it, or switch it off or on."""
        changes = serializers.read(forms.ChangedEndpoint, request.data).validated_data
        row = self.endpoint(request, endpoint_id)
        enabled = changes.pop("enabled", None)
        if changes.get("url", row.url) != row.url:
            changes["failing_since"] = None  # That was another place.
        for name, value in changes.items():
            setattr(row, name, value)
        if changes:
            row.save(update_fields=list(changes))
        if enabled is True:
            services.enable(endpoint=row)
        elif enabled is False:
            services.disable(endpoint=row, reason="Its owner disabled it.")
            row.refresh_from_db()
        return Response(shapes.Endpoint.of(row))

    @schema.operation(
        id="deleteWebhookEndpoint", tag="webhooks", summary="Delete an endpoint and its log",
        answers={204: None}, problems_=[problems.NOT_FOUND],
    )  # fmt: skip
    def delete(self, request: Request, endpoint_id: UUID) -> Response:
        """Forget it, and its log."""
        services.delete(endpoint=self.endpoint(request, endpoint_id))
        return Response(status=204)


class Secret(MerchantView):
    """An endpoint's secret."""

    @schema.operation(
        id="rotateWebhookSecret", tag="webhooks", summary="Change an endpoint's secret",
        description="For a day messages are signed with the old one too, also if it is changed again.",
        request=serializers.Nothing, answers={200: shapes.Secret}, problems_=[problems.NOT_FOUND],
    )  # fmt: skip
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """A new one; for a day messages are signed with the old one too."""
        serializers.read(serializers.Nothing, request.data)
        try:
            secret = services.rotate(endpoint=self.endpoint(request, endpoint_id))
        except models.Endpoint.DoesNotExist:
            raise http.Http404 from None
        return Response({"secret": secret})


class Test(MerchantView):
    """A message that means nothing."""

    @schema.operation(
        id="testWebhookEndpoint", tag="webhooks", summary="Have a test message sent",
        request=serializers.Nothing, answers={202: shapes.Delivery},
        problems_=[problems.NOT_FOUND, kinds.ENDPOINT_DISABLED],
    )  # fmt: skip
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Have one sent."""
        serializers.read(serializers.Nothing, request.data)
        row = self.endpoint(request, endpoint_id)
        if row.disabled_at is not None:
            raise problems.Problem(kinds.ENDPOINT_DISABLED, "The endpoint is disabled; enable it first.")
        delivery = services.send_test(endpoint=row)
        return Response(shapes.Delivery.of(log(row).get(pk=delivery.pk)), status=202)


class Deliveries(MerchantView):
    """What an endpoint was told, and how it went."""

    @schema.operation(
        id="listWebhookDeliveries", tag="webhooks", summary="Read what an endpoint was told, newest first",
        query=forms.DeliveryQuery, answers={200: serializers.page(shapes.Delivery)},
        problems_=[problems.NOT_FOUND],
    )  # fmt: skip
    def get(self, request: Request, endpoint_id: UUID) -> Response:
        """A page of it, newest first."""
        wanted = serializers.read_query(forms.DeliveryQuery, request)
        rows = log(self.endpoint(request, endpoint_id))
        if "state" in wanted:
            rows = rows.filter(state=wanted["state"])
        return pagination.ByNumber.answer(rows, request, shapes.Delivery)


class Replays(MerchantView):
    """What an endpoint was not told, sent once more."""

    @schema.operation(
        id="replayWebhookDeliveries", tag="webhooks", summary="Send all failed messages again",
        description="Those made since a time that were given up, or failed and wait for their next attempt."
        " Each keeps its `webhook-id`; those of one order go out in order.",
        request=forms.Since, answers={202: shapes.Replayed},
        problems_=[problems.NOT_FOUND, kinds.ENDPOINT_DISABLED],
    )  # fmt: skip
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Send them, at once."""
        since = serializers.read(forms.Since, request.data).validated_data["since"]
        count = services.replay_failed(endpoint=self.endpoint(request, endpoint_id), since=since)
        if count is None:
            raise problems.Problem(kinds.ENDPOINT_DISABLED, "The endpoint is disabled; enable it first.")
        return Response({"count": count}, status=202)


class Replay(MerchantView):
    """A message sent once more."""

    @schema.operation(
        id="replayWebhookDelivery", tag="webhooks", summary="Send a message again",
        request=serializers.Nothing, answers={202: shapes.Delivery},
        problems_=[problems.NOT_FOUND, kinds.ENDPOINT_DISABLED],
    )  # fmt: skip
    def post(self, request: Request, endpoint_id: UUID, delivery_id: int) -> Response:
        """Send it again, whatever became of it before; its id stays, so that a receiver knows it again."""
        serializers.read(serializers.Nothing, request.data)
        endpoint = self.endpoint(request, endpoint_id)
        if delivery_id >= 2**63:
            raise http.Http404
        if not services.replay(delivery=get_object_or_404(endpoint.deliveries, pk=delivery_id)):
            raise problems.Problem(kinds.ENDPOINT_DISABLED, "The endpoint is disabled; enable it first.")
        return Response(shapes.Delivery.of(log(endpoint).get(pk=delivery_id)), status=202)


class Events(MerchantView):
    """What happened to the caller's orders."""

    @schema.operation(
        id="listEvents", tag="webhooks", summary="Read what happened to your orders, oldest first",
        description="The event log: what webhooks tell, word for word, with the same ids, whether or not you"
        " have an endpoint. Keep the `id` of the last event that you have and ask with it as `after`: nothing"
        " is missed and nothing comes twice. It is kept for 30 days; `since` leaves out what is older.",
        query=forms.EventQuery, answers={200: shapes.EventPage}, problems_=[kinds.EVENTS_GONE],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """A page of it, oldest first."""
        wanted = serializers.read_query(forms.EventQuery, request)
        owner = auth.caller(request)
        position = 0
        if "after" in wanted:
            known = models.Message.objects.filter(pk=wanted["after"], owner=owner, position__isnull=False)
            position = known.values_list("position", flat=True).first() or 0
            if not position:
                raise problems.Problem(
                    kinds.EVENTS_GONE, "Your event log has no such event: it is too old, or was never there."
                )
        limit = wanted.get("limit", pagination.ByCursor.page_size)
        found = messages.logged(
            owner, after=position, since=wanted.get("since"), wishes=wanted.get("type", ())
        )
        rows = list(found.values_list("pk", "body")[: limit + 1])
        page = [{"id": pk, **strictjson.loads(body)} for pk, body in rows[:limit]]
        address = request.build_absolute_uri()
        more = len(rows) > limit
        return Response(
            {"next": replace_query_param(address, "after", page[-1]["id"]) if more else None, "results": page}
        )


def log(endpoint: models.Endpoint) -> Any:
    """An endpoint's deliveries with all that is shown of them: two statements, however many there are."""
    newest = models.Attempt.objects.order_by("-id")[:SHOWN]
    shown = Prefetch("log", newest, to_attr="newest")
    return endpoint.deliveries.select_related("message").prefetch_related(shown)


SHOWN = 20
"""Attempts of one delivery that are shown: twice those of a schedule, however often it was sent by hand."""
