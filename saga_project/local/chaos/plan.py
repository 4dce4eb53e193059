"""What strikes when: made from a seed before anything runs, so that a run can be repeated.

A plan knows the kinds of faults only by their names, what they may strike and how long they last (`Kind`).
It strikes the kinds evenly, by their weight, and never two things at once at which the one would undo the
other: what a fault holds (`Kind.holds`) is left alone until it is whole and has had a moment to stand.
"""

import collections
import dataclasses
import random
from collections.abc import Callable, Iterable, Sequence

STANDS_S = 3.0
"""So long what was broken is left alone after it is whole again."""

JITTER = 0.5
"""A pause between two strikes is up to so much shorter or longer than the average, as a share of it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of fault, as the plan sees it."""

    name: str
    told: str
    """What it does, for the documentation."""
    targets: tuple[str, ...]
    """What it may strike; one of them each time."""
    lasts_s: tuple[float, float]
    """The shortest and the longest, in seconds, from the strike until it is healed; zeros where it is over at
    once."""
    weight: int = 2
    """How often, beside the others."""
    holds: Callable[[str], frozenset[str]]
    """Of a target: what nothing else may strike meanwhile."""
    once: bool = False
    """Whether it strikes once in a run, in its middle."""
    rests_s: float = STANDS_S
    """How long what it held is left alone afterwards."""
    group: str
    """Under which heading it stands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blow:
    """One fault that is planned."""

    number: int
    kind: str
    target: str
    at_s: float
    """After the beginning."""
    lasts_s: float
    seed: int
    """Of its own chance."""

    @property
    def ends_s(self) -> float:
        """When it is healed, after the beginning."""
        return self.at_s + self.lasts_s


def made(*, seed: int, seconds: float, every_s: float, kinds: Iterable[Kind]) -> list[Blow]:
    """The blows, in the order in which they strike; the last of them is healed when the time is over.

    Args:
        seed: the same seed, the same blows.
        seconds: how long the run is.
        every_s: one blow in so many seconds, on average.
        kinds: what may strike.
    """
    chance = random.Random(seed)  # noqa: S311 - Chance, not secrecy.
    kinds = list(kinds)
    moments = [
        min(max((number + chance.uniform(-JITTER, JITTER)) * every_s, 0.0), seconds)
        for number in range(1, max(int(seconds / every_s), 1))
    ]
    once = [kind for kind in kinds if kind.once]
    deck = _Deck([kind for kind in kinds if not kind.once], chance)
    free_at: dict[str, float] = collections.defaultdict(float)
    blows: list[Blow] = []
    for place, at_s in enumerate(sorted(moments)):
        left_s = seconds - at_s
        if once and at_s >= seconds / 2:
            kind: Kind | None = once.pop()
            target = chance.choice(kind.targets) if kind else ""
        else:
            kind, target = deck.draw(at_s, left_s, free_at)
        if kind is None:
            continue
        least, most = kind.lasts_s
        lasts_s = min(chance.uniform(least, most), max(left_s, 0.0))
        for held in kind.holds(target):
            free_at[held] = at_s + lasts_s + kind.rests_s
        blows.append(
            Blow(
                number=place + 1,
                kind=kind.name,
                target=target,
                at_s=round(at_s, 3),
                lasts_s=round(lasts_s, 3),
                seed=chance.randrange(2**31),
            )
        )
    return [dataclasses.replace(blow, number=number) for number, blow in enumerate(blows, 1)]


class _Deck:
    """The kinds as cards, each as often as it weighs; all are dealt before one comes again."""

    def __init__(self, kinds: Sequence[Kind], chance: random.Random) -> None:
        self._kinds = kinds
        self._chance = chance
        self._cards: list[Kind] = []

    def draw(
        self, at_s: float, left_s: float, free_at: dict[str, float]
    ) -> tuple[Kind, str] | tuple[None, str]:
        """The next card whose target is free and that fits into the time; nobody where there is none."""
        for fresh in (False, True):
            if fresh or not self._cards:
                more = [kind for kind in self._kinds for _ in range(kind.weight)]
                self._chance.shuffle(more)
                self._cards += more
            for place, kind in enumerate(self._cards):
                targets = [
                    target
                    for target in kind.targets
                    if all(free_at[held] <= at_s for held in kind.holds(target))
                ]
                if targets and kind.lasts_s[0] <= left_s:
                    del self._cards[place]
                    return kind, self._chance.choice(targets)
        return None, ""
