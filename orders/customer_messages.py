"""What goes on and what went wrong, in words for those who ordered, and in their language.

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

    awaits: str = ""
    """For the staff: the object of "waits for ...", once the step has begun."""


STEPS = {
    "review-order": StepWords(
        doing=gettext_noop("look at the order"),
        undoing=gettext_noop("take the order back from review"),
        refused=gettext_noop("The shop did not accept the order."),
        who=gettext_noop("The shop"),
        waiting=gettext_noop(
            "The shop looks at the order before it is paid; without its answer by then it is not accepted."
        ),
        late=gettext_noop("The shop could not look at the order in time, so it was not accepted."),
    ),
    "take-payment": StepWords(
        doing=gettext_noop("take the payment"),
        undoing=gettext_noop("return the payment"),
        refused=gettext_noop("The payment was declined, or not made in time."),
        who=gettext_noop("The bank"),
        waiting=gettext_noop("You pay the PIX; without payment by then the order is cancelled."),
        late=gettext_noop("Nobody paid in time."),
        awaits=gettext_noop("PIX"),
    ),
    "reserve-stock": StepWords(
        doing=gettext_noop("reserve the goods"),
        undoing=gettext_noop("release the goods"),
        refused=gettext_noop("There are not enough of the goods in stock."),
        who=gettext_noop("The warehouse"),
    ),
    "issue-invoice": StepWords(
        doing=gettext_noop("issue the invoice"),
        undoing=gettext_noop("cancel the invoice"),
        refused=gettext_noop("The fiscal authority rejected the invoice."),
        who=gettext_noop("The fiscal authority"),
        awaits=gettext_noop("the fiscal authority"),
    ),
    "deliver-order": StepWords(
        doing=gettext_noop("hand the goods to the carrier"),
        undoing=gettext_noop("call the goods back"),
        refused=gettext_noop("The carrier did not take the parcel, or could not deliver it."),
        who=gettext_noop("The carrier"),
        waiting=gettext_noop("The carrier delivers; a parcel that has not arrived by then is called back."),
        late=gettext_noop("The parcel did not arrive in time."),
        awaits=gettext_noop("the carrier"),
    ),
}
"""By the step's name. An entry stays when its step goes: old orders still tell of it."""

KINDS = {
    "bug": gettext_noop("Something went wrong on our side."),
    "late": gettext_noop("It takes a little longer than usual, and goes on by itself."),
    "cancelled": gettext_noop("The order was cancelled on request."),
    "operator": gettext_noop("The shop turned the order back."),
    "mismatch": gettext_noop("Something has to be cleared up with a provider; the shop sees to it."),
}
"""Whatever the step."""


def of_step(name: str) -> StepWords:
    """The words for a step, in the reader's language; made of its name where it has none."""
    plain = name.replace("-", " ")
    named = {"step": plain, "Step": plain[:1].upper() + plain[1:]}
    made = StepWords(
        doing=gettext("carry out “%(step)s”") % named,
        undoing=gettext("undo “%(step)s”") % named,
        refused=gettext("“%(Step)s” could not be done.") % named,
        who=gettext("The service for “%(step)s”") % named,
        waiting=gettext("“%(Step)s” has begun, and is not finished yet.") % named,
        late=gettext("“%(Step)s” was not finished in time.") % named,
    )
    words = STEPS.get(name)
    if words is None:
        return made
    said = {field: gettext(text) for field, text in dataclasses.asdict(words).items() if text}
    return dataclasses.replace(made, **said)


def label(name: str) -> str:
    """The step's name in the console, in the viewer's language; empty where nobody has said it."""
    words = STEPS.get(name)
    said = gettext(words.doing) if words else ""
    return said[:1].upper() + said[1:]


def awaited(name: str) -> str:
    """For what a step waits once it has begun, in the viewer's language; empty where nobody has said it."""
    words = STEPS.get(name)
    return gettext(words.awaits) if words and words.awaits else ""


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


def waiting(event: models.Event) -> str:
    """What a step waits for that waits since this event; empty for any other event."""
    waits = event.subject and event.to_state == states.StepState.WAITING
    return of_step(event.subject).waiting if waits else ""


def _sentence(kept: Mapping[str, Any], step: str, state: str) -> str:
    kind, clock = kept["kind"], kept.get("clock")
    if kind in KINDS:
        return gettext(KINDS[kind])
    words = of_step(step)
    if step and state == states.StepState.UNDO_FAILED:
        return gettext("We could not %(undoing)s.") % {"undoing": words.undoing}
    if clock == "deadline" or not step:
        return gettext("The order's time ran out.")
    if clock == "wait":
        return words.late
    if kind == "refused":
        return words.refused
    if kind in ("transient", "outage"):
        return gettext("%(who)s could not be reached.") % {"who": words.who}
    return gettext("%(who)s did not answer in time.") % {"who": words.who}
