"""What people may do to a saga: cancel it, and, with a reason, steer it. Each loses races cleanly (I3).

Every move locks the row, checks that it applies, writes an event with the actor and the reason, and
leaves the rest to the ordinary ways: nothing here performs a step.

Its owner's cancellation is a wish, whatever the saga has come to. Every other move is an operator's decision:
it names what it was decided on (`Seen`), and is refused under the lock if the saga has moved on since.

- The step and the direction must be the same for every move. That the engine has tried the same step again
  meanwhile, as it does by itself for a saga that needs attention, makes no difference to whoever wants it
  tried again, held, or undone.
- It does make one to `resolve`, `skip` and `close`, which say how things stand: another attempt with the same
  key may have changed that after the operator looked. For them the step's state and its attempts must be the
  same too. Who needs time for such a decision holds the saga first.
"""

import datetime
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from sagas import database, errors, models
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import circuits, store, transitions
from sagas.engine.seen import Seen
from sagas.engine.store import NOW, Change, Locked
from sagas.models import SagaInstance


def look(saga_id: uuid.UUID | str) -> Seen:
    """How the saga stands now: what a move that is decided on it names. Takes no lock.

    Raises:
        NotFound: there is no such saga.
    """
    steps = list(models.StepInstance.objects.select_related("saga").filter(saga__pk=saga_id))
    if not steps:
        raise errors.NotFound(f"There is no saga {saga_id}.")
    saga = steps[0].saga
    return Seen.of(saga, steps[min(saga.position, len(steps) - 1)])


def cancel(saga_id: uuid.UUID | str, *, actor: str, reason: str) -> SagaInstance:
    """Have the saga undone because its owner no longer wants it.

    At once where nobody is at a step; else when the attempt under way has ended. A saga that is
    being undone already is left as it is.

    Raises:
        TooLate: it has ended, or is past its pivot.
        NotFound: there is no such saga.
    """
    with _moving(saga_id) as (locked, change):
        saga, step = locked.saga, locked.step
        if _ended(saga) or transitions.past_pivot(saga, step):
            raise errors.TooLate(_state(saga, "cannot be cancelled"), state=saga.state)
        if saga.direction == Direction.BACKWARD or saga.cancel_requested_at is not None:
            return saga
        change.note("cancel.requested", actor=actor, reason=reason)
        change.set(cancel_requested_at=NOW, cancel_actor=actor, cancel_reason=reason)
        _turn_if_free(locked, change, kind="cancelled", actor=actor, reason=reason)
    return saga


