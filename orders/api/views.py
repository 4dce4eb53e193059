"""The addresses of the API: each reads the request, asks a service, and presents the answer."""

import functools
from typing import Any
from uuid import UUID

from django import http
from django.shortcuts import get_object_or_404
from rest_framework import serializers as drf
from rest_framework.request import Request
from rest_framework.response import Response

from api import auth, idempotency, pagination, parsing, problems, rendering, schema, serializers, throttling
from api.views import View
from inventory import services as inventory
from orders import callbacks, errors, models, selectors, services
from orders.api import forms, kinds, samples, shapes, streams
from sagas import engine, strictjson
from sagas import errors as saga_errors
from sagas import models as saga_models


class Orders(View):
    """The caller's orders."""

    scopes = auth.ANY_SCOPE

    @schema.operation(
        id="listOrders", tag="orders",
        query=forms.OrderQuery, answers={200: serializers.page(shapes.Order)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List your orders, newest first."""
        wanted = serializers.read_query(forms.OrderQuery, request)
        rows = selectors.chosen(visible(request), wanted)
        return pagination.ByCursor.answer(rows, request, shapes.Order)

    @schema.operation(
        id="createOrder", tag="orders",
        request=forms.NewOrder, headers=[schema.IDEMPOTENCY_KEY], answers={202: shapes.Order},
        problems_=[*schema.WITH_KEY, kinds.TOTAL_DIFFERS, problems.OVERLOADED],
        sends={"Retry-After": [202, 409], "Location": [202], "Idempotency-Replayed": [202]},
        leads={
            "order_id": ("/id", "getOrder cancelOrder followOrder"),
            "saga_id": (
                "/saga/id",
                "getSaga listSagaEvents compensateSaga retrySaga resolveSaga approveSaga refuseSaga",
            ),
        },
    )  # fmt: skip
    def post(self, request: Request) -> http.HttpResponse:
        """Place an order.

        Answered as soon as the order is written down; follow it with `getOrder` or `followOrder`. Send it
        again with the same `Idempotency-Key` as often as you like: it is placed once, and you get the first
        answer to the byte, with `Idempotency-Replayed: true`.
        """
        key = idempotency.read(request)
        form = serializers.read(forms.NewOrder, request.data)

        def work() -> idempotency.Answer:
            order = services.place(owner=auth.caller(request), **form.wish())
            body = strictjson.dumps(shapes.Order.of(selectors.load(order)))
            headers = {
                "Content-Type": "application/json",
                "Location": f"{request.path}/{order.pk}",
                "Retry-After": "1",
            }
            return idempotency.Answer(status=202, headers=headers, body=body)

        place = functools.partial(idempotency.once, request, key=key, endpoint="POST /orders", work=work)
        try:
            return place()
        except errors.NumberTaken:
            return place()  # Another chance, of a million million.


class Order(View):
    """One order."""

    scopes = auth.ANY_SCOPE

    @schema.operation(
        id="getOrder", tag="orders",
        query=forms.Wait, headers=[schema.IF_NONE_MATCH],
        answers={200: shapes.Order, 304: None}, problems_=[problems.NOT_FOUND],
        sends={"ETag": [200, 304], "Retry-After": [200, 304]},
    )  # fmt: skip
    def get(self, request: Request, order_id: UUID | str) -> http.HttpResponse:
        """Read an order, by its id or its number.

        With `wait`, as soon as the order has ended, or when the time is up; where too many wait already, at
        once, and `Retry-After` says when to ask again.
        """
        seconds = serializers.read_query(forms.Wait, request).get("wait", 0)
        row = get_object_or_404(selectors.named(visible(request), order_id))
        answer = rendering.answer(request, shapes.Order.of(row))
        if seconds and row.status not in models.FINAL and not streams.has_waited(request):
            streams.until_end(request, row, answer, seconds)
        return answer


LAST_EVENT_ID = schema.header(
    "Last-Event-ID",
    {"type": "string", "pattern": "^[0-9]{0,18}$"},
    "The `id` of the last event that was received: the stream goes on after it; empty for all.",
)


class OrderEvents(View):
    """One order's progress."""

    scopes = auth.ANY_SCOPE
    renderer_classes = (streams.EventStream,)

    @schema.operation(
        id="followOrder", tag="orders",
        headers=[LAST_EVENT_ID], answers={200: schema.Stream(shapes.StreamMessage), 204: None},
        problems_=[problems.NOT_FOUND, problems.INVALID_QUERY],
    )  # fmt: skip
    def get(self, request: Request, order_id: UUID | str) -> http.HttpResponseBase:
        """Follow an order as server-sent events.

        One message per transition, from the one after `Last-Event-ID` on. The stream ends with the order, and
        204 tells a client that comes back then not to come again. It may end earlier: come back with the last
        `id`, and nothing is missed and nothing comes twice.
        """
        serializers.read_query(serializers.Nothing, request)
        return streams.answer(request, get_object_or_404(selectors.named(visible(request), order_id)))


class Cancellation(View):
    """The end of an order that is not wanted any more."""

    scopes = auth.ANY_SCOPE

    @schema.operation(
        id="cancelOrder", tag="orders",
        request=forms.Cancellation, answers={202: shapes.CancelledOrder},
        problems_=[problems.NOT_FOUND, kinds.TOO_LATE, kinds.OPERATORS_MOVE],
    )  # fmt: skip
    def post(self, request: Request, order_id: UUID | str) -> Response:
        """Cancel an order.

        What was done is undone, last action first. Asking twice is asking once. For the owner of the order:
        the staff has another's undone with `compensateSaga`.
        """
        form = serializers.read(forms.Cancellation, request.data)
        owner = auth.caller(request)
        named = selectors.named(visible(request), order_id)
        found = named.values_list("pk", "owner_id", "saga_id").first()
        if found is None:
            raise http.Http404
        pk, owner_id, saga_id = found
        if owner_id != owner.pk:
            # An operator's decision, not a wish of whoever ordered: it has one door, where it is bound to
            # what was seen, and where two must agree if the shop wants that.
            raise problems.Problem(
                kinds.OPERATORS_MOVE,
                "The order belongs to somebody else: have it undone with"
                f" POST /api/v1/sagas/{saga_id}/compensate.",
                saga={"id": str(saga_id)},
            )
        try:
            services.cancel(order_id=pk, owner=owner, reason=form.validated_data["reason"])
        except saga_errors.TooLate as error:
            row = visible(request).get(pk=pk)
            raise problems.Problem(
                kinds.TOO_LATE,
                f"The order is {row.status}; it cannot be cancelled any more.",
                order={"id": str(row.pk), "status": row.status},
            ) from error
        return Response(shapes.CancelledOrder.of(visible(request).get(pk=pk)), status=202)


class Products(View):
    """What may be ordered."""

    scopes = auth.ANY_SCOPE

    @schema.operation(
        id="listProducts", tag="products",
        query=serializers.Page, answers={200: serializers.page(shapes.Product)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List what may be ordered, by SKU."""
        serializers.read_query(serializers.Page, request)
        return ProductPages.answer(inventory.catalogue(), request, shapes.Product)


class ProductPages(pagination.ByCursor):
    """By SKU."""

    ordering = "sku"

    def check(self, position: str) -> None:
        """Any string sorts somewhere, but no product's name has a NUL, and PostgreSQL takes none."""
        if "\0" in position:
            raise ValueError


class Callback(View):
    """What a provider reports: signed instead of authenticated, kept before anything is done about it."""

    authentication_classes = ()
    permission_classes = ()
    sender: callbacks.Sender

    def post(self, request: Request) -> Response:
        """Take it.

        1. Believe nothing before the signature is right.
        2. In one transaction: the service holds it against what was asked, and its row and the saga's inbox
           learn of it. What differs from what was asked is kept as that, and a person is called; to send it
           again would change nothing.
        3. Answer 202 to the first and to every repetition: a provider that gets an error sends it again.
        """
        body = parsing.read(request._request, request.headers)
        try:
            callback = self.sender.service.read_callback(
                headers=request.headers, body=body, now=saga_models.database_now()
            )
        except self.sender.service.BadCallback as error:
            if not error.signed:
                throttling.stranger(request)
            else:
                engine.reject(source=self.sender.source, event_id=error.id, why=str(error))
            raise problems.Problem(kinds.BAD_SIGNATURE, str(error)) from error
        callbacks.record(callback, sender=self.sender)
        return Response(status=202)


class CallbackBody(serializers.Shape):
    """What a provider reports."""

    id = drf.CharField()
    type = drf.CharField()
    key = drf.CharField()
    occurred_at = drf.DateTimeField()
    data_ = drf.DictField()

    exact = False


def reports(*, id: str, summary: str, sample: Any) -> Any:
    """Describe a view that takes what a provider reports."""
    return schema.view(
        post=schema.operation(
            id=id,
            tag="providers",
            summary=summary,
            description="Signed by the Standard Webhooks scheme; taken once, however often it is sent.",
            request=schema.example(CallbackBody, sample, name=id),
            headers=SIGNATURE,
            answers={202: None},
            problems_=[kinds.BAD_SIGNATURE, problems.THROTTLED],
            public=True,
        )
    )


SIGNATURE = [
    schema.header(
        name, {"type": "string", "pattern": r"^[\x21-\x7e]*$"}, "As Standard Webhooks says.", required=True
    )
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
]


@reports(id="bankReports", summary="The bank reports what became of a charge", sample=samples.CAPTURED)
class PaymentsCallback(Callback):
    """From the bank."""

    sender = callbacks.BANK


@reports(id="carrierReports", summary="The carrier reports where a parcel is", sample=samples.DELIVERED)
class CarrierCallback(Callback):
    """From the carrier."""

    sender = callbacks.CARRIER


def visible(request: Request) -> Any:
    """The orders that the caller may see; another's is not there."""
    rows = selectors.orders()
    return rows if auth.sees_everything(request) else rows.filter(owner=auth.caller(request))
