"""What a client reads, described for the schema alone; `present` makes it, and tests hold the two equal."""

import copy
from typing import Any, ClassVar

from rest_framework import serializers

from orders import models, webhooks
from orders.api import present
from sagas.declaration import states


class Shape(serializers.Serializer[Any]):
    """An object with exactly these members."""

    more: ClassVar[dict[str, serializers.Field[Any, Any, Any, Any]]] = {}
    """Members whose names are words of Python or of the framework."""

    def get_fields(self) -> dict[str, Any]:
        """All members."""
        return super().get_fields() | copy.deepcopy(self.more)


def page(of: type[Shape]) -> type[Shape]:
    """The shape of a page of these."""
    members = {
        "__doc__": "A page, and where its neighbours are.",
        "next": serializers.URLField(allow_null=True, help_text="null at the end."),
        "previous": serializers.URLField(allow_null=True, help_text="null at the beginning."),
        "results": of(many=True),
    }
    return type(f"{of.__name__}Page", (Shape,), members)


class Money(Shape):
    """An amount of money."""

    amount = serializers.IntegerField(min_value=0, help_text="In minor units: centavos.")
    currency = serializers.ChoiceField(["BRL"])


class OrderedLine(Shape):
    """One line, at the price and under the name that it was ordered at."""

    sku = serializers.CharField()
    name = serializers.CharField()
    quantity = serializers.IntegerField(min_value=1, max_value=999)
    unit_price = Money()


class Pix(Shape):
    """What to pay with."""

    copy_paste = serializers.CharField(help_text="The code to paste into the bank's app.")
    expires_at = serializers.DateTimeField()


class OrderPayment(Shape):
    """How it is paid, and whether it was."""

    method = serializers.ChoiceField(models.PaymentMethod.values)
    status = serializers.ChoiceField(
        sorted({*present.PAYMENT_STATUS.values(), "declined", "expired", "cancelled"})
    )
    key = serializers.CharField(help_text="What the bank knows it by.")
    provider_ref = serializers.CharField(allow_null=True)
    pix = Pix(allow_null=True)


class OrderInvoice(Shape):
    """The fiscal invoice; its numbers are null until there is one."""

    number = serializers.IntegerField(allow_null=True)
    series = serializers.IntegerField(allow_null=True)
    access_key = serializers.CharField(allow_null=True, help_text="44 digits.")
    status = serializers.ChoiceField(sorted({*present.INVOICE_STATUS.values(), "rejected"}))


class OrderShipment(Shape):
    """Where the parcel is."""

    tracking = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(sorted(set(present.SHIPMENT_STATUS.values())))


KINDS = [
    "refused", "outage", "mismatch", "transient", "late", "unknown", "bug", "timeout", "cancelled",
    "operator",
]  # fmt: skip


class StepError(Shape):
    """What went wrong with a step last, in plain language."""

    kind = serializers.ChoiceField(KINDS)
    message = serializers.CharField()


class OrderFailure(Shape):
    """Why an order was turned back."""

    step = serializers.CharField(allow_null=True, help_text="The step at which it was.")
    kind = serializers.ChoiceField(KINDS)
    message = serializers.CharField()


class OrderStep(Shape):
    """One step of the order's saga."""

    name = serializers.CharField()
    status = serializers.ChoiceField(states.StepState.values())
    attempts = serializers.IntegerField(min_value=0)
    undo_attempts = serializers.IntegerField(min_value=0)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    error = StepError(allow_null=True)