def compensate(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Have the saga undone because an operator says so.

    Raises:
        MovedOn: it is not as it was seen.
        NotAllowed: it has ended, is past its pivot, or is being undone already.
    """
    with _moving(saga_id, seen) as (locked, change):
        saga, step = locked.saga, locked.step
        if _ended(saga) or saga.direction == Direction.BACKWARD or transitions.past_pivot(saga, step):
            raise errors.NotAllowed(_state(saga, "cannot be undone by hand"), state=saga.state)
        change.note("operator.compensate", actor=actor, reason=reason, data=_on(seen))
        change.set(cancel_requested_at=NOW, cancel_actor=actor, cancel_reason=reason)
        _turn_if_free(locked, change, kind="operator", actor=actor, reason=reason)
    return saga


def retry(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Try again now: what needs attention, or waits for its next attempt.

    Raises:
        MovedOn: it is not as it was seen.
        NotAllowed: it has ended, or an attempt is under way.
    """
    with _moving(saga_id, seen) as (locked, change):
        saga, step = locked.saga, locked.step
        if _ended(saga) or not transitions.is_free(step, locked.now):
            raise errors.NotAllowed(_state(saga, "has nothing to retry now"), state=saga.state)
        change.note("operator.retry", subject=step.name, actor=actor, reason=reason, data=_on(seen))
        _go_on(change, step, actor=actor, reason=reason)
    return saga


def ask(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Ask the provider now what became of the step at hand, instead of waiting for its word.

    Nothing is asked here: the step is sent on its way, and a step whose outcome is unknown, or that
    waits, asks before anything else (U2). One that then turns out never to have happened is done, or,
    where it waited, has failed.

    Raises:
        MovedOn: it is not as it was seen.
        NotAllowed: its outcome is not in doubt, nobody can be asked, or an attempt is under way.
    """
    with _moving(saga_id, seen) as (locked, change):
        saga, step = locked.saga, locked.step
        doubtful = step.state in (StepState.UNKNOWN, StepState.WAITING)
        if _ended(saga) or not doubtful or saga.direction == Direction.BACKWARD:
            raise errors.NotAllowed(_state(saga, "has no outcome in doubt"), state=saga.state)
        if saga.definition.steps[step.position].ask is None:
            raise errors.NotAllowed(
                f"{step.name} has nobody to ask: its declaration has no `ask`.", state=saga.state
            )
        if not transitions.is_free(step, locked.now):
            raise errors.NotAllowed(_state(saga, "has an attempt under way"), state=saga.state)
        change.note("operator.ask", subject=step.name, actor=actor, reason=reason, data=_on(seen))
        _go_on(change, step, actor=actor, reason=reason)
    return saga


def resolve(
    saga_id: uuid.UUID | str,
    *,
    seen: Seen,
    happened: bool,
    actor: str,
    reason: str,
    facts: dict[str, Any] | None = None,
) -> SagaInstance:
    """Say, with evidence, whether the step's action (or, on the way back, its undo) took effect.

    1. Forward, happened: the step is done, with those facts, and the saga goes on.
    2. Forward, did not: the step has failed, and the saga turns round; past the pivot it is tried again.
    3. Backward, happened: the step is undone, and the saga goes on backwards.
    4. Backward, did not: its undo is tried again.

    Raises:
        MovedOn: it is not as it was seen.
        NotAllowed: nobody doubts the step's outcome, or facts are missing.
        BadFacts: the facts are not JSON that can be kept.
    """
    facts = store.storable(facts)
    with _moving(saga_id, seen, attempt=True) as (locked, change):
        saga, row = locked.saga, locked.step
        if _ended(saga) or not transitions.in_doubt(saga, row):
            raise errors.NotAllowed(
                _state(saga, f"has no doubt about {row.name} to be settled"), state=saga.state
            )
        if not transitions.is_free(row, locked.now):
            raise errors.NotAllowed(_state(saga, "has an attempt under way"), state=saga.state)
        data = {"happened": happened, "facts": facts, **_on(seen)}
        change.note("operator.resolve", subject=row.name, actor=actor, reason=reason, data=data)
        said = {"actor": actor, "reason": reason}
        if saga.direction == Direction.BACKWARD:
            _resolve_undo(change, row, happened, said)
        else:
            _resolve_action(change, row, happened, facts, said)
    return saga


def hold(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Begin nothing new until it is released; an attempt under way still ends.

    Raises:
        MovedOn: it is not as it was seen.
        NotAllowed: it has ended, or is held.
    """
    with _moving(saga_id, seen) as (locked, change):
        saga = locked.saga
        if _ended(saga) or saga.held_at is not None:
            raise errors.NotAllowed(_state(saga, "cannot be held"), state=saga.state)
        change.note("operator.hold", actor=actor, reason=reason, data=_on(seen))
        change.set(held_at=NOW)
    return saga


def release(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Let a held saga go on.

    Raises:
        MovedOn: it is not as it was seen.
        NotAllowed: it is not held.
    """
    with _moving(saga_id, seen) as (locked, change):
        saga = locked.saga
        if _ended(saga) or saga.held_at is None:
            raise errors.NotAllowed(_state(saga, "is not held"), state=saga.state)
        change.note("operator.release", actor=actor, reason=reason, data=_on(seen))
        change.set(held_at=None)
        if saga.state != SagaState.NEEDS_ATTENTION and transitions.is_free(locked.step, locked.now):
            transitions.dispatch(change)
    return saga


def extend(
    saga_id: uuid.UUID | str, *, by: datetime.timedelta, seen: Seen, actor: str, reason: str
) -> SagaInstance:
    """Give the direction it now goes in more time, from its deadline or from now, whichever is later.

    Raises:
        MovedOn: it is not as it was seen.
        NotAllowed: it has ended, or the time is not positive.
    """
    with _moving(saga_id, seen) as (locked, change):
        saga = locked.saga
        if _ended(saga) or by <= datetime.timedelta(0):
            raise errors.NotAllowed(_state(saga, "cannot be given more time"), state=saga.state)
        deadline = max(saga.deadline_at or locked.now, locked.now) + by
        data = {"deadline_at": deadline.isoformat(), **_on(seen)}
        change.note("operator.extend", actor=actor, reason=reason, data=data)
        change.set(deadline_at=deadline)
    return saga


def skip(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Leave out the step at hand, which its declaration calls optional.

    Raises:
        MovedOn: it is not as it was seen.
        NotAllowed: it is not optional, or an attempt at it is under way.
    """
    with _moving(saga_id, seen, attempt=True) as (locked, change):
        saga, row = locked.saga, locked.step
        optional = saga.definition.step(row.name).optional
        forward = not _ended(saga) and saga.direction == Direction.FORWARD
        if not (optional and forward and row.state in (StepState.PENDING, StepState.FAILED)):
            raise errors.NotAllowed(_state(saga, f"cannot skip {row.name}"), state=saga.state)
        if saga.state == SagaState.NEEDS_ATTENTION:
            transitions.revive(change, row, actor=actor, reason=reason)
        change.move_step(row, StepState.SKIPPED, "operator.skip", actor=actor, reason=reason, data=_on(seen))
        change.set_step(row, finished_at=NOW)
        _credit_nobody(change, row)
        transitions.advance(change, row)
        _dispatch_if_live(change)
    return saga


def close(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Put a saga that needs attention aside for good. Nothing is deleted, and nothing is undone.

    Its owner is told in the same transaction: for whoever waits for it, this is its end.

    Raises:
        MovedOn: it is not as it was seen.
        NotAllowed: it does not need attention, is closed, or its owner could not take its end.
    """
    with _moving(saga_id, seen, attempt=True) as (locked, change):
        saga = locked.saga
        if saga.state != SagaState.NEEDS_ATTENTION or saga.closed_at is not None:
            raise errors.NotAllowed(_state(saga, "cannot be closed"), state=saga.state)
        # It names the state although that stays the same: who follows the saga's states is to hear of it.
        change.note(
            "operator.close",
            from_state=saga.state,
            to_state=saga.state,
            actor=actor,
            reason=reason,
            data=_on(seen),
        )
        change.set(closed_at=NOW, wake_at=None)
        transitions.close(change)
    return saga


@contextmanager
def _moving(
    saga_id: uuid.UUID | str, seen: Seen | None = None, *, attempt: bool = False
) -> Iterator[tuple[Locked, Change]]:
    """Lock the instance at its position, hold it against what was seen, and write the change at the end.

    A body that returns early has collected nothing, or everything that it wants written.

    Raises:
        Busy: a lock was not given in time; a person is told so instead of being kept waiting.
    """
    try:
        with transaction.atomic():
            locked = store.lock(saga_id)
            if seen is not None:
                seen.require(locked.saga, locked.step, attempt=attempt)
            change = Change(locked.saga, locked.now)
            yield locked, change
            if change.collected:
                change.write()
    except Exception as error:
        if database.is_busy(error):
            raise errors.Busy(
                _("Somebody else is at this saga just now: nothing was changed. Try again in a few seconds.")
            ) from error
        raise


def _turn_if_free(locked: Locked, change: Change, *, kind: str, actor: str, reason: str) -> None:
    """Turn round at once where nobody is at a step; otherwise the attempt's end finds the request (O2)."""
    if not transitions.is_free(locked.step, locked.now):
        return
    failure = transitions.failure(locked.step, kind, now=locked.now, message=reason)
    transitions.turn(change, locked.step, failure, actor=actor, reason=reason)
    _dispatch_if_live(change)


def _resolve_action(
    change: Change, row: models.StepInstance, happened: bool, facts: dict[str, Any], said: dict[str, Any]
) -> None:
    saga = change.saga
    declared = saga.definition.steps[row.position]
    if happened:
        if missing := transitions.missing_facts(declared, row, facts):
            raise errors.NotAllowed(f"{row.name} gives {missing}; state these facts.", state=saga.state)
        if saga.state == SagaState.NEEDS_ATTENTION:
            transitions.revive(change, row, **said)
        transitions.finish_step(change, row, {**(row.facts or {}), **facts}, **said)
        _credit_nobody(change, row)
        transitions.advance(change, row)
        _dispatch_if_live(change)
    elif declared.kind == "retriable":
        if row.state == StepState.UNKNOWN:
            change.move_step(row, StepState.PENDING, "step.reopened", **said)
        _go_on(change, row, **said)
    else:
        failure = row.error or transitions.failure(row, "operator", now=change.now, message=said["reason"])
        if row.state != StepState.FAILED:
            change.move_step(row, StepState.FAILED, "step.failed", attempt=row.attempts, data=failure, **said)
        if saga.state == SagaState.NEEDS_ATTENTION:
            change.set(attention=None)
        transitions.turn(change, row, failure, **said)
        _dispatch_if_live(change)


def _resolve_undo(change: Change, row: models.StepInstance, happened: bool, said: dict[str, Any]) -> None:
    if not happened:
        _go_on(change, row, **said)
        return
    if change.saga.state == SagaState.NEEDS_ATTENTION:
        transitions.revive(change, row, **said)
    change.move_step(row, StepState.UNDONE, "undo.done", attempt=row.undo_attempts, **said)
    change.set_step(row, undone_at=NOW)
    _credit_nobody(change, row)
    transitions.advance(change, row)
    _dispatch_if_live(change)


def _credit_nobody(change: Change, row: models.StepInstance) -> None:
    """A person answers for how the step stands now: no worker brought it there, and no task."""
    change.set_step(row, worker="", task_id="")


def _go_on(change: Change, row: models.StepInstance, **said: Any) -> None:
    if change.saga.state == SagaState.NEEDS_ATTENTION:
        transitions.resume(change, row, **said)
    # Somebody wants it tried now, and may know that the provider is back.
    circuits.let_through(transitions.queue_of(change.saga), change.saga.pk)
    transitions.dispatch(change, row)


def _dispatch_if_live(change: Change) -> None:
    if not change.saga.is_final:
        transitions.dispatch(change)


def _on(seen: Seen) -> dict[str, str]:
    """What a move was decided on, for its event."""
    return {"seen": str(seen)}


def _ended(saga: SagaInstance) -> bool:
    """Whether nothing moves it any more: it is final, or was put aside for good.

    The sweep leaves alone what was put aside; sent on again, it would have nobody to look after it.
    """
    return saga.is_final or saga.closed_at is not None


def _state(saga: SagaInstance, what: str) -> str:
    return f"The saga is {SagaState(saga.state).label.lower()} and {what}."
