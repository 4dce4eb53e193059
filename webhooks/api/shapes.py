"""What a merchant reads: its endpoints, their log, and messages."""

from typing import Any, ClassVar

from drf_spectacular import utils
from rest_framework import serializers

from api.serializers import Shape
from orders.api import shapes as orders
from webhooks import messages, models
from webhooks.api import samples


class Endpoint(Shape):
    """Where a merchant is told."""

    id = serializers.UUIDField()
    url = serializers.URLField()
    types = serializers.ListField(child=serializers.ChoiceField(messages.WISHES))
    description = serializers.CharField(allow_blank=True)
    enabled = serializers.BooleanField()
    disabled_at = serializers.DateTimeField(allow_null=True)
    disabled_reason = serializers.CharField(allow_blank=True)
    failing_since = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()

    sample = samples.ENDPOINT

    def get_enabled(self, row: models.Endpoint) -> bool:
        """Whether it is told of anything."""
        return row.disabled_at is None


class NewEndpointWithSecret(Endpoint):
    """A new endpoint, with what its messages are signed with."""

    secret = serializers.CharField(help_text="Shown here and nowhere else.")

    sample = samples.ENDPOINT | samples.SECRET


class Endpoints(Shape):
    """All endpoints of the caller."""

    results = Endpoint(many=True)

    sample: ClassVar = {"results": [samples.ENDPOINT]}


class Secret(Shape):
    """What messages are signed with from now on."""

    secret = serializers.CharField()

    sample = samples.SECRET


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
    type = serializers.CharField(source="message.type")
    order_id = serializers.UUIDField(allow_null=True)
    state = serializers.ChoiceField(models.DeliveryState.values)
    attempts = serializers.IntegerField(min_value=0)
    next_at = serializers.DateTimeField(allow_null=True)
    delivered_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField(source="message.created_at")
    log = Attempt(many=True)

    sample = samples.DELIVERY

    def get_log(self, row: Any) -> list[models.Attempt]:
        """Oldest first; `newest` must be loaded."""
        return row.newest[::-1]  # type: ignore[no-any-return]


class ToldData(Shape):
    """What a message says."""

    order = orders.ToldOrder(required=False)
    step = orders.ToldStep(required=False)
    endpoint = serializers.DictField(required=False)


class Message(Shape):
    """What a merchant is told."""

    type = serializers.ChoiceField([*messages.TYPES, messages.TEST])
    timestamp = serializers.DateTimeField()
    sequence = serializers.IntegerField(
        allow_null=True, help_text="Of one order, a later message has a higher one."
    )
    data_ = ToldData()

    sample = samples.MESSAGE


class Event(Message):
    """What happened to an order: a message, and its id."""

    id = serializers.UUIDField(help_text="The `webhook-id` of the message that tells it.")

    sample = {"id": samples.DELIVERY["message_id"], **samples.MESSAGE}


class EventPage(Shape):
    """A page of the event log."""

    next = serializers.URLField(
        allow_null=True, help_text="Where it goes on; null where you have the newest, for now."
    )
    results = Event(many=True)

    sample: ClassVar = {"next": None, "results": [Event.sample]}


class Replayed(Shape):
    """What is being sent again."""

    count = serializers.IntegerField(min_value=0, help_text="How many messages.")

    sample: ClassVar = {"count": 12}


message = utils.OpenApiWebhook(
    name="message",
    decorator=utils.extend_schema(
        operation_id="receiveMessage",
        summary="What a merchant is told",
        description=(
            "Signed by the [Standard Webhooks](https://www.standardwebhooks.com) scheme: `webhook-id`,"
            " `webhook-timestamp`, `webhook-signature`. Sent at least once, with the same `webhook-id` each"
            " time; of one order in order. Types: "
            + ", ".join(f"`{type_}`" for type_ in messages.TYPES)
            + "."
        ),
        # Not that of the operations: generators make one module, or one class, of each tag.
        tags=["messages"],
        request=utils.OpenApiRequest(
            Message, examples=[utils.OpenApiExample("Message", value=samples.MESSAGE)]
        ),
        responses={
            "2XX": utils.OpenApiResponse(description="It was accepted; anything else is tried again.")
        },
    ),
)
