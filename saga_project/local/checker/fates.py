"""What must become of an order, foretold from what its customer sent: docs/sandbox.md, said once more."""

import dataclasses
from typing import Any

Json = dict[str, Any]

FULFILLED, CANCELLED, ATTENTION = "fulfilled", "cancelled", "attention"

CHARGED = frozenset(
    {"tok_ok", "tok_flaky", "tok_lost_reply", "tok_slow", "tok_refund_flaky", "tok_refund_refused"}
)
"""Cards that are charged in the end, and exactly what was asked."""
MISCHARGED = frozenset({"tok_one_centavo", "tok_other_currency"})
"""Cards that are charged something else: a person has to look."""
NEVER_REFUNDED = "tok_refund_refused"

REJECTED = "00000000191"
INVOICED_WRONG = "00000000272"

NOT_DELIVERED = frozenset({"99999-001", "99999-002", "99999-003"})
"""Refused, failed, and never reported on."""
BOOKED_WRONG = "99999-004"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What the order's body does not tell."""

    ships: bool
    """Whether anything of it goes in a parcel."""
    cancelled: bool
    """Whether its customer asked for its end."""
    reviewed: bool
    """Whether the shop looked at it before it was paid, and could say no."""


def foretell(body: Json, circumstances: Circumstances) -> frozenset[str]:
    """The states in which it may end, where every provider answers in the end.

    One that a person must look at may be closed too: that is the person's to say, and is no matter of fate.

    Args:
        body: the order, as it was sent.
        circumstances: what else decides.
    """
    ends = _of_parts(body, ships=circumstances.ships)
    if body.get("payment", {}).get("method") == "pix":
        ends |= {CANCELLED}  # It may be paid too late, or never.
    if circumstances.cancelled or circumstances.reviewed:
        ends |= {CANCELLED}
    if circumstances.cancelled and ends & {FULFILLED} and _token(body) == NEVER_REFUNDED:
        ends |= {ATTENTION}
    return frozenset(ends)


def _of_parts(body: Json, *, ships: bool) -> set[str]:
    token, undone = _token(body), CANCELLED
    if token is not None:
        if token in MISCHARGED:
            return {ATTENTION}
        if token not in CHARGED:
            return {CANCELLED}
        if token == NEVER_REFUNDED:
            undone = ATTENTION
    tax_id = digits(body.get("customer", {}).get("tax_id", ""))
    if tax_id == REJECTED:
        return {undone}
    if tax_id == INVOICED_WRONG:
        return {ATTENTION}
    postal_code = digits(body.get("shipping_address", {}).get("postal_code", ""))
    if ships and f"{postal_code[:5]}-{postal_code[5:]}" in NOT_DELIVERED:
        return {undone}
    if ships and f"{postal_code[:5]}-{postal_code[5:]}" == BOOKED_WRONG:
        return {ATTENTION}
    return {FULFILLED}


def _token(body: Json) -> str | None:
    payment = body.get("payment", {})
    return str(payment.get("token", "")) if payment.get("method") == "card" else None


def digits(text: str) -> str:
    """A tax id or postal code without its punctuation."""
    return "".join(sign for sign in text.upper() if sign.isalnum())
