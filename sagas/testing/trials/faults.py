"""What may go wrong on a saga's way, one thing each: what a trial has happen, and what its report names."""

import dataclasses
from typing import Literal

ANSWERS = {
    "fail": "refuses, before anything was done",
    "flake": "says: not now",
    "lose": "is done, and its answer is lost",
    "drop": "is never asked, and nobody knows",
    "break": "meets a bug, before anything was done",
    "die": "kills its worker before anything was done",
    "perish": "is done, and its worker is killed before it can say so",
    "perish, cancelled": "is done, the saga is cancelled, and the worker is killed before it can say so",
    "outlive": "outlives its lease: another worker takes over, and then it is done",
    "outlive, cancelled": "outlives its lease: the saga is cancelled and undone, and then it is done",
}
"""How a call may be answered but well: scripts have the first five, by these names."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""


@dataclasses.dataclass(frozen=True)
class Answer(Fault):
    """A call of a step's function is not answered well."""

    function: Literal["do", "undo", "ask"]
    step: str
    """Of a step of a child, `deliver.pick`: with its parent's step before it."""

    answer: str
    time: int = 1
    """Which of the calls, from 1; 0 for all of them."""

    def __str__(self) -> str:
        which = f" (call {self.time})" if self.time > 1 else ""
        return f"{self.function} {self.step}{which} {ANSWERS[self.answer]}"


@dataclasses.dataclass(frozen=True)
class Message(Fault):
    """A message is not carried as it should be."""

    number: int
    """In the order of sending, from 1; 0 for all of them."""

    how: Literal["lost", "doubled", "held back"]

    def __str__(self) -> str:
        which = f"message {self.number} is" if self.number else "every message is"
        return f"{which} {self.how}"


@dataclasses.dataclass(frozen=True)
class Commit(Fault):
    """A process dies at a commit, or loses the database there."""

    number: int
    before: bool
    dead: bool = True

    def __str__(self) -> str:
        what = "the process dies" if self.dead else "the database is lost"
        return f"{what} {'before' if self.before else 'after'} commit {self.number}"


@dataclasses.dataclass(frozen=True)
class Meanwhile(Fault):
    """Something happens before a message is delivered."""

    number: int
    """Which delivery, from 1."""

    what: Literal["cancel", "deadline"]

    def __str__(self) -> str:
        what = "its owner cancels it" if self.what == "cancel" else "its deadline passes"
        return f"before delivery {self.number}, {what}"


@dataclasses.dataclass(frozen=True)
class Told(Fault):
    """What ends a wait comes in another way than it should."""

    step: str
    how: Literal["early", "twice", "late", "no", "never"]

    def __str__(self) -> str:
        return f"{self.step} is told " + {
            "early": "while it is still being done",
            "twice": "twice, and once more under another event id",
            "late": "after the saga was cancelled and undone",
            "no": "no",
            "never": "nothing: its limit passes",
        }[self.how]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Outside(Fault):
    """A call to a provider brings no answer."""

    path: str
    how: Literal["lost", "dropped"]
    time: int = 1

    def __str__(self) -> str:
        what = "is done, and its answer is lost" if self.how == "lost" else "does not get through"
        return f"call {self.time} of {self.path} {what}"


@dataclasses.dataclass(frozen=True)
class Again(Fault):
    """Once all is over, every message comes once more."""

    def __str__(self) -> str:
        return "when all is over, every message comes once more"