class OrderSaga(Shape):
    """How far the order got, step by step."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(states.SagaState.values())
    steps = OrderStep(many=True)


class Next(Shape):
    """What happens next."""

    message = serializers.CharField()
    at = serializers.DateTimeField(allow_null=True, help_text="When, at the latest, where that is known.")


NO_SUCH_STEP = "null for an order whose saga"
"""Sagas of other versions may have other steps."""


class Order(Shape):
    """An order."""

    id = serializers.UUIDField()
    number = serializers.CharField(help_text="For people.")
    status = serializers.ChoiceField(models.Status.values)
    total = Money()
    lines = OrderedLine(many=True)
    payment = OrderPayment(allow_null=True, help_text=f"{NO_SUCH_STEP} has no payment.")
    invoice = OrderInvoice(allow_null=True, help_text=f"{NO_SUCH_STEP} has no invoice.")
    shipment = OrderShipment(allow_null=True, help_text=f"{NO_SUCH_STEP} has no delivery.")
    saga = OrderSaga()
    failure = OrderFailure(allow_null=True, help_text="null unless it was turned back.")
    reference = serializers.CharField(allow_blank=True)
    next = Next()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class CancelledOrder(Order):
    """An order that is being cancelled."""

    undoing = serializers.ListField(
        child=serializers.CharField(), help_text="The steps that will be undone, in the order of undoing."
    )


class StreamMessage(Shape):
    """One transition of an order's saga, as a server-sent event."""

    id = serializers.CharField(help_text="To be sent as `Last-Event-ID` when coming back.")
    event = serializers.ChoiceField(["step", "order"], help_text="What moved.")
    more: ClassVar = {
        "data": serializers.CharField(
            help_text=(
                "JSON: `at`, and of a step `step`, `from`, `to`, `attempt`, of the order its `status`; with"
                " `error` (`kind`, `message`) where something went wrong."
            )
        )
    }


class Product(Shape):
    """What may be ordered."""

    sku = serializers.CharField()
    name = serializers.CharField()
    price = Money()
    available = serializers.IntegerField(min_value=0)


class SagaFailure(Shape):
    """The first failure, kept for ever."""

    step = serializers.CharField(allow_null=True)
    kind = serializers.CharField()
    error = serializers.CharField(allow_null=True, help_text="The class of the error.")
    message = serializers.CharField(allow_blank=True)
    attempt = serializers.IntegerField(allow_null=True)
    clock = serializers.CharField(allow_null=True, help_text="The clock that ran out, if one did.")
    at = serializers.CharField()


class SagaAttention(Shape):
    """Why a person is called, and what that person may do."""

    step = serializers.CharField(allow_null=True)
    why = serializers.CharField()
    advice = serializers.CharField()
    since = serializers.CharField()


class SagaCancellation(Shape):
    """Who asked for it to be undone."""

    at = serializers.DateTimeField()
    actor = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(allow_blank=True)


class SagaOrder(Shape):
    """The order that it fulfils."""

    id = serializers.UUIDField()
    number = serializers.CharField()


