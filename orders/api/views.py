"""The addresses of the API: each reads the request, asks a service, and presents the answer."""

from typing import Any
from uuid import UUID

from django import http
from django.db import transaction
from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from inventory import services as inventory
from invoicing import services as invoicing
from orders import callbacks, errors, idempotency, models, selectors, services, wire
from orders.api import (
    auth,
    base,
    etags,
    fields,
    keys,
    pagination,
    parsing,
    present,
    problems,
    samples,
    schema,
    serializers,
    shapes,
    streams,
    throttles,
)
from payments import services as payments
from sagas import engine
from sagas import errors as saga_errors
from sagas import models as saga_models
from shipping import services as shipping


class Orders(base.View):
    """The caller's orders."""

    scopes = auth.ANY_SCOPE

    @schema.operation(
        id="listOrders", tag="orders", summary="List your orders, newest first",
        query=serializers.OrderQuery, answers={200: shapes.page(shapes.Order)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """A page of them, newest first."""
        wanted = fields.read_query(serializers.OrderQuery, request)
        pages = pagination.ByCursor()
        page = pages.paginate_queryset(selectors.chosen(visible(request), wanted), request)
        return pages.get_paginated_response([present.order(row) for row in page])

    @schema.operation(
        id="createOrder", tag="orders", summary="Place an order",
        description=(
            "Answered as soon as the order is written down; follow it with `getOrder` or `followOrder`."
            " Send it again with the same `Idempotency-Key` as often as you like: it is placed once, and you"
            " get the first answer to the byte, with `Idempotency-Replayed: true`."
        ),
        request=schema.example(serializers.NewOrder, samples.NEW_ORDER), headers=[schema.IDEMPOTENCY_KEY],
        answers={202: shapes.Order},
        problems_=[problems.KEY_MISSING, problems.KEY_INVALID, problems.KEY_REUSED, problems.IN_PROGRESS],
    )  # fmt: skip
    def post(self, request: Request) -> http.HttpResponse:
        """Place one. It is answered as soon as it is written down; the work goes on behind it."""
        keys.read(request)
        form = fields.read(serializers.NewOrder, request.data)

        def work() -> idempotency.Answer:
            order = services.place(owner=auth.caller(request), **form.wish())
            body = wire.dumps(present.order(selectors.orders().get(pk=order.pk)))
            headers = {
                "Content-Type": "application/json",
                "Location": f"{request.path}/{order.pk}",
                "Retry-After": "1",
            }
            return idempotency.Answer(status=202, headers=headers, body=body)

        try:
            try:
                return keys.once(request, "POST /orders", work)
            except errors.NumberTaken:
                return keys.once(request, "POST /orders", work)  # Another chance, of a million million.
        except errors.MixedCurrencies as error:
            raise problems.Problem(
                problems.INVALID_BODY,
                str(error),
                errors=[
                    {
                        "pointer": f"/lines/{position}/sku",
                        "detail": f"This is priced in {currency}, the first line in {error.currency}.",
                        "code": "currency",
                    }
                    for position, currency in error.positions.items()
                ],
            ) from error
        except errors.UnknownProduct as error:
            raise problems.Problem(
                problems.INVALID_BODY,
                str(error),
                errors=[
                    {
                        "pointer": f"/lines/{position}/sku",
                        "detail": "There is no such product; GET /api/v1/products lists them.",
                        "code": "unknown_product",
                    }
                    for position in error.positions
                ],
            ) from error


class Order(base.View):
    """One order."""

    scopes = auth.ANY_SCOPE

    @schema.operation(
        id="getOrder", tag="orders", summary="Read an order",
        description=(
            "With `wait`, as soon as the order has ended, or when the time is up; where too many wait"
            " already, at once, and `Retry-After` says when to ask again."
        ),
        query=serializers.Wait, headers=[schema.IF_NONE_MATCH],
        answers={200: shapes.Order, 304: None}, problems_=[problems.NOT_FOUND],
    )  # fmt: skip
    def get(self, request: Request, order_id: UUID) -> http.HttpResponse:
        """It, as it stands, or as it will stand when it has ended, if that is not too long."""
        seconds = fields.read_query(serializers.Wait, request).get("wait", 0)
        row = get_object_or_404(visible(request), pk=order_id)
        answer = etags.answer(request, present.order(row))
        if seconds and row.status not in models.FINAL and not streams.has_waited(request):
            streams.until_end(request, row, answer, seconds)
        return answer


class OrderEvents(base.View):
    """One order's progress."""

    scopes = auth.ANY_SCOPE
    renderer_classes = (streams.EventStream,)

    @schema.operation(
        id="followOrder", tag="orders", summary="Follow an order as server-sent events",
        description=(
            "One message per transition, from the one after `Last-Event-ID` on. The stream ends with the"
            " order, and 204 tells a client that comes back then not to come again. It may end earlier: come"
            " back with the last `id`, and nothing is missed and nothing comes twice."
        ),
        headers=[schema.LAST_EVENT_ID], answers={200: schema.STREAM, 204: None},
        problems_=[problems.NOT_FOUND, problems.INVALID_QUERY],
    )  # fmt: skip
    def get(self, request: Request, order_id: UUID) -> http.HttpResponseBase:
        """What happened, and what happens while the caller listens."""
        fields.read_query(fields.Nothing, request)
        return streams.answer(request, get_object_or_404(visible(request), pk=order_id))


class Cancellation(base.View):
    """The end of an order that is not wanted any more."""

    scopes = auth.ANY_SCOPE

    @schema.operation(
        id="cancelOrder", tag="orders", summary="Cancel an order",
        description=(
            "What was done is undone, last action first. Asking twice is asking once. For the owner of the"
            " order: the staff has another's undone with `compensateSaga`."
        ),
        request=schema.example(serializers.Cancellation, {"reason": "Changed my mind"}),
        answers={202: shapes.CancelledOrder},
        problems_=[problems.NOT_FOUND, problems.TOO_LATE, problems.OPERATORS_MOVE],
    )  # fmt: skip
    def post(self, request: Request, order_id: UUID) -> Response:
        """Ask for it: what was done is undone, unless the order has ended or cannot be turned round."""
        form = fields.read(serializers.Cancellation, request.data)
        owner = auth.caller(request)
        found = visible(request).filter(pk=order_id).values_list("owner_id", "saga_id").first()
        if found is None:
            raise http.Http404
        owner_id, saga_id = found
        if owner_id != owner.pk:
            # An operator's decision, not a wish of whoever ordered: it has one door, where it is bound to
            # what was seen, and where two must agree if the shop wants that.
            raise problems.Problem(
                problems.OPERATORS_MOVE,
                "The order belongs to somebody else: have it undone with"
                f" POST /api/v1/sagas/{saga_id}/compensate.",
                saga={"id": str(saga_id)},
            )
        try:
            services.cancel(order_id=order_id, owner=owner, reason=form.validated_data["reason"])
        except saga_errors.TooLate as error:
            row = visible(request).get(pk=order_id)
            raise problems.Problem(
                problems.TOO_LATE,
                f"The order is {row.status}; it cannot be cancelled any more.",
                order={"id": str(row.pk), "status": row.status},
            ) from error
        row = visible(request).get(pk=order_id)
        return Response(present.order(row) | {"undoing": present.undoing(row)}, status=202)


class Products(base.View):
    """What may be ordered."""

    scopes = auth.ANY_SCOPE

    @schema.operation(
        id="listProducts", tag="products", summary="List what may be ordered, by SKU",
        query=serializers.Page, answers={200: shapes.page(shapes.Product)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """A page of the catalogue."""
        fields.read_query(serializers.Page, request)
        pages = ProductPages()
        page = pages.paginate_queryset(inventory.catalogue(), request)
        return pages.get_paginated_response([present.product(row) for row in page])


class ProductPages(pagination.ByCursor):
    """By SKU."""

    field = "sku"
    descending = False

    def position(self, text: str) -> Any:
        """Any string sorts somewhere, but no product's name has a NUL, and PostgreSQL takes none."""
        if "\0" in text:
            raise ValueError
        return text


class Callback(base.View):
    """What a provider reports: signed instead of authenticated, kept before anything is done about it."""

    authentication_classes = ()
    permission_classes = ()
    source = ""
    service: Any = None

    def post(self, request: Request) -> Response:
        """Take it.

        1. Believe nothing before the signature is right.
        2. In one transaction: the service holds it against what was asked, and its row and the saga's inbox
           learn of it. What differs from what was asked is kept as that, and a person is called; to send it
           again would change nothing.
        3. Answer 202 to the first and to every repetition: a provider that gets an error sends it again.
        """
        body = parsing.read(request._request)
        try:
            callback = self.service.read_callback(
                headers=request.headers, body=body, now=saga_models.database_now()
            )
        except self.service.BadCallback as error:
            if not error.signed:
                throttles.stranger(request)
            else:
                engine.reject(source=self.source, event_id=error.id, why=str(error))
            raise problems.Problem(problems.BAD_SIGNATURE, str(error)) from error
        with transaction.atomic():
            believed = self.service.record_callback(callback=callback)
            self.learn(believed)
            callbacks.pass_on(believed, source=self.source)
        return Response(status=202)

    def learn(self, callback: Any) -> None:
        """What other services need to know of it."""


@schema.callback(
    id="bankReports", summary="The bank reports what became of a charge", sample=samples.CAPTURED
)
class PaymentsCallback(Callback):
    """From the bank."""

    source = "payments"
    service = payments


@schema.callback(
    id="carrierReports", summary="The carrier reports where a parcel is", sample=samples.DELIVERED
)
class CarrierCallback(Callback):
    """From the carrier."""

    source = "carrier"
    service = shipping

    def learn(self, callback: Any) -> None:
        """Once the goods have left, the law has another way to undo their invoice."""
        if callback.kind == "shipment.handed_over" and not callback.mismatch:
            access_key = selectors.access_key(callback.key)
            if access_key is not None:
                invoicing.goods_left(access_key=access_key)


def visible(request: Request) -> Any:
    """The orders that the caller may see; another's is not there."""
    rows = selectors.orders()
    return rows if auth.sees_everything(request) else rows.filter(owner=auth.caller(request))
