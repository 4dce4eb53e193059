"""All rules of a campaign."""

from saga_project.local.checker.rules import clients, ends, events, invoices, money, parcels, stock
from saga_project.local.checker.rules.rule import KINDS, Rule, Violation

__all__ = ["KINDS", "RULES", "Rule", "Violation"]

RULES: list[Rule] = [
    rule for room in (clients, ends, money, invoices, parcels, stock, events) for rule in room.RULES
]
assert len({rule.name for rule in RULES}) == len(RULES), "two rules of one name"