class SagaStep(Shape):
    """One step, as operators see it."""

    name = serializers.CharField()
    state = serializers.ChoiceField(states.StepState.values())
    key = serializers.CharField()
    attempts = serializers.IntegerField(min_value=0)
    undo_attempts = serializers.IntegerField(min_value=0)
    error = SagaFailure(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    undo_started_at = serializers.DateTimeField(allow_null=True)
    undone_at = serializers.DateTimeField(allow_null=True)
    lease_until = serializers.DateTimeField(allow_null=True)
    wait_until = serializers.DateTimeField(allow_null=True)
    worker = serializers.CharField(allow_null=True)
    task_id = serializers.CharField(allow_null=True)


class Saga(Shape):
    """A saga, as operators see it. What it was given is personal and is not shown."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    key = serializers.CharField()
    order = SagaOrder(allow_null=True)
    state = serializers.ChoiceField(states.SagaState.values())
    direction = serializers.ChoiceField(["forward", "backward"])
    step = serializers.CharField(help_text="The one that it stands at.")
    seen = serializers.CharField(
        help_text="How it stands: step, direction, the step's state, and attempts. A move that is decided on"
        " this names it."
    )
    failure = SagaFailure(allow_null=True)
    attention = SagaAttention(allow_null=True)
    cancel = SagaCancellation(allow_null=True)
    held_at = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)
    wake_at = serializers.DateTimeField(allow_null=True)
    deadline_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    steps = SagaStep(many=True)


class MovedSaga(Saga):
    """A saga after an operator's move."""

    waits_for_approval = serializers.BooleanField(help_text="Whether a second person must agree first.")


class SagaEvent(Shape):
    """One line of a saga's history."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    step = serializers.CharField(allow_null=True)
    to = serializers.CharField(allow_null=True)
    attempt = serializers.IntegerField(allow_null=True)
    actor = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(allow_blank=True)
    more: ClassVar = {"from": serializers.CharField(allow_null=True), "data": serializers.DictField()}


class Endpoint(Shape):
    """Where a merchant is told."""

    id = serializers.UUIDField()
    url = serializers.URLField()
    types = serializers.ListField(child=serializers.ChoiceField(webhooks.WISHES))
    description = serializers.CharField(allow_blank=True)
    enabled = serializers.BooleanField()
    disabled_at = serializers.DateTimeField(allow_null=True)
    disabled_reason = serializers.CharField(allow_blank=True)
    failing_since = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class NewEndpointWithSecret(Endpoint):
    """A new endpoint, with what its messages are signed with."""

    secret = serializers.CharField(help_text="Shown here and nowhere else.")


class Endpoints(Shape):
    """All endpoints of the caller."""

    results = Endpoint(many=True)


class Secret(Shape):
    """What messages are signed with from now on."""

    secret = serializers.CharField()


class Attempt(Shape):
    """One attempt at a delivery, and what came back."""

    at = serializers.DateTimeField()
    duration_ms = serializers.IntegerField(min_value=0)
    status = serializers.IntegerField(allow_null=True, help_text="null where there was no answer.")
    error = serializers.CharField(allow_blank=True)
    response = serializers.CharField(allow_blank=True, help_text="How the answer began.")


class Delivery(Shape):
    """The telling of one message to one endpoint."""

    id = serializers.IntegerField()
    message_id = serializers.UUIDField(help_text="The `webhook-id`.")
    type = serializers.CharField()
    order_id = serializers.UUIDField(allow_null=True)
    state = serializers.ChoiceField(models.DeliveryState.values)
    attempts = serializers.IntegerField(min_value=0)
    next_at = serializers.DateTimeField(allow_null=True)
    delivered_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    log = Attempt(many=True)


class Fault(Shape):
    """One thing that is wrong with a request."""

    pointer = serializers.CharField(
        required=False, allow_blank=True, help_text="Where in the body: a JSON pointer (RFC 6901)."
    )
    parameter = serializers.CharField(required=False, help_text="Which query parameter.")
    detail = serializers.CharField(help_text="What is allowed.")
    code = serializers.CharField()


class Problem(Shape):
    """An error (RFC 9457)."""

    type = serializers.CharField(help_text="Names the kind of problem, and leads to its page.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField(help_text="What was asked for.")
    request_id = serializers.CharField(allow_null=True, help_text="Also in the logs, and in X-Request-Id.")
    more: ClassVar = {"errors": Fault(many=True, required=False)}


class CallbackBody(Shape):
    """What a provider reports."""

    id = serializers.CharField()
    type = serializers.CharField()
    key = serializers.CharField()
    occurred_at = serializers.DateTimeField()
    more: ClassVar = {"data": serializers.DictField()}


class ToldOrder(Shape):
    """The order that a message is about."""

    id = serializers.UUIDField()
    number = serializers.CharField()
    reference = serializers.CharField(allow_blank=True)
    total = Money()
    status = serializers.ChoiceField(models.Status.values, required=False)
    failure = OrderFailure(required=False, allow_null=True)


class ToldStep(Shape):
    """The step that a message is about."""

    name = serializers.CharField()
    status = serializers.ChoiceField(states.StepState.values())
    attempt = serializers.IntegerField(allow_null=True)
    error = StepError(required=False)
    more: ClassVar = {"from": serializers.CharField(allow_null=True)}


class ToldData(Shape):
    """What a message says."""

    order = ToldOrder(required=False)
    step = ToldStep(required=False)
    endpoint = serializers.DictField(required=False)


class Message(Shape):
    """What a merchant is told."""

    type = serializers.ChoiceField([*webhooks.TYPES, webhooks.TEST])
    timestamp = serializers.DateTimeField()
    sequence = serializers.IntegerField(
        allow_null=True, help_text="Of one order, a later message has a higher one."
    )
    more: ClassVar = {"data": ToldData()}
