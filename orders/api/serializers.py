"""What a client sends: shapes, and everything that can be said of them without looking anything up."""

from typing import Any

from rest_framework import serializers

from orders import models, services, tax_ids, webhooks
from orders.api import fields, streams
from sagas.declaration import states

MAX_LINES = 100
MAX_QUANTITY = 999


class Customer(fields.Strict):
    """Who pays, and to whom the invoice is made out."""

    name = fields.Text(max_length=120)
    email = fields.Email()
    tax_id = fields.TaxId(help_text="CPF or CNPJ, with or without punctuation.")


class Line(fields.Strict):
    """So many of one product."""

    sku = fields.Text(max_length=32)
    quantity = fields.Whole(min_value=1, max_value=MAX_QUANTITY)


class Payment(fields.Strict):
    """How it is paid: by card, at once, or by PIX, later."""

    method = fields.Choice(models.PaymentMethod)
    token = fields.Text(
        max_length=200, required=False, help_text="The card's token; required for a card, and only then."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """A card needs a token; a PIX has none."""
        is_card = attrs["method"] == models.PaymentMethod.CARD
        if is_card and "token" not in attrs:
            raise serializers.ValidationError(
                {"token": "A card is paid with its token: a string."}, "required"
            )
        if not is_card and "token" in attrs:
            raise serializers.ValidationError({"token": "A PIX has no token; leave it out."}, "unknown")
        return attrs


class Address(fields.Strict):
    """Where it goes, in Brazil."""

    recipient = fields.Text(max_length=120)
    street = fields.Text(max_length=120)
    number = fields.Text(max_length=20)
    complement = fields.Text(max_length=120, min_length=0, required=False)
    district = fields.Text(max_length=80, min_length=0, required=False)
    city = fields.Text(max_length=80)
    state = fields.Choice(sorted(tax_ids.STATES))
    postal_code = fields.PostalCode()
    country = fields.Choice(["BR"])


class NewOrder(fields.Strict):
    """An order to be placed."""

    customer = Customer()
    lines = fields.Lines(child=Line(), max_length=MAX_LINES)
    payment = Payment()
    shipping_address = Address()
    reference = fields.Text(
        max_length=64, min_length=0, required=False, help_text="Your own word for it, such as a cart's id."
    )

    def validate_lines(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A product stands on one line only: two would be a slip, or a way round its limit."""
        seen: dict[str, int] = {}
        faults: list[dict[str, Any]] = [{} for _ in lines]
        for index, line in enumerate(lines):
            if seen.setdefault(line["sku"], index) != index:
                faults[index] = {
                    "sku": [
                        serializers.ErrorDetail(
                            f"Line {seen[line['sku']]} has this SKU already; add up the quantities.",
                            "duplicate",
                        )
                    ]
                }
        if any(faults):
            raise serializers.ValidationError(faults)
        return lines

    def wish(self) -> dict[str, Any]:
        """The arguments of `services.place`."""
        data = self.validated_data
        return {
            "customer": services.Customer(**data["customer"]),
            "wishes": [services.Wish(**line) for line in data["lines"]],
            "payment": services.Payment(**data["payment"]),
            "address": services.Address(**data["shipping_address"]),
            "reference": data.get("reference", ""),
        }


class Page(fields.Strict):
    """Which page of a list."""

    limit = fields.Number(
        min_value=1, max_value=100, required=False, help_text="How many to a page; 20 unless given."
    )
    cursor = fields.Text(
        max_length=200, required=False, help_text="From `next` or `previous` of another page."
    )


class OrderQuery(Page):
    """Which orders."""

    status = fields.Choice(models.Status, required=False)
    created_from = fields.Instant(required=False, help_text="Placed at this time or later.")
    created_to = fields.Instant(required=False, help_text="Placed before this time.")
    reference = fields.Text(max_length=64, required=False, help_text="Your own word for it.")
    number = fields.Text(max_length=16, required=False, help_text="Such as ORD-7K3QX9ZD.")


class Wait(fields.Strict):
    """How long the answer may wait."""

    wait = fields.Number(
        min_value=0, max_value=streams.LONGEST_WAIT_S, required=False,
        help_text="Answer when the order has ended, or after so many seconds.",
    )  # fmt: skip


class SagaQuery(Page):
    """Which sagas."""

    state = fields.Choice(states.SagaState.values(), required=False)
    step = fields.Text(max_length=50, required=False, help_text="The step that it stands at.")
    error = fields.Text(max_length=100, required=False, help_text="The class of its first failure.")
    key = fields.Text(
        max_length=100, required=False, help_text="Its business key, or the number of its order."
    )
    older_than = fields.Age(required=False, help_text="Begun longer ago than this, such as 15m.")
    younger_than = fields.Age(required=False, help_text="Begun less long ago than this, such as 2h.")


class Move(fields.Strict):
    """What an operator decided on, and why: both are kept with the event."""

    seen = fields.Seen(help_text="`seen` of the saga as it was when you decided.")
    reason = fields.Text(max_length=500)


class Resolution(Move):
    """What an operator knows about the step that was seen."""

    happened = fields.Flag(help_text="Whether the action (on the way back: its undo) took effect.")
    facts = fields.Facts(required=False, help_text="What the action would have answered, for later steps.")


class NewEndpoint(fields.Strict):
    """Where a merchant wants to be told, and of what."""

    url = fields.Address()
    types = fields.Types(child=fields.Choice(webhooks.WISHES), max_length=len(webhooks.WISHES))
    description = fields.Text(max_length=120, min_length=0, required=False)


class ChangedEndpoint(fields.Strict):
    """What is to be different about an endpoint."""

    url = fields.Address(required=False)
    types = fields.Types(
        child=fields.Choice(webhooks.WISHES), max_length=len(webhooks.WISHES), required=False
    )
    description = fields.Text(max_length=120, min_length=0, required=False)
    enabled = fields.Flag(
        required=False, help_text="False: tell it of nothing. True: of what happens from now on."
    )


class DeliveryQuery(Page):
    """Which deliveries."""

    state = fields.Choice(models.DeliveryState, required=False)


class Cancellation(fields.Strict):
    """Why an order is not wanted any more."""

    reason = fields.Text(max_length=200)
