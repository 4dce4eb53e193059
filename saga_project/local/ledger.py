"""What the clients saw and the drill did: written down while it happens, judged afterwards (verdict.py).

Times are seconds since the epoch, of this machine's clock, which is the database's too.
"""

import dataclasses
from typing import Any

from saga_project.local import fates

Json = dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class Wanted:
    """An order that a customer wants, and what became of it."""

    key: str
    """The Idempotency-Key of each of its requests; also its `reference`, by which a second one would show."""
    fate: fates.Fate
    wanted_at: float
    """When it was first sent."""
    acknowledged_at: float | None = None
    """When the shop first said that it has it."""
    ids: set[str] = dataclasses.field(default_factory=set)
    """Which order that is, by every answer; two are one too many."""
    requests: int = 0
    customer: int = 0
    """A number of its customer's."""
    refused: str = ""
    """What the shop said where it did not want the order at all."""
    in_doubt: bool = False
    """A request may have reached the shop, and was not answered by what became of it."""
    turned_away: bool = False
    """The shop took no more, and the customer went elsewhere."""
    seen_ended_at: float | None = None
    """When it was found to have ended: by the next look, which is late where there is much to look at."""
    ended_at: float | None = None
    """When its order changed last, as the shop said once it had ended; unknown where nobody has read it."""

    @property
    def unacknowledged(self) -> bool:
        """Its customer still asks for it."""
        return not (self.acknowledged_at or self.refused or self.turned_away)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One request of a client to the API."""

    what: str
    sent_at: float
    ended_at: float
    failure: str = ""
    """Empty if it was answered, be it with a no; else what went wrong."""

    @property
    def seconds(self) -> float:
        """How long the client waited."""
        return self.ended_at - self.sent_at


@dataclasses.dataclass(kw_only=True)
class Strike:
    """A fault, as it was made."""

    name: str
    told: str
    """What was done, in a few words: which host, how long."""
    bar_s: float
    """How soon the API must answer again."""
    struck_at: float
    healed_at: float | None = None
    """When what was broken was whole again."""


@dataclasses.dataclass(kw_only=True)
class Ledger:
    """All of it."""

    wanted: list[Wanted] = dataclasses.field(default_factory=list)
    requests: list[Request] = dataclasses.field(default_factory=list)
    strikes: list[Strike] = dataclasses.field(default_factory=list)
