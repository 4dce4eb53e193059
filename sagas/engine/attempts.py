"""What one attempt at a step is, what came of it, and what the chain that carried it is to do next."""

import contextlib
import dataclasses
import datetime
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from sagas import models
from sagas.declaration import definition
from sagas.declaration.states import Direction
from sagas.engine import transport
from sagas.engine.kinds import Clock, Next, OutcomeKind


def _unlimited(longest: datetime.timedelta) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext()


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """What carries out a step: kept on its row, so that an operator finds the task and the worker."""

    task_id: str = ""
    worker: str = ""
    interrupts: tuple[type[BaseException], ...] = ()
    """What the worker raises into a function that takes too long."""

    limit: Callable[[datetime.timedelta], contextlib.AbstractContextManager[object]] = _unlimited
    """Holds one call of a function to the time that it may take, where the worker can."""


class Lane(Protocol):
    """Whether a worker that has recorded a step goes on with the next one at once, in the same task."""

    def takes(self, dispatch: transport.Dispatch) -> bool:
        """Whether this worker may carry out the dispatch's first step itself, and now."""

    def enter(self, dispatch: transport.Dispatch) -> WorkerContext:
        """It does so: what it carries the step out as."""

    def turn(self) -> None:
        """The step that entered last has failed, and its saga goes back from here."""


class NoLane:
    """Every step is left to its own message."""

    def takes(self, dispatch: transport.Dispatch) -> bool:
        """None is taken."""
        return False

    def enter(self, dispatch: transport.Dispatch) -> WorkerContext:
        """Nothing enters."""
        raise NotImplementedError("a lane that takes nothing is entered by nothing")

    def turn(self) -> None:
        """Nothing turns."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What the chain is to do next, and what to send where the chain ends here."""

    next: Next
    dispatch: transport.Dispatch | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepMessage:
    """What a step's message says, and the worker that it reached."""

    saga_id: uuid.UUID | str
    epoch: int
    step: str
    direction: Direction
    context: WorkerContext
    waited: datetime.timedelta | None = None
    """How long it was under way, once that has been looked at."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a step: what to call, and the fence that its record must still hold."""

    message: StepMessage
    declared: definition.Saga
    step: definition.Step
    row: models.StepInstance
    fence: int
    begun_at: datetime.datetime
    """By the database's clock."""

    waited: datetime.timedelta
    """How long its message was under way."""

    claimed: bool
    """Whether the intent was written; a local step needs none, its action and record being one."""

    doubtful: bool = False
    """Whether an earlier attempt may have happened: ask first (U2). Only an answer ends the doubt."""

    only_asks: bool = False
    """The step waits: ask, and do nothing."""

    @property
    def undo(self) -> bool:
        """Whether it is an attempt at the step's undo."""
        return self.message.direction == Direction.BACKWARD


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an attempt."""

    kind: OutcomeKind
    facts: dict[str, Any] | None = None
    error: BaseException | None = None
    clock: Clock | None = None
    doubtful: bool = False
    """Whether an earlier attempt may still have happened, though this one did not."""

    owners: bool = False
    """Whether the function went well, and it was the saga's owner who failed."""

    late: bool = False
    """Whether the database was in the way: another session holds a lock that was wanted, or the server is
    away. That is not the step's doing, so no budget of attempts pays for it (R5); deadlines count on."""

    @property
    def done(self) -> bool:
        """Whether it went well."""
        return self.kind == OutcomeKind.DONE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded:
    """What was written, and what came of the attempt in the end: an owner's hook may have failed."""

    outcome: Outcome
    result: Result


STOP = Result(next=Next.STOP)
