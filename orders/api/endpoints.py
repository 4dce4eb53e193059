"""Where merchants are told of their orders: endpoints, and the log of what was sent to them."""

from typing import Any
from uuid import UUID

from django import http
from django.db import transaction
from django.db.models import Prefetch
from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from orders import models, webhooks
from orders.api import auth, base, fields, pagination, present, problems, samples, schema, serializers, shapes


class MerchantView(base.View):
    """For merchants, and for staff in their own name."""

    scopes = frozenset({models.Scope.MERCHANT.value, models.Scope.STAFF.value})

    def endpoint(self, request: Request, endpoint_id: UUID) -> models.WebhookEndpoint:
        """The caller's own; another's is not there."""
        own = models.WebhookEndpoint.objects.filter(owner=auth.caller(request))
        return get_object_or_404(own, pk=endpoint_id)


class Endpoints(MerchantView):
    """The caller's endpoints."""

    @schema.operation(
        id="listWebhookEndpoints", tag="webhooks", summary="List where you are told",
        answers={200: shapes.Endpoints}, problems_=[problems.INVALID_QUERY],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """All of them: there are only so many."""
        fields.read_query(fields.Nothing, request)
        own = models.WebhookEndpoint.objects.filter(owner=auth.caller(request)).order_by("-id")
        return Response({"results": [present.endpoint(row) for row in own]})

    @schema.operation(
        id="createWebhookEndpoint", tag="webhooks", summary="Be told of your orders",
        request=schema.example(serializers.NewEndpoint, samples.NEW_ENDPOINT),
        answers={201: shapes.NewEndpointWithSecret}, problems_=[problems.TOO_MANY],
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """A new one. Its secret is in this answer and in no other."""
        form = fields.read(serializers.NewEndpoint, request.data)
        owner = auth.caller(request)
        with transaction.atomic():
            # Lock the owner, then count (D7).
            type(owner).objects.select_for_update(no_key=True).get(pk=owner.pk)
            if models.WebhookEndpoint.objects.filter(owner=owner).count() >= webhooks.MOST_ENDPOINTS:
                allowed = f"There may be {webhooks.MOST_ENDPOINTS} endpoints; delete one first."
                raise problems.Problem(problems.TOO_MANY, allowed)
            row = models.WebhookEndpoint(owner=owner, secret=webhooks.new_secret(), **form.validated_data)
            row.save(force_insert=True)
        body = present.endpoint(row) | {"secret": row.secret}
        return Response(body, status=201, headers={"Location": f"{request.path}/{row.pk}"})


class Endpoint(MerchantView):
    """One endpoint."""

    @schema.operation(
        id="getWebhookEndpoint", tag="webhooks", summary="Read an endpoint",
        answers={200: shapes.Endpoint}, problems_=[problems.NOT_FOUND, problems.INVALID_QUERY],
    )  # fmt: skip
    def get(self, request: Request, endpoint_id: UUID) -> Response:
        """It, as it stands."""
        fields.read_query(fields.Nothing, request)
        return Response(present.endpoint(self.endpoint(request, endpoint_id)))

    @schema.operation(
        id="updateWebhookEndpoint", tag="webhooks", summary="Change an endpoint, disable or enable it",
        request=schema.example(serializers.ChangedEndpoint, {"enabled": True}),
        answers={200: shapes.Endpoint}, problems_=[problems.NOT_FOUND],
    )  # fmt: skip
    def patch(self, request: Request, endpoint_id: UUID) -> Response:
        """Change it, or switch it off or on."""
        changes = fields.read(serializers.ChangedEndpoint, request.data).validated_data
        row = self.endpoint(request, endpoint_id)
        enabled = changes.pop("enabled", None)
        if changes.get("url", row.url) != row.url:
            changes["failing_since"] = None  # That was another place.
        for name, value in changes.items():
            setattr(row, name, value)
        if changes:
            row.save(update_fields=list(changes))
        if enabled is True:
            webhooks.enable(endpoint=row)
        elif enabled is False:
            webhooks.disable(endpoint=row, reason="Its owner disabled it.")
            row.refresh_from_db()
        return Response(present.endpoint(row))

    @schema.operation(
        id="deleteWebhookEndpoint", tag="webhooks", summary="Delete an endpoint and its log",
        answers={204: None}, problems_=[problems.NOT_FOUND],
    )  # fmt: skip
    def delete(self, request: Request, endpoint_id: UUID) -> Response:
        """Forget it, and its log."""
        webhooks.delete(endpoint=self.endpoint(request, endpoint_id))
        return Response(status=204)


class Secret(MerchantView):
    """An endpoint's secret."""

    @schema.operation(
        id="rotateWebhookSecret", tag="webhooks", summary="Change an endpoint's secret",
        description="For a day messages are signed with the old one too, also if it is changed again.",
        request=fields.Nothing, answers={200: shapes.Secret}, problems_=[problems.NOT_FOUND],
    )  # fmt: skip
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """A new one; for a day messages are signed with the old one too."""
        fields.read(fields.Nothing, request.data)
        try:
            secret = webhooks.rotate(endpoint=self.endpoint(request, endpoint_id))
        except models.WebhookEndpoint.DoesNotExist:
            raise http.Http404 from None
        return Response({"secret": secret})


class Test(MerchantView):
    """A message that means nothing."""

    @schema.operation(
        id="testWebhookEndpoint", tag="webhooks", summary="Have a test message sent",
        request=fields.Nothing, answers={202: shapes.Delivery},
        problems_=[problems.NOT_FOUND, problems.ENDPOINT_DISABLED],
    )  # fmt: skip
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Have one sent."""
        fields.read(fields.Nothing, request.data)
        row = self.endpoint(request, endpoint_id)
        if row.disabled_at is not None:
            raise problems.Problem(problems.ENDPOINT_DISABLED, "The endpoint is disabled; enable it first.")
        delivery = webhooks.send_test(endpoint=row)
        return Response(present.delivery(log(row).get(pk=delivery.pk)), status=202)


class Deliveries(MerchantView):
    """What an endpoint was told, and how it went."""

    @schema.operation(
        id="listWebhookDeliveries", tag="webhooks", summary="Read what an endpoint was told, newest first",
        query=serializers.DeliveryQuery, answers={200: shapes.page(shapes.Delivery)},
        problems_=[problems.NOT_FOUND],
    )  # fmt: skip
    def get(self, request: Request, endpoint_id: UUID) -> Response:
        """A page of it, newest first."""
        wanted = fields.read_query(serializers.DeliveryQuery, request)
        rows = log(self.endpoint(request, endpoint_id))
        if "state" in wanted:
            rows = rows.filter(state=wanted["state"])
        pages = DeliveryPages()
        page = pages.paginate_queryset(rows, request)
        return pages.get_paginated_response([present.delivery(row) for row in page])


class DeliveryPages(pagination.ByCursor):
    """Newest first, by number."""

    def position(self, text: str) -> Any:
        """A delivery's id."""
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise ValueError
        return int(text)


class Replay(MerchantView):
    """A message sent once more."""

    @schema.operation(
        id="replayWebhookDelivery", tag="webhooks", summary="Send a message again",
        request=fields.Nothing, answers={202: shapes.Delivery},
        problems_=[problems.NOT_FOUND, problems.ENDPOINT_DISABLED],
    )  # fmt: skip
    def post(self, request: Request, endpoint_id: UUID, delivery_id: int) -> Response:
        """Send it again, whatever became of it before; its id stays, so that a receiver knows it again."""
        fields.read(fields.Nothing, request.data)
        endpoint = self.endpoint(request, endpoint_id)
        if delivery_id >= 2**63:
            raise http.Http404
        if not webhooks.replay(delivery=get_object_or_404(endpoint.deliveries, pk=delivery_id)):
            raise problems.Problem(problems.ENDPOINT_DISABLED, "The endpoint is disabled; enable it first.")
        return Response(present.delivery(log(endpoint).get(pk=delivery_id)), status=202)


def log(endpoint: models.WebhookEndpoint) -> Any:
    """An endpoint's deliveries with all that is shown of them: two statements, however many there are."""
    newest = models.WebhookAttempt.objects.order_by("-id")[:SHOWN]
    shown = Prefetch("log", newest, to_attr="newest")
    return endpoint.deliveries.select_related("message").prefetch_related(shown)


SHOWN = 20
"""Attempts of one delivery that are shown: twice those of a schedule, however often it was sent by hand."""
