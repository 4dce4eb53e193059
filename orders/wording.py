"""What went wrong, in words for those who ordered.

What the engine keeps of a failure is for those who run it: it may be a provider's own words, a bug's, or what
an operator noted about the customer. None of it leaves the house; a customer is told the kind and a sentence.
"""

from collections.abc import Mapping
from typing import Any

from sagas import models, states

DOING = {
    "take-payment": "take the payment",
    "reserve-stock": "reserve the goods",
    "issue-invoice": "issue the invoice",
    "deliver-order": "hand the goods to the carrier",
}
UNDOING = {
    "take-payment": "return the payment",
    "reserve-stock": "release the goods",
    "issue-invoice": "cancel the invoice",
    "deliver-order": "call the goods back",
}
REFUSED = {
    "take-payment": "The payment was declined, or not made in time.",
    "reserve-stock": "There are not enough of the goods in stock.",
    "issue-invoice": "The fiscal authority rejected the invoice.",
    "deliver-order": "The carrier did not take the parcel, or could not deliver it.",
}
WHO = {
    "take-payment": "The bank",
    "reserve-stock": "The warehouse",
    "issue-invoice": "The fiscal authority",
    "deliver-order": "The carrier",
}
WAITED = {
    "take-payment": "Nobody paid in time.",
    "deliver-order": "The parcel did not arrive in time.",
}
KINDS = {
    "bug": "Something went wrong on our side.",
    "cancelled": "The order was cancelled on request.",
    "operator": "The shop turned the order back.",
}
"""Whatever the step."""

assert set(DOING) == set(UNDOING) == set(REFUSED) == set(WHO), "a step that there are no words for"


def failure(kept: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Why an order was turned back: the step, the kind and a sentence; None where it was not."""
    return {"step": kept["step"], **error(kept, kept["step"])} if kept else None


def of_event(event: models.Event) -> dict[str, str] | None:
    """What an event of a saga says went wrong; None where nothing did."""
    if not {"kind", "message"} <= event.data.keys():
        return None
    return error(event.data, event.subject or event.data.get("step"), event.to_state)


def error(kept: Mapping[str, Any], step: str | None, state: str = "") -> dict[str, str]:
    """What went wrong with a step that is in this state now: the kind, and a sentence."""
    return {"kind": kept["kind"], "message": _sentence(kept, step or "", state)}


def _sentence(kept: Mapping[str, Any], step: str, state: str) -> str:
    kind, clock = kept["kind"], kept.get("clock")
    if kind in KINDS:
        return KINDS[kind]
    if state == states.StepState.UNDO_FAILED:
        return f"We could not {UNDOING[step]}."
    if clock == "deadline" or step not in WHO:
        return "The order's time ran out."
    if clock == "wait" and step in WAITED:
        return WAITED[step]
    if kind == "refused":
        return REFUSED[step]
    return (
        f"{WHO[step]} could not be reached."
        if kind in ("transient", "outage")
        else f"{WHO[step]} did not answer in time."
    )
