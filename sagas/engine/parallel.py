"""Steps that are done at once (`Parallel`): which of them are due, and how a stage is left.

1. The members start in any order, each with its own message, fence, lease, attempts and key. Whoever records
   the last one, under the lock of the saga's row, advances the saga; nothing counts in the broker.
2. When the saga turns round the stage *drains*: nothing new is claimed, a member that was never claimed is
   skipped, and one with a live lease may record until the lease ends. One that waits is not waited for.
3. While a lease of the stage lives nothing of it is undone (O2). Then every member that began is undone,
   together or in reverse, and nothing below before all of them are (O3).

Nothing new may start, what runs is waited for, what may have happened is undone too: the parts are Medusa's,
Camunda's and Temporal's, none of which has all of them.
"""

import datetime
from collections.abc import Sequence
from typing import Any

from sagas import models
from sagas.declaration import stages
from sagas.declaration.states import StepState
from sagas.engine.kinds import EventKind
from sagas.engine.store import NOW, UnitOfWork

AT_WORK = {StepState.RUNNING, StepState.UNDOING}


def is_free(step: models.StepInstance, now: datetime.datetime) -> bool:
    """Whether no attempt may be under way now, so that others may act on the step (O2)."""
    return step.lease_until is None or step.lease_until <= now or step.state not in AT_WORK


def is_draining(work: UnitOfWork) -> bool:
    """Whether the saga has turned round, and it is not written what came of an attempt in its stage.

    That is so until the attempt is recorded, or its lease has ended and somebody has written that it did.
    """
    return not work.forward and any(row.state == StepState.RUNNING for row in work.members(work.stage))


def busy_until(work: UnitOfWork) -> datetime.datetime | None:
    """When the last lease of an action of the stage ends; None where none lives."""
    leases = [
        row.lease_until
        for row in work.members(work.stage)
        if row.state == StepState.RUNNING and row.lease_until is not None and row.lease_until > work.now
    ]
    return max(leases, default=None)


def is_done(work: UnitOfWork) -> bool:
    """Whether every member of the stage is done, or was left out."""
    return all(row.state in (StepState.DONE, StepState.SKIPPED) for row in work.members(work.stage))


def to_undo(work: UnitOfWork) -> list[models.StepInstance]:
    """The members that began, or may have, and are not undone yet: the last begun first."""
    return left_to_undo(work.stage, work.members(work.stage), work.now)


def left_to_undo(
    stage: stages.Stage, rows: Sequence[models.StepInstance], now: datetime.datetime
) -> list[models.StepInstance]:
    """The same of the rows of a stage's members, in their order."""
    left = [
        row
        for row, step in zip(rows, stage.steps, strict=True)
        if step.undoable and row.begun and row.state != StepState.UNDONE
    ]
    return sorted(left, key=lambda row: (row.started_at or now, row.position), reverse=True)


def due(work: UnitOfWork) -> list[models.StepInstance]:
    """The members that are to be sent on their way again.

    Forwards those that are to be tried, or whose worker has vanished; a wait has a timer of its own. Back
    those that are to be undone, and one whose undo failed only when nothing else is left: then somebody has
    said that it is to be tried again.
    """
    if not work.forward:
        return _to_undo_now(work)
    wanted = (StepState.PENDING, StepState.UNKNOWN, StepState.RUNNING)
    rows = [row for row in work.members(work.stage) if row.state in wanted and row.is_member]
    return [row for row in rows if is_free(row, work.now)]


def is_wanted(work: UnitOfWork) -> bool:
    """Whether the step at hand may be sent on its way now: it is due, or somebody wants it tried already.

    That is so of one that waits, which is asked about, and of one whose undo failed beside others.
    """
    if work.forward:
        waits = work.step.state == StepState.WAITING and work.declared_step.has_worker
        return waits or work.step in due(work)
    return is_undo_wanted(work.stage, work.members(work.stage), work.step, work.now)


def is_undo_wanted(
    stage: stages.Stage,
    rows: Sequence[models.StepInstance],
    step: models.StepInstance,
    now: datetime.datetime,
) -> bool:
    """The same on the way back, of one of the rows of a stage's members."""
    together = stage.parallel is not None and stage.parallel.undo == "together"
    failed = together and step.state == StepState.UNDO_FAILED
    return failed or step in undo_now(stage, rows, now)


def _to_undo_now(work: UnitOfWork) -> list[models.StepInstance]:
    return undo_now(work.stage, work.members(work.stage), work.now)


def in_turn(
    stage: stages.Stage, rows: Sequence[models.StepInstance], now: datetime.datetime
) -> list[models.StepInstance]:
    """Those that come next, in their order: one whose undo failed only when no other is left."""
    left = left_to_undo(stage, rows, now)
    return [row for row in left if row.state != StepState.UNDO_FAILED] or left


def undo_now(
    stage: stages.Stage, rows: Sequence[models.StepInstance], now: datetime.datetime
) -> list[models.StepInstance]:
    """Of the rows of a stage's members those that are to be undone now; while it drains none is."""
    if any(row.state == StepState.RUNNING for row in rows):
        return []
    left = in_turn(stage, rows, now)
    if stage.parallel is not None and stage.parallel.undo == "reverse":
        left = left[:1]
    return [row for row in left if is_free(row, now)]


def undo_failed(work: UnitOfWork) -> models.StepInstance | None:
    """The member for which a person is called: one whose undo failed, where no other is left to be undone."""
    left = to_undo(work)
    failed = [row for row in left if row.state == StepState.UNDO_FAILED]
    return failed[0] if failed and len(failed) == len(left) else None


def undo_next(work: UnitOfWork) -> list[models.StepInstance]:
    """The member to be undone next, where they are undone one after the other."""
    parallel = work.stage.parallel
    return _to_undo_now(work) if parallel is not None and parallel.undo == "reverse" else []


def merge_outputs(work: UnitOfWork, stage: stages.Stage) -> None:
    """What the members put out is there for later steps; their secrets are struck out."""
    facts: dict[str, Any] = dict(work.saga.facts)
    for row, step in zip(work.members(stage), stage.steps, strict=True):
        if row.state == StepState.DONE:
            facts |= {name: (row.facts or {}).get(name) for name in step.outputs}
    kept = facts
    for step in stage.steps:
        kept = step.without_secrets(kept)
    if kept != work.saga.facts:
        work.set(facts=kept)
    work.forget(name for step in stage.steps for name in step.secrets)


def drain(work: UnitOfWork) -> None:
    """The saga turns round: nothing of the stage begins any more, and no message of it is expected."""
    for row in work.members(work.stage):
        if not is_free(row, work.now):
            continue
        with work.at(row):
            if row.is_member:
                work.set_step(wake_at=None, dispatched_at=None, dispatches=0, parked_for=None)
            if row.state == StepState.PENDING and not row.attempts:
                work.transition_step(StepState.SKIPPED, EventKind.STEP_SKIPPED)
                work.set_step(finished_at=NOW)
            elif row.state == StepState.WAITING and not work.declared_step.undoable:
                work.transition_step(StepState.UNDONE, EventKind.UNDO_DONE)
                work.set_step(undone_at=NOW, wait_until=None)
