"""What a client sends: forms, and everything that can be said of them without looking anything up."""

import re
from typing import Any, ClassVar

from rest_framework import serializers

from api import fields
from api.serializers import Form, Page
from orders import models, services, tax_ids
from orders.api import samples, streams

MAX_LINES = 100
MAX_QUANTITY = 999


class Customer(Form):
    """Who pays, and to whom the invoice is made out."""

    name = fields.Text(max_length=120)
    email = fields.Email()
    tax_id = fields.Text(
        max_length=20, clean=tax_ids.tax_id, help_text="CPF or CNPJ, with or without punctuation.",
        allowed=f"This must be {tax_ids.TAX_ID_RULE}, with or without punctuation.",
        schema={"type": "string", "format": "tax-id", "maxLength": 20, "examples": ["529.982.247-25"]},
    )  # fmt: skip


class Line(Form):
    """So many of one product."""

    sku = fields.Text(max_length=32)
    quantity = fields.Whole(min_value=1, max_value=MAX_QUANTITY)


CARD_NUMBER = r"^\s*(?:[0-9][ -]?){11,18}[0-9]\s*$"
"""12 to 19 digits, as they stand on a card."""


def _no_card_number(text: str) -> str | None:
    return None if re.search(CARD_NUMBER, text) else text


class Payment(Form):
    """How it is paid: by card, at once, or by PIX, later."""

    method = fields.Choice(models.PaymentMethod)
    # What is ordered is kept; a card's number never may be.
    token = fields.Text(
        max_length=200, required=False, clean=_no_card_number,
        help_text="The card's token; required for a card, and only then. A card's number is refused.",
        allowed="This must be the token that stands for the card, a string of 1 to 200 characters, and"
        " never the card's number.",
        schema={"type": "string", "minLength": 1, "maxLength": 200, "not": {"pattern": CARD_NUMBER}},
    )  # fmt: skip

    more: ClassVar = {
        # No alternatives with members of their own: generators make a class of each, and of this none.
        "if": {"required": ["method"], "properties": {"method": {"const": "card"}}},
        "then": {"required": ["token"]},
        "else": {"not": {"required": ["token"]}},
    }

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


class Address(Form):
    """Where it goes, in Brazil. Required if anything of the order ships, as the products say."""

    recipient = fields.Text(max_length=120)
    street = fields.Text(max_length=120)
    number = fields.Text(max_length=20)
    complement = fields.Text(max_length=120, min_length=0, required=False)
    district = fields.Text(max_length=80, min_length=0, required=False)
    city = fields.Text(max_length=80)
    state = fields.Choice(sorted(tax_ids.STATES))
    postal_code = fields.Text(
        max_length=9, clean=tax_ids.postal_code, allowed=f"This must be {tax_ids.POSTAL_CODE_RULE}.",
        schema={"type": "string", "pattern": "^[0-9]{5}-?[0-9]{3}$", "examples": ["01310-100"]},
    )  # fmt: skip
    country = fields.Choice(["BR"])


CURRENCY = "^[A-Z]{3}$"


def _currency(text: str) -> str | None:
    return text if re.fullmatch(CURRENCY, text) else None


class ExpectedTotal(Form):
    """What you expect the order to cost. Where it comes to anything else it is refused: `total-differs`."""

    amount = fields.Whole(min_value=0, max_value=2**53 - 1, help_text="In minor units: centavos.")
    currency = fields.Text(
        max_length=3, clean=_currency, allowed="This must be a currency such as BRL.",
        schema={"type": "string", "pattern": CURRENCY, "examples": ["BRL"]},
    )  # fmt: skip


class NewOrder(Form):
    """An order to be placed."""

    customer = Customer()
    lines = fields.Many(child=Line(), max_length=MAX_LINES, things="lines")
    payment = Payment()
    shipping_address = Address(required=False)
    total = ExpectedTotal(required=False)
    reference = fields.Text(
        max_length=64, min_length=0, required=False, help_text="Your own word for it, such as a cart's id."
    )

    sample = samples.NEW_ORDER

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
        address, total = data.get("shipping_address"), data.get("total")
        return {
            "customer": services.Customer(**data["customer"]),
            "wishes": [services.Wish(**line) for line in data["lines"]],
            "payment": services.Payment(**data["payment"]),
            "address": services.Address(**address) if address is not None else None,
            "reference": data.get("reference", ""),
            "total": services.Money(**total) if total is not None else None,
        }


class OrderQuery(Page):
    """Which orders."""

    status = fields.Many(
        child=fields.Choice(models.Status), max_length=len(models.Status), things="statuses", required=False,
        help_text="One of these; of several, give it several times.",
    )  # fmt: skip
    created_from = fields.Instant(required=False, help_text="Placed at this time or later.")
    created_to = fields.Instant(required=False, help_text="Placed before this time.")
    updated_from = fields.Instant(required=False, help_text="Changed at this time or later.")
    reference = fields.Text(max_length=64, required=False, help_text="Your own word for it.")
    number = fields.Text(max_length=16, required=False, help_text="Such as ORD-7K3QX9ZD.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """From before to: the other way round nothing lies between them, which is a slip."""
        if "created_from" in attrs and "created_to" in attrs and attrs["created_from"] > attrs["created_to"]:
            raise serializers.ValidationError(
                {"created_from": "This is later than created_to, so no order can lie between."}, "range"
            )
        return attrs


class Wait(Form):
    """How long the answer may wait."""

    wait = fields.Number(
        min_value=0, max_value=streams.LONGEST_WAIT_S, required=False,
        help_text="Answer when the order has ended, or after so many seconds.",
    )  # fmt: skip


class Cancellation(Form):
    """Why an order is not wanted any more."""

    reason = fields.Text(max_length=200)

    sample: ClassVar = {"reason": "Changed my mind"}
