"""What a campaign is held to: every rule with how often it was broken, and the bars."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from saga_project.local import fates, ledger
from saga_project.local.cluster import verdict

Json = dict[str, Any]

ATTENTION = "attention"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule, and what broke it."""

    name: str
    told: str
    """What it says."""
    broken: list[str]
    """Each time that it was broken, in words."""

    @property
    def holds(self) -> bool:
        """Whether it was never broken."""
        return not self.broken


def judge(
    book: ledger.Ledger,
    *,
    history: pathlib.Path,
    database: str,
    providers: pathlib.Path,
    orders: Sequence[Json],
    audit: Json,
) -> list[Rule]:
    """Hold the answers that the clients got, the rows and the providers' books against each other.

    Args:
        book: what was seen while it happened.
        history: the same, as the clients wrote it down.
        database: a connection string.
        providers: the directory of the providers' books.
        orders: as the API lists them.
        audit: the report of `manage.py audit --json`.
    """
    books = json.loads((providers / "books.json").read_text())
    found = verdict.violations(book.wanted, orders=orders, books=books, audit=audit)
    told = {kind: [told for tolds in by_key.values() for told in tolds] for kind, by_key in found.items()}
    told["a stranger"] = verdict.strangers(book.wanted, orders)
    told["a person"] = needs_a_person(book.wanted, orders)
    return [Rule(name=name, told=text, broken=told[name]) for name, text in TOLD.items()]


TOLD = {
    "lost": "Every order was acknowledged, is there, and has ended.",
    "doubled": "No key has two orders, and no order two charges, invoices or parcels.",
    "out of balance": "The bank holds the total of what was fulfilled, nothing of what was cancelled; every"
    " order ended as its customer's card, tax id and address foretell; the audit finds nothing.",
    "a stranger": "There is no order that nobody wanted.",
    "a person": "No saga needs a person whose fate did not ask for it.",
}
"""The rules, by name."""


def needs_a_person(wanted: Sequence[ledger.Wanted], orders: Sequence[Json]) -> list[str]:
    """The orders that wait for a person though their fate did not ask for one."""
    by_key = {one.key: one for one in wanted}
    return [
        f"{order['number']} ({by_key[order['reference']].fate.name}) waits for a person"
        for order in orders
        if order["status"] == ATTENTION
        and order["reference"] in by_key
        and ATTENTION not in by_key[order["reference"]].fate.ends
    ]


def lenient(fate: fates.Fate) -> fates.Fate:
    """A fate whose order may also be turned back: providers that fail for long enough turn any order back."""
    return dataclasses.replace(fate, ends=tuple(dict.fromkeys((*fate.ends, "cancelled"))))


def shares() -> list[tuple[int, fates.Fate]]:
    """Who orders, of a hundred."""
    named = {fate.name: fate for fate in fates.FATES}
    wanted = (
        (45, named["card accepted"]),
        (12, dataclasses.replace(named["PIX, paid late but in time"], name="PIX", meddle="pay")),
        (6, named["bank fails twice"]),
        (6, named["charged, but reply lost"]),
        (4, fates.Fate(name="bank takes two seconds", payment=fates.card("tok_slow"))),
        (5, named["card declined"]),
        (4, named["invoice rejected"]),
        (2, named["rejected, refund fails thrice"]),
        (4, named["booking refused"]),
        (4, named["delivery fails"]),
        (2, named["customer cancels in flight"]),
        (4, named["digital goods"]),
        (1, named["dear, and not accepted"]),
        (1, named["rejected, refund refused"]),
    )
    assert sum(share for share, _ in wanted) == 100
    return [(share, lenient(fate)) for share, fate in wanted]
