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
    """Types of events, each once: one that stands twice is a slip for another."""

    def __init__(self, **kwargs: Any) -> None:
        child = fields.Choice(messages.WISHES)
        super().__init__(child=child, max_length=len(messages.WISHES), things="types of events", **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        """The types."""
        types = super().to_internal_value(data)
        faults = {
            index: [
                serializers.ErrorDetail(
                    f"This is named already, at {types.index(wish)}; name each type once.", "duplicate"
                )
            ]
            for index, wish in enumerate(types)
            if types.index(wish) != index
        }
        if faults:
            raise serializers.ValidationError(faults)  # type: ignore[arg-type]
        return types


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


LOGGED = [wish for wish in messages.WISHES if not wish.startswith("endpoint.")]
"""What is about orders."""


class DeliveryQuery(Page):
    """Which deliveries."""

    state = fields.Choice(models.DeliveryState, required=False)


class Since(Form):
    """From when on."""

    since = fields.Instant(help_text="Messages that were made at this time or later.")

    sample: ClassVar = {"since": "2026-11-23T00:00:00Z"}


class EventQuery(Form):
    """Which events."""

    after = fields.Id(required=False, help_text="The `id` of the last event that you have.")
    since = fields.Instant(
        required=False,
        help_text="Only what was written down at this time or later: to begin without all before.",
    )
    type = fields.Many(
        child=fields.Choice(LOGGED), max_length=len(LOGGED), things="types of events", required=False,
        help_text="One of these; of several, give it several times.",
    )  # fmt: skip
    limit = fields.Number(
        min_value=1, max_value=100, required=False, help_text="How many to a page; 20 unless given."
    )
