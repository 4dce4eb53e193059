"""What went wrong, in words for those who ordered.

What the engine keeps of a failure is for those who run it: it may be a provider's own words, a bug's, or what
an operator noted about the customer. None of it leaves the house; a customer is told the kind and a sentence.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext, gettext_noop

from sagas import models
from sagas.declaration import states


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepWords:
    """What people read of a step; whatever is left out is made of its name."""

    doing: str
    """Completes "We ..." and "We try again to ..."; with a capital letter it is the step's name in the
    console, where it is translated."""

    undoing: str
    """Completes "We ..." and "We could not ..."."""

    refused: str
    """A sentence: why the order was turned back, where this step was refused."""

    who: str
    """Who carries it out: the subject of "... could not be reached."."""

    waiting: str = ""
    """A sentence: what is waited for, where the step has a wait."""

    late: str = ""
    """A sentence: what did not come in time."""


STEPS = {
    "take-payment": StepWords(
        doing=gettext_noop("take the payment"),
        undoing="return the payment",
        refused="The payment was declined, or not made in time.",
        who="The bank",
        waiting="You pay the PIX; without payment by then the order is cancelled.",
        late="Nobody paid in time.",
    ),
    "reserve-stock": StepWords(
        doing=gettext_noop("reserve the goods"),
        undoing="release the goods",
        refused="There are not enough of the goods in stock.",
        who="The warehouse",
    ),
    "issue-invoice": StepWords(
        doing=gettext_noop("issue the invoice"),
        undoing="cancel the invoice",
        refused="The fiscal authority rejected the invoice.",
        who="The fiscal authority",
    ),
    "deliver-order": StepWords(
        doing=gettext_noop("hand the goods to the carrier"),
        undoing="call the goods back",
        refused="The carrier did not take the parcel, or could not deliver it.",
        who="The carrier",
        waiting="The carrier delivers; a parcel that has not arrived by then is called back.",
        late="The parcel did not arrive in time.",
    ),
}
"""By the step's name. An entry stays when its step goes: old orders still tell of it."""

KINDS = {
    "bug": "Something went wrong on our side.",
    "late": "It takes a little longer than usual, and goes on by itself.",
    "cancelled": "The order was cancelled on request.",
    "operator": "The shop turned the order back.",
    "mismatch": "Something has to be cleared up with a provider; the shop sees to it.",
}
"""Whatever the step."""


def of_step(name: str) -> StepWords:
    """The words for a step; made of its name where it has none."""
    plain = name.replace("-", " ")
    capital = plain[:1].upper() + plain[1:]
    made = StepWords(
        doing=f"carry out “{plain}”",
        undoing=f"undo “{plain}”",
        refused=f"“{capital}” could not be done.",
        who=f"The service for “{plain}”",
        waiting=f"“{capital}” has begun, and is not finished yet.",
        late=f"“{capital}” was not finished in time.",
    )
    words = STEPS.get(name)
    if words is None:
        return made
    return dataclasses.replace(words, waiting=words.waiting or made.waiting, late=words.late or made.late)


def label(name: str) -> str:
    """The step's name in the console, in the viewer's language; empty where nobody has said it."""
    words = STEPS.get(name)
    said = gettext(words.doing) if words else ""
    return said[:1].upper() + said[1:]


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
    words = of_step(step)
    if step and state == states.StepState.UNDO_FAILED:
        return f"We could not {words.undoing}."
    if clock == "deadline" or not step:
        return "The order's time ran out."
    if clock == "wait":
        return words.late
    if kind == "refused":
        return words.refused
    return (
        f"{words.who} could not be reached."
        if kind in ("transient", "outage")
        else f"{words.who} did not answer in time."
    )
