"""How the steps of a declaration lie: which of them are done at once, and under which conditions.

Pure: the standard library only.
"""

import dataclasses
import functools
from collections.abc import Sequence

from sagas.declaration.steps import Parallel, Step


@dataclasses.dataclass(frozen=True)
class Condition:
    """A fact that decides whether a step is done."""

    fact: str
    wanted: bool
    """Whether it must be true (`when`), or must not be (`unless`)."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step, or several that are done at once."""

    first: int
    """The place of its first step in `Saga.all_steps`: while a saga is at the stage, its row's position."""

    steps: tuple[Step, ...]
    parallel: Parallel | None = None
    """What declares them as done at once; None where it is one step."""

    @property
    def last(self) -> int:
        """The place of its last step."""
        return self.first + len(self.steps) - 1

    @property
    def positions(self) -> range:
        """The places of its steps."""
        return range(self.first, self.last + 1)

    @functools.cached_property
    def conditions(self) -> tuple[tuple[Condition, ...], ...]:
        """Of each of its steps, what must hold for it to be done."""
        shared = _conditions(self.parallel) if self.parallel is not None else ()
        return tuple((*shared, *_conditions(step)) for step in self.steps)

    @property
    def is_sent_alone(self) -> bool:
        """Whether it is one step that a worker carries out: with the message of its saga."""
        return self.parallel is None and self.steps[0].has_worker

    @property
    def is_undone_by_message(self) -> bool:
        """Whether it is one step whose undo a worker carries out, or that has nothing to undo."""
        return self.parallel is None and (self.steps[0].has_worker or not self.steps[0].undoable)

    @functools.cached_property
    def is_plain(self) -> bool:
        """Whether it is one step that a worker carries out, whatever the facts."""
        return self.is_sent_alone and not self.conditions[0]


def laid_out(elements: Sequence[Step | Parallel]) -> tuple[Stage, ...]:
    """The stages of a declaration's elements."""
    found: list[Stage] = []
    first = 0
    for element in elements:
        if isinstance(element, Parallel):
            stage = Stage(first, tuple(element.steps), element)
        else:
            stage = Stage(first, (element,))
        found.append(stage)
        first += len(stage.steps)
    return tuple(found)


def _conditions(element: Step | Parallel) -> tuple[Condition, ...]:
    wanted = ((element.when, True), (element.unless, False))
    return tuple(Condition(fact, must) for fact, must in wanted if fact)
