"""Where a stage stands, and where a child stands: no column of a row, but what several columns say together.

docs/lifecycle.md draws its diagrams from the tables here. That the engine moves along them, and along all of
them, the explorer sees to (tests/sagas/test_explorer.py).

Pure: the standard library only.
"""

from collections.abc import Sequence
from typing import Any

from sagas.declaration.stages import Stage
from sagas.declaration.states import Direction, SagaState, State, StepState


class StagePhase(State):
    """Where the steps of a `Parallel` stand, taken together."""

    AHEAD = "ahead"
    """Its turn has not come, and may never: none of its members has begun."""

    UNDER_WAY = "under_way"
    """Its turn has come: each member has a message, a lease and timers of its own, or asks people, or has
    children."""

    DONE = "done"
    """Every member is done or was left out, and the saga is behind it."""

    DRAINING = "draining"
    """The saga has turned round, and attempts are under way: nothing new begins, and nothing is undone."""

    UNDOING = "undoing"
    """The members that began, or may have, are being undone, together or the last begun first."""

    UNDONE = "undone"
    """Nothing of it is left to undo: the turn of what came before it has come."""

    STOPPED = "stopped"
    """A person is called, at one of its members."""


class ChildPhase(State):
    """Where a child stands, in its parent's eyes."""

    LISTED = "listed"
    """Its row is there, with its element. Its parent has not started it."""

    UNDER_WAY = "under_way"
    """Its steps are being done."""

    WAITING = "waiting"
    """All of its steps are done, and it waits for its parent's outcome: nobody but its parent changes it."""

    UNDOING = "undoing"
    """Its steps are being undone."""

    STOPPED = "stopped"
    """It needs a person, and so does its parent."""

    COMPLETED = "completed"
    """Final: it is done, and nothing undoes it any more."""

    COMPENSATED = "compensated"
    """Final: all of it is undone, or it never began."""

    ASIDE = "aside"
    """An operator put it aside: it counts as not done, and as undone."""


def of_stage(stage: Stage, saga: Any, members: Sequence[Any]) -> StagePhase:
    """Where a stage stands.

    Arguments:
        stage: the stage.
        saga: the saga's row.
        members: the rows of the stage's steps.
    """
    if not any(row.is_member or row.state != StepState.PENDING for row in members):
        return StagePhase.AHEAD
    at_hand = saga.position in stage.positions and saga.finished_at is None
    if saga.state == SagaState.NEEDS_ATTENTION and at_hand:
        return StagePhase.STOPPED
    if saga.direction == Direction.FORWARD:
        return StagePhase.UNDER_WAY if at_hand else StagePhase.DONE
    if not at_hand:
        is_left = saga.position > stage.last and saga.finished_at is None
        return StagePhase.DONE if is_left else StagePhase.UNDONE
    drains = any(row.state == StepState.RUNNING for row in members)
    return StagePhase.DRAINING if drains else StagePhase.UNDOING


def of_child(child: Any, steps: int) -> ChildPhase:
    """Where a child stands.

    Arguments:
        child: its row.
        steps: how many steps its declaration has.
    """
    if child.finished_at is not None:
        return ChildPhase(str(child.state))
    if child.closed_at is not None:
        return ChildPhase.ASIDE
    if child.state != SagaState.RUNNING:
        stopped = child.state == SagaState.NEEDS_ATTENTION
        return ChildPhase.STOPPED if stopped else ChildPhase.UNDOING
    if child.position >= steps:
        return ChildPhase.WAITING
    is_listed = child.epoch == 0 and child.in_line_for is None
    return ChildPhase.LISTED if is_listed else ChildPhase.UNDER_WAY
