"""What a merchant sends: endpoints and changes of them, and queries of their log."""

from typing import Any, ClassVar

from drf_spectacular import utils
from rest_framework import serializers

from api import fields
from api.serializers import Form, Page
from webhooks import messages, models, sender
from webhooks.api import samples


@utils.extend_schema_field(
    {"type": "string", "format": "public-url", "maxLength": 500, "examples": ["https://example.com/hooks"]}
)
class Address(fields.Text):
    """A URL that messages may be sent to."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=sender.LONGEST_URL, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The URL."""
        url = super().to_internal_value(data)
        try:
            sender.check(url)
        except sender.Refused as error:
            raise serializers.ValidationError(str(error)) from None
        return url


class Types(fields.Many):
    """Types of events."""

    def __init__(self, **kwargs: Any) -> None:
        child = fields.Choice(messages.WISHES)
        super().__init__(child=child, max_length=len(messages.WISHES), things="types of events", **kwargs)


class NewEndpoint(Form):
    """Where a merchant wants to be told, and of what."""

    url = Address()
    types = Types()
    description = fields.Text(max_length=120, min_length=0, required=False)

    sample = samples.NEW_ENDPOINT


class ChangedEndpoint(Form):
    """What is to be different about an endpoint."""

    url = Address(required=False)
    types = Types(required=False)
    description = fields.Text(max_length=120, min_length=0, required=False)
    enabled = fields.Flag(
        required=False, help_text="False: tell it of nothing. True: of what happens from now on."
    )

    sample: ClassVar = {"enabled": True}


class DeliveryQuery(Page):
    """Which deliveries."""

    state = fields.Choice(models.DeliveryState, required=False)
