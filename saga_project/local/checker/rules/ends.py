"""Every order comes to the end that its customer's fate foretells, and to one."""

from collections.abc import Iterator

from saga_project.local.checker import fates, world
from saga_project.local.checker.rules.rule import Rule, Violation, declare

RULES: list[Rule] = []

LOCAL = "reserve-stock"
"""The step that is one transaction: if it failed it never happened, and is not undone."""


@declare(RULES, "lost", "Every order has ended (T1).")
def ended(campaign: world.World) -> Iterator[Violation]:
    """Fulfilled, cancelled, closed, or in front of a person; and nothing more is to be done of it."""
    for _, order in campaign.ours:
        end = campaign.end(order)
        if end not in (*world.ENDS, fates.ATTENTION):
            yield Violation(about=order["number"], told=f"it is {end}")
    for signal in campaign.rows.signals:
        if signal["wake_at"] is not None and signal["compensated_at"] is None:
            yield Violation(about=campaign.name(signal["step_key"]), told="a late callback is not undone yet")


@declare(RULES, "balance", "Every order ended as its customer's fate foretells.")
def foretold(campaign: world.World) -> Iterator[Violation]:
    """Or was cancelled because somebody was away for too long, or because there was too little of it."""
    for wanted, order in campaign.ours:
        end, fate = campaign.end(order), campaign.fate(wanted, order)
        if end not in world.ENDS or end in fate or (end == "closed" and fates.ATTENTION in fate):
            continue
        if end == fates.CANCELLED and (campaign.gave_up(order) or campaign.sold_out(order)):
            continue
        failure = campaign.sagas[order["saga_id"]]["failure"] or {}
        why = f", for {failure.get('step')} was {failure.get('kind')}" if failure else ""
        yield Violation(about=order["number"], told=f"{end}{why}, and not {' or '.join(sorted(fate))}")


@declare(RULES, "balance", "No client saw an end that is not the order's, or two of them (I1, T3).")
def end_seen(campaign: world.World) -> Iterator[Violation]:
    """A final state, once told, stays; one that a person is to look at may still come to another."""
    for wanted in campaign.wanted.values():
        for end, number in dict.fromkeys(wanted.ends):
            order = campaign.by_number.get(number)
            if order is None:
                yield Violation(about=number, told=f"a client saw it {end}, and there is none")
            elif end in world.ENDS and campaign.end(order) != end:
                yield Violation(about=number, told=f"a client saw it {end}, and it is {campaign.end(order)}")
            elif campaign.keys.get(order["id"]) != wanted.key:
                yield Violation(about=number, told=f"a client saw its end under {wanted.key}, not its key")


@declare(RULES, "lost", "Nobody needs a person whose fate did not ask for one.")
def no_person(campaign: world.World) -> Iterator[Violation]:
    """Neither for an order nor for a callback."""
    asks = set()
    for wanted, order in campaign.ours:
        if fates.ATTENTION in campaign.fate(wanted, order):
            asks.add(order["saga_id"])
        elif campaign.end(order) == fates.ATTENTION:
            attention = campaign.sagas[order["saga_id"]]["attention"] or {}
            yield Violation(about=order["number"], told=f"{attention.get('step')}: {attention.get('why')}")
    for signal in campaign.rows.signals:
        waits = signal["attention_at"] is not None and signal["settled_at"] is None
        if waits and signal["step_key"].partition(".")[0] not in asks:
            yield Violation(
                about=campaign.name(signal["step_key"]),
                told=f"a callback of {signal['source']} calls a person: {signal['attention']}",
            )


@declare(RULES, "balance", "An order says the same end as its saga.")
def order_and_saga_agree(campaign: world.World) -> Iterator[Violation]:
    """They end in one transaction, and an order has a saga of its own."""
    for order in campaign.rows.orders:
        end = campaign.end(order)
        said = [name for name in world.ENDS if order[f"{name}_at"] is not None]
        if said != ([end] if end in world.ENDS else []):
            yield Violation(about=order["number"], told=f"it says {said or 'no end'}, and its saga {end}")


@declare(RULES, "balance", "A completed saga has every step done, a compensated one every step undone (T5).")
def nothing_half_done(campaign: world.World) -> Iterator[Violation]:
    """Steps that were left out count as both; an approval that was given stays given."""
    for saga in campaign.rows.sagas:
        for step in campaign.steps.get(saga["id"], ()):
            kinds = {
                event["kind"] for event in campaign.events.get(saga["id"], ())
                if event["subject"] == step["name"]
            }  # fmt: skip
            if saga["state"] == "completed":
                wrong = step["state"] not in ("done", "skipped")
            elif saga["state"] == "compensated":
                happened = "step.done" in kinds or ("step.started" in kinds and step["name"] != LOCAL)
                asked = kinds & {"approval.given", "approval.refused", "step.reminded"}
                wrong = step["state"] not in ("undone", "skipped") and happened and not asked
            else:
                continue
            if wrong:
                yield Violation(
                    about=campaign.name(saga["id"]),
                    told=f"its saga is {saga['state']}, its step {step['name']} is {step['state']}",
                )
