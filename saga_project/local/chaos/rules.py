"""What a campaign is held to: every rule with how often it was broken."""

import dataclasses
import pathlib
from typing import Any

from saga_project.local import checker, fates

Json = dict[str, Any]

KINDS = {
    "lost": "Orders lost",
    "doubled": "Orders doubled",
    "balance": "Out of balance",
    "order": "Out of order",
}
"""What a broken rule of the checker's means."""


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """All rules, and what the checker counted."""

    rules: list[Rule]
    kinds: dict[str, int]
    """How many orders are lost, doubled, out of balance."""
    gave_up: int
    """Orders that were turned back because somebody was away for too long: no rule is broken by that."""
    turned_away: int
    """Orders that their customers took elsewhere, for the shop took no more; none of them was placed."""

    @property
    def holds(self) -> bool:
        """Whether every rule does."""
        return all(rule.holds for rule in self.rules)


def judge(*, history: pathlib.Path, database: str, providers: pathlib.Path, audit: Json) -> Judgement:
    """Hold the answers that the clients got, the rows and the providers' books against each other.

    The checker does, which knows nothing of the engine; then the project's own audit is asked.

    Args:
        history: what the clients were told, as they wrote it down.
        database: a connection string.
        providers: the directory of the providers' books.
        audit: the report of `manage.py audit --json`.
    """
    found = checker.check(history, database, providers)
    rules = [
        Rule(
            name=result.rule,
            told=result.says,
            broken=[f"{result.rule}: {one.about}: {one.told}" for one in result.violations],
        )
        for result in found.results
    ]
    rules += [
        Rule(
            name="audit",
            told="`manage.py audit` finds nothing.",
            broken=[
                f"the audit: {one['about']}: {one['room']}: {one['finding']}"
                for one in audit["discrepancies"]
            ],
        ),
    ]
    return Judgement(
        rules=rules,
        kinds={kind: found.of_kind(kind) for kind in KINDS},
        gave_up=found.gave_up,
        turned_away=found.turned_away,
    )


def shares() -> list[tuple[int, fates.Fate]]:
    """Who orders, of a hundred. What must become of each the checker foretells."""
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
    return list(wanted)
