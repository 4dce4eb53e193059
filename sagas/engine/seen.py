"""What a person decided on: which step, in which direction, and how that step stood when it was shown."""

import dataclasses
import re
from typing import Self

from sagas import errors, models
from sagas.declaration.states import Direction, StepState

PATTERN = (
    "[a-z][a-z0-9]*(-[a-z0-9]+)*"
    f":({'|'.join(direction.name.lower() for direction in Direction)})"
    f":({'|'.join(StepState.values())})"
    ":[0-9]{1,9}"
)
"""The text form, as a regular expression: step, direction, the step's state, attempts."""

LONGEST = 100
"""Characters of the text form: a step's name has 50 at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """How a saga stood when a person looked at it.

    Every intervention names it, and is refused where the saga has moved on. The epoch would not do in its
    place: it also rises when a lost message is sent again and at every poll of a wait, where nothing was
    learned; and it stays when a callback makes a waiting step fail.
    """

    step: str
    """The step at the saga's position; the last one when all are done."""

    direction: Direction

    state: StepState
    """The step's, not the saga's."""

    attempt: int
    """How many attempts had been made in that direction."""

    @classmethod
    def of(cls, saga: models.SagaInstance, step: models.StepInstance) -> Self:
        """How the saga stands, from its row and from that of the step at its position."""
        direction = Direction(saga.direction)
        return cls(
            step=step.name,
            direction=direction,
            state=StepState(step.state),
            attempt=step.attempts if direction == Direction.FORWARD else step.undo_attempts,
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the one text form, such as `take-payment:forward:waiting:1`.

        Raises:
            BadSeen: it is not of that form.
        """
        if len(text) > LONGEST or not re.fullmatch(PATTERN, text):
            raise errors.BadSeen
        step, direction, state, attempt = text.split(":")
        return cls(
            step=step,
            direction=Direction[direction.upper()],
            state=StepState(state),
            attempt=int(attempt),
        )

    def __str__(self) -> str:
        return f"{self.step}:{self.direction.name.lower()}:{self.state.value}:{self.attempt}"

    def require(self, saga: models.SagaInstance, step: models.StepInstance, *, attempt: bool) -> None:
        """Refuse what was decided on something else than what stands now.

        Arguments:
            saga: the saga; locked, where the answer must still be true when it is acted upon.
            step: the step at its position.
            attempt: whether the step's state and its attempts must be the same too, and not only the step
                and the direction. They must for whatever says how things stand at the provider: an attempt
                that was made since may have changed that.

        Raises:
            MovedOn: it stands elsewhere now.
        """
        now = Seen.of(saga, step)
        same = self == now if attempt else (self.step, self.direction) == (now.step, now.direction)
        if not same:
            raise errors.MovedOn(state=saga.state, seen=str(self), stands=str(now))
