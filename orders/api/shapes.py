"""What a client reads of orders and products: each shape makes the answer and describes it."""

from typing import Any

from rest_framework import serializers

from api.serializers import Shape
from orders import customer_messages, models
from orders.api import placed, samples
from sagas import models as saga_models
from sagas.declaration import states


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
    ships = serializers.BooleanField(help_text="Whether it goes in a parcel; a digital product does not.")

    def get_unit_price(self, line: models.OrderLine) -> dict[str, Any]:
        """Of one."""
        return {"amount": line.unit_amount, "currency": line.currency}


class Pix(Shape):
    """What to pay with."""

    copy_paste = serializers.CharField(help_text="The code to paste into the bank's app.")
    expires_at = serializers.DateTimeField()


class OrderPayment(Shape):
    """How it is paid, and whether it was."""

    method = serializers.ChoiceField(models.PaymentMethod.values, source="row.payment_method")
    status = serializers.ChoiceField(sorted({*placed.PAYMENT.values(), "declined", "expired", "cancelled"}))
    key = serializers.CharField(source="step.key", help_text="What the bank knows it by.")
    provider_ref = serializers.CharField(source="shown.provider_ref", allow_null=True)
    pix = Pix(source="shown.pix", allow_null=True)


class OrderInvoice(Shape):
    """The fiscal invoice; its numbers are null until there is one."""

    number = serializers.IntegerField(source="shown.number", allow_null=True)
    series = serializers.IntegerField(source="shown.series", allow_null=True)
    access_key = serializers.CharField(source="shown.access_key", allow_null=True, help_text="44 digits.")
    status = serializers.ChoiceField(sorted({*placed.INVOICE.values(), "rejected"}))


class OrderShipment(Shape):
    """Where the parcel is."""

    tracking = serializers.CharField(source="shown.tracking", allow_null=True)
    status = serializers.ChoiceField(sorted(set(placed.SHIPMENT.values())))


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
    status = serializers.ChoiceField(
        states.StepState.values(),
        source="state",
        help_text="`skipped`: the order does not need it and never will, so it counts as done.",
    )
    attempts = serializers.IntegerField(min_value=0)
    undo_attempts = serializers.IntegerField(min_value=0)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    error = StepError(allow_null=True)

    def get_error(self, step: saga_models.StepInstance) -> dict[str, str] | None:
        """What the engine keeps of it is not for customers."""
        return customer_messages.error(step.error, step.name, step.state) if step.error else None


class OrderSaga(Shape):
    """How far the order got, step by step."""

    id = serializers.UUIDField(source="row.saga_id")
    status = serializers.ChoiceField(states.SagaState.values(), source="row.saga.state")
    steps = OrderStep(many=True)


class Next(Shape):
    """What happens next."""

    message = serializers.CharField()
    at = serializers.DateTimeField(allow_null=True, help_text="When, at the latest, where that is known.")


NO_SUCH_STEP = "null for an order whose saga"
"""Sagas of other versions may have other steps."""


class Order(Shape):
    """An order."""

    id = serializers.UUIDField(source="row.pk")
    number = serializers.CharField(source="row.number", help_text="For people.")
    status = serializers.ChoiceField(models.Status.values, source="row.status")
    total = Money()
    lines = OrderedLine(many=True, source="row.lines")
    payment = OrderPayment(allow_null=True, help_text=f"{NO_SUCH_STEP} has no payment.")
    invoice = OrderInvoice(allow_null=True, help_text=f"{NO_SUCH_STEP} has no invoice.")
    shipment = OrderShipment(
        allow_null=True, help_text=f"{NO_SUCH_STEP} has no delivery, and where nothing of it ships."
    )
    saga = OrderSaga(source="*")
    failure = OrderFailure(allow_null=True, help_text="null unless it was turned back.")
    reference = serializers.CharField(source="row.reference", allow_blank=True)
    next = Next()
    created_at = serializers.DateTimeField(source="row.created_at")
    updated_at = serializers.DateTimeField()

    sample = samples.ORDER

    def to_representation(self, instance: models.Order) -> dict[str, Any]:
        """Its steps are looked through once for all members."""
        return super().to_representation(placed.Placed(instance))


class CancelledOrder(Order):
    """An order that is being cancelled."""

    undoing = serializers.ListField(
        child=serializers.CharField(), help_text="The steps that will be undone, in the order of undoing."
    )

    sample = samples.CANCELLED_ORDER


class StreamMessage(Shape):
    """One transition of an order's saga, as a server-sent event."""

    id = serializers.CharField(help_text="To be sent as `Last-Event-ID` when coming back.")
    event = serializers.ChoiceField(["step", "order"], help_text="What moved.")
    data_ = serializers.CharField(
        help_text=(
            "JSON: `at`, and of a step `step`, `from`, `to`, `attempt`, of the order its `status`; with"
            " `error` (`kind`, `message`) where something went wrong, and `message` where a step waits."
        )
    )

    sample = samples.STREAM


class Product(Shape):
    """What may be ordered."""

    sku = serializers.CharField()
    name = serializers.CharField()
    price = Money()
    available = serializers.IntegerField(min_value=0)
    ships = serializers.BooleanField(help_text="Whether it goes in a parcel; a digital product does not.")

    sample = samples.PRODUCT


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
    from_ = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(states.StepState.values())
    attempt = serializers.IntegerField(allow_null=True)
    message = serializers.CharField(required=False, help_text="What is waited for, where the step waits.")
    error = StepError(required=False)
