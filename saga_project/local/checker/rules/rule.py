"""What a rule is: a name, a sentence, and a function that yields what breaks it."""

import dataclasses
from collections.abc import Callable, Iterator

from saga_project.local.checker import world

KINDS = ("lost", "doubled", "balance", "order")
"""What a violation means: an order is lost, something happened twice, the books do not agree, or things
happened in an order in which they must not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Violation:
    """Something that breaks a rule."""

    about: str
    """The order's number; where there is none, the client's key, the key at a provider, a SKU, a number."""
    told: str


Broken = Callable[[world.World], Iterator[Violation]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of a campaign."""

    name: str
    kind: str
    says: str
    broken: Broken


def declare(rules: list[Rule], kind: str, says: str) -> Callable[[Broken], Broken]:
    """Have the function be a rule of this list, under its own name.

    Args:
        rules: the list.
        kind: one of `KINDS`.
        says: what holds, in a sentence.
    """
    assert kind in KINDS, kind

    def add(function: Broken) -> Broken:
        rules.append(Rule(name=function.__name__.replace("_", "-"), kind=kind, says=says, broken=function))
        return function

    return add
