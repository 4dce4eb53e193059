"""What people may do to a saga: its owner cancels it, operators intervene. Each loses races cleanly (I3).

Every operation locks the row, checks that it applies, writes an event with the actor and the reason, and
leaves the rest to the ordinary ways: nothing here performs a step.

The owner's cancellation is a wish, whatever the saga has come to. Everything else is an intervention, an
operator's decision: it names what it was decided on (`Seen`), is refused under the lock if the saga has moved
on since, and applies when its predicate in `refusals` says so, which the console's preview asks as well.

- The step and the direction must be the same for every intervention. That the engine has tried the same step
  again meanwhile, as it does by itself for a saga that needs attention, makes no difference to an operator
  who wants it tried again, held, or undone.
- It does make one to `resolve`, `skip` and `close`, which say how things stand: another attempt with the same
  key may have changed that after the operator looked. For them the step's state and its attempts must be the
  same too. An operator who needs time for such a decision holds the saga first.
"""

import datetime
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.utils.translation import gettext as _

from sagas import database, errors, models, reading
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import (
    approvals,
    calls,
    children,
    circuits,
    dispatching,
    failures,
    parallel,
    refusals,
    store,
    transitions,
)
from sagas.engine.failures import Failure
from sagas.engine.kinds import Clock, EventKind, FailureKind
from sagas.engine.refusals import ARCHIVED
from sagas.engine.seen import Seen
from sagas.engine.store import NOW, UnitOfWork
from sagas.models import SagaInstance

logger = logging.getLogger("sagas")


def look(saga_id: uuid.UUID | str, step: str | None = None) -> Seen:
    """How the saga stands now: what an intervention that is decided on it names. Takes no lock.

    Arguments:
        saga_id: the saga.
        step: of a stage whose steps are done at once, the one that is meant; by default its first.

    Raises:
        NotFound: there is no such saga, or no such step.
    """
    steps = list(models.StepInstance.objects.select_related("saga").filter(saga__pk=saga_id))
    if not steps and (found := reading.archived(saga_id)):
        steps = found.steps
    if not steps:
        raise errors.NotFound(f"There is no saga {saga_id}.")
    saga = steps[0].saga
    if step is None:
        return Seen.of(saga, steps[min(saga.position, len(steps) - 1)])
    for row in steps:
        if row.name == step:
            return Seen.of(saga, row)
    raise errors.NotFound(f"There is no saga {saga_id} with a step {step}.")


def cancel(saga_id: uuid.UUID | str, *, actor: str, reason: str) -> SagaInstance:
    """Have the saga undone because its owner no longer wants it.

    At once where no attempt is under way; else when it has ended. A saga that is
    being undone already is left as it is.

    Arguments:
        saga_id: the saga.
        actor: who asked for it, for the event.
        reason: why, in words.

    Returns:
        The saga's row.

    Raises:
        TooLate: it has ended, or is past its pivot.
        NotFound: there is no such saga.
        Busy: somebody else is at it just now; nothing was changed.
    """
    with _locked(saga_id) as work:
        decide_cancel(work, actor=actor, reason=reason)
    return work.saga


def decide_cancel(work: UnitOfWork, *, actor: str, reason: str) -> None:
    """The same for a saga that is locked.

    Raises:
        TooLate: it has ended, or is past its pivot.
    """
    saga = work.saga
    over = saga.is_final or saga.closed_at is not None or children.waits_for_parent(saga)
    if over or transitions.past_pivot(saga, work.step):
        raise errors.TooLate(_state(saga, "cannot be cancelled"), state=saga.state)
    if saga.direction == Direction.BACKWARD or saga.cancel_requested_at is not None:
        return
    work.note(EventKind.CANCEL_REQUESTED, actor=actor, reason=reason)
    work.set(cancel_requested_at=NOW, cancel_actor=actor, cancel_reason=reason)
    children.report(work)
    _compensate_if_free(work, FailureKind.CANCELLED, actor=actor, reason=reason)


def compensate(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Have the saga undone because an operator says so.

    Arguments:
        saga_id: the saga.
        seen: how the saga stood when the operator looked at it: `look` says so.
        actor: who decides so, for the event.
        reason: why, in words.

    Returns:
        The saga's row.

    Raises:
        NotFound: there is no such saga.
        TooLate: it is in the archive.
        Busy: somebody else is at it just now; nothing was changed.
        MovedOn: it is not as it was seen.
        NotAllowed: it has ended, is past its pivot, or is being undone already, or will be.
    """
    with _intervention(saga_id, seen, refusals.compensate) as work:
        saga = work.saga
        work.note(EventKind.OPERATOR_COMPENSATE, actor=actor, reason=reason, data=_on(seen))
        work.set(cancel_requested_at=NOW, cancel_actor=actor, cancel_reason=reason)
        children.report(work)
        _compensate_if_free(work, FailureKind.OPERATOR, actor=actor, reason=reason)
    return saga


def retry(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Make the next attempt now, instead of when its pause is over.

    Arguments:
        saga_id: the saga.
        seen: how the saga stood when the operator looked at it: `look` says so.
        actor: who decides so, for the event.
        reason: why, in words.

    Returns:
        The saga's row.

    Raises:
        NotFound: there is no such saga.
        TooLate: it is in the archive.
        Busy: somebody else is at it just now; nothing was changed.
        MovedOn: it is not as it was seen.
        NotAllowed: it has ended, needs attention, waits, or is held, an attempt is under way, or the step's
            turn to be undone has not come.
    """
    return _try_now(saga_id, refusals.retry, seen=seen, actor=actor, reason=reason)


def resume(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Let what needs attention go on, with another attempt now.

    Arguments:
        saga_id: the saga.
        seen: how the saga stood when the operator looked at it: `look` says so.
        actor: who decides so, for the event.
        reason: why, in words.

    Returns:
        The saga's row.

    Raises:
        NotFound: there is no such saga.
        TooLate: it is in the archive.
        Busy: somebody else is at it just now; nothing was changed.
        MovedOn: it is not as it was seen.
        NotAllowed: it needs no attention, or is held, or an attempt is under way.
    """
    return _try_now(saga_id, refusals.resume, seen=seen, actor=actor, reason=reason)


def ask(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Ask the provider now what became of the step at hand, instead of waiting for its word.

    Nothing is asked here: the step is sent on its way, and a step whose outcome is unknown, or that
    waits, asks before anything else (U2). One that then turns out never to have happened is done, or,
    where it waited, has failed.

    Arguments:
        saga_id: the saga.
        seen: how the saga stood when the operator looked at it: `look` says so.
        actor: who decides so, for the event.
        reason: why, in words.

    Returns:
        The saga's row.

    Raises:
        NotFound: there is no such saga.
        TooLate: it is in the archive.
        Busy: somebody else is at it just now; nothing was changed.
        MovedOn: it is not as it was seen.
        NotAllowed: its outcome is not in doubt, nobody can be asked, it is held, or an attempt is under way.
    """
    with _intervention(saga_id, seen, refusals.ask) as work:
        saga, step = work.saga, work.step
        work.note(EventKind.OPERATOR_ASK, subject=step.name, actor=actor, reason=reason, data=_on(seen))
        _go_on(work, actor=actor, reason=reason)
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
    2. Forward, did not: the step has failed, and the saga compensates; past the pivot it is tried again.
    3. Backward, happened: the step is undone, and the saga goes on backwards.
    4. Backward, did not: its undo is tried again, if its turn has come.

    Arguments:
        saga_id: the saga.
        seen: how the saga stood when the operator looked at it: `look` says so.
        happened: whether it took effect.
        actor: who decides so, for the event.
        reason: why, in words.
        facts: what the action put out, each by its name, where it happened.

    Returns:
        The saga's row.

    Raises:
        NotFound: there is no such saga.
        TooLate: it is in the archive.
        Busy: somebody else is at it just now; nothing was changed.
        MovedOn: it is not as it was seen.
        NotAllowed: nobody doubts the step's outcome, facts are missing, an attempt is under way, or another
            step of its stage is to be undone first.
        BadFacts: the facts are not JSON that can be kept.
    """
    facts = store.storable(facts)
    with _intervention(saga_id, seen, refusals.resolve, attempt=True) as work:
        saga, step = work.saga, work.step
        data = {"happened": happened, "facts": facts, **_on(seen)}
        work.note(EventKind.OPERATOR_RESOLVE, subject=step.name, actor=actor, reason=reason, data=data)
        said = {"actor": actor, "reason": reason}
        if saga.direction == Direction.BACKWARD:
            _resolve_undo(work, happened, said)
        else:
            _resolve_action(work, happened, facts, said)
    return saga


def approve(
    saga_id: uuid.UUID | str,
    step: str,
    *,
    actor: str,
    reason: str = "",
    facts: dict[str, Any] | None = None,
    through: str = "",
) -> SagaInstance:
    """Say yes where an approval is waited for. Whoever calls this has seen to it that the actor may.

    Arguments:
        saga_id: the saga.
        step: the approval's name.
        actor: who says so. Where several must, each counts once, logged in or with a link (`link:` before
            the name).
        reason: why, in words.
        facts: what the approval puts out, each by its name. Where several persons must say so, all of them
            state the same: what one enters, the other confirms.
        through: which way it came, such as the console; kept with the event.

    Raises:
        NotFound: the saga has no such step.
        NotAllowed: nobody is asked for it now, the actor has approved already, facts are missing, or they
            are not those that the others stated.
        BadFacts: the facts are not JSON that can be kept.
    """
    facts = store.storable(facts)
    with _answered(saga_id, step) as work:
        declared = approvals.declared(work)
        event: dict[str, Any] = {"actor": actor, "reason": reason}
        if approvals.person(actor) in [approvals.person(one["actor"]) for one in approvals.given(work)]:
            why = _("You have approved it already: another person must, too.")
            raise errors.NotAllowed(why, state=work.saga.state)
        if set(facts) != set(declared.outputs):
            wanted = ", ".join(sorted(declared.outputs)) or _("none")
            raise errors.NotAllowed(
                _("State exactly these facts: %(names)s.") % {"names": wanted}, state=work.saga.state
            )
        if others := approvals.stated_otherwise(work, facts):
            why = _(
                "Somebody who approved before stated something else: %(names)s. State the same, or refuse."
            )
            raise errors.NotAllowed(why % {"names": ", ".join(others)}, state=work.saga.state)
        data = ({"facts": facts} if facts else {}) | _through(through)
        work.note(EventKind.APPROVAL_GIVEN, subject=step, data=data, **event)
        dispatching.follow(work, transitions.approve(work, facts, **event))
    return work.saga


def refuse(
    saga_id: uuid.UUID | str, step: str, *, actor: str, reason: str, through: str = ""
) -> SagaInstance:
    """Say no where an approval is waited for: the saga compensates.

    Arguments:
        saga_id: the saga.
        step: the approval's name.
        actor: who says so.
        reason: why, in words.
        through: which way it came, such as the console; kept with the event.

    Returns:
        The saga's row.

    Raises:
        NotFound: the saga has no such step.
        NotAllowed: nobody is asked for it now.
    """
    with _answered(saga_id, step) as work:
        event: dict[str, Any] = {"actor": actor, "reason": reason}
        work.note(EventKind.APPROVAL_REFUSED, subject=step, data=_through(through), **event)
        failure = failures.failure(work.step, FailureKind.REFUSED, now=work.now, message=reason)
        dispatching.follow(work, transitions.fail(work, failure, provable=True, **event))
    return work.saga


@contextmanager
def _answered(saga_id: uuid.UUID | str, name: str) -> Iterator[UnitOfWork]:
    """Lock the saga and have the approval of that name at hand, if an answer is wanted.

    Raises:
        NotFound: the saga has no such step.
        NotAllowed: nobody is asked for it now.
    """
    with _locked(saga_id, name) as work:
        if why := refusals.answer(work.saga, work.step, refusals.declaration(work.saga), work.now):
            raise errors.NotAllowed(why, state=work.saga.state)
        if (work.saga.attention or {}).get("step") == name:
            approvals.ask(work)  # Where others must answer too, they have as much time as at first.
            transitions.reopen(work)
        yield work


def hold(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Begin nothing new until it is released; an attempt under way still ends.

    Arguments:
        saga_id: the saga.
        seen: how the saga stood when the operator looked at it: `look` says so.
        actor: who decides so, for the event.
        reason: why, in words.

    Returns:
        The saga's row.

    Raises:
        NotFound: there is no such saga.
        TooLate: it is in the archive.
        Busy: somebody else is at it just now; nothing was changed.
        MovedOn: it is not as it was seen.
        NotAllowed: it has ended, or is held.
    """
    with _intervention(saga_id, seen, refusals.hold) as work:
        saga = work.saga
        work.note(EventKind.OPERATOR_HOLD, actor=actor, reason=reason, data=_on(seen))
        work.set(held_at=NOW)
    return saga


def release(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Let a held saga go on.

    Arguments:
        saga_id: the saga.
        seen: how the saga stood when the operator looked at it: `look` says so.
        actor: who decides so, for the event.
        reason: why, in words.

    Returns:
        The saga's row.

    Raises:
        NotFound: there is no such saga.
        TooLate: it is in the archive.
        Busy: somebody else is at it just now; nothing was changed.
        MovedOn: it is not as it was seen.
        NotAllowed: it is not held.
    """
    with _intervention(saga_id, seen, refusals.release) as work:
        saga = work.saga
        work.note(EventKind.OPERATOR_RELEASE, actor=actor, reason=reason, data=_on(seen))
        work.set(held_at=None)
        begins_later = saga.epoch == 0 and saga.wake_at is not None and saga.wake_at > work.now
        free = work.stage.parallel is not None or parallel.is_free(work.step, work.now)
        if saga.state != SagaState.NEEDS_ATTENTION and free and not begins_later:
            dispatching.dispatch(work)
    return saga


def extend(
    saga_id: uuid.UUID | str, *, by: datetime.timedelta, seen: Seen, actor: str, reason: str
) -> SagaInstance:
    """Give the direction it now goes in more time, from its deadline or from now, whichever is later.

    Arguments:
        saga_id: the saga.
        by: how much more.
        seen: how the saga stood when the operator looked at it: `look` says so.
        actor: who decides so, for the event.
        reason: why, in words.

    Returns:
        The saga's row.

    Raises:
        NotFound: there is no such saga.
        TooLate: it is in the archive.
        Busy: somebody else is at it just now; nothing was changed.
        MovedOn: it is not as it was seen.
        NotAllowed: it has ended, or the time is not positive.
    """
    with _intervention(saga_id, seen, refusals.extend) as work:
        saga = work.saga
        if by <= datetime.timedelta(0):
            raise errors.NotAllowed(_state(saga, "cannot be given more time"), state=saga.state)
        deadline = max(saga.deadline_at or work.now, work.now) + by
        data = {"deadline_at": deadline.isoformat(), **_on(seen)}
        work.note(EventKind.OPERATOR_EXTEND, actor=actor, reason=reason, data=data)
        work.set(deadline_at=deadline)
    return saga


def skip(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Leave out the step at hand, which its declaration calls optional.

    Arguments:
        saga_id: the saga.
        seen: how the saga stood when the operator looked at it: `look` says so.
        actor: who decides so, for the event.
        reason: why, in words.

    Returns:
        The saga's row.

    Raises:
        NotFound: there is no such saga.
        TooLate: it is in the archive.
        Busy: somebody else is at it just now; nothing was changed.
        MovedOn: it is not as it was seen.
        NotAllowed: it is not optional, or an attempt at it is under way.
    """
    with _intervention(saga_id, seen, refusals.skip, attempt=True) as work:
        saga = work.saga
        if saga.state == SagaState.NEEDS_ATTENTION:
            transitions.reopen(work, actor=actor, reason=reason)
        work.transition_step(
            StepState.SKIPPED, EventKind.OPERATOR_SKIP, actor=actor, reason=reason, data=_on(seen)
        )
        work.set_step(finished_at=NOW)
        _clear_worker(work)
        dispatching.follow(work, transitions.advance(work))
    return saga


def close(saga_id: uuid.UUID | str, *, seen: Seen, actor: str, reason: str) -> SagaInstance:
    """Put a saga that needs attention aside for good. Nothing is deleted, and nothing is undone.

    Its owner is told in the same transaction: for those who wait for it, this is its end.

    Arguments:
        saga_id: the saga.
        seen: how the saga stood when the operator looked at it: `look` says so.
        actor: who decides so, for the event.
        reason: why, in words.

    Returns:
        The saga's row.

    Raises:
        NotFound: there is no such saga.
        TooLate: it is in the archive.
        Busy: somebody else is at it just now; nothing was changed.
        MovedOn: it is not as it was seen.
        NotAllowed: it does not need attention, is closed, an attempt is under way beside what it was called
            for, or its owner could not take its end.
    """
    with _intervention(saga_id, seen, refusals.close, attempt=True) as work:
        saga = work.saga
        _end_attempts(work)
        # It names the state although that stays the same: who follows the saga's states is to hear of it.
        work.note(
            EventKind.OPERATOR_CLOSE,
            from_state=saga.state,
            to_state=saga.state,
            actor=actor,
            reason=reason,
            data=_on(seen),
        )
        work.set(closed_at=NOW, wake_at=None)
        transitions.close(work)
        _commit_or_refuse(work)
    return saga


def _end_attempts(work: UnitOfWork) -> None:
    """Nobody records anything of a saga that is put aside: what came of it would move it again.

    Raises:
        NotAllowed: the lease of an attempt lives.
    """
    if refusals.declaration(work.saga) is None:
        return
    for row in work.members(work.stage):
        if row.state not in parallel.AT_WORK:
            continue
        if why := refusals.at_work(row, work.now):
            raise errors.NotAllowed(why, state=work.saga.state)
        with work.at(row):
            _write_off(work)


def _write_off(work: UnitOfWork) -> None:
    """Nobody records what came of the step's attempt, whose lease is over."""
    work.set_step(fence=work.step.fence + 1, lease_until=None)
    if work.step.state == StepState.RUNNING:
        transitions.mark_unknown(work, {"clock": Clock.LEASE})


@contextmanager
def _locked(saga_id: uuid.UUID | str, step: str | None = None) -> Iterator[UnitOfWork]:
    """Lock the saga at its position, or at the named step, and commit at the end what was collected.

    Raises:
        TooLate: it is in the archive.
        Busy: a lock was not given in time; a person is told so instead of being kept waiting.
    """
    try:
        with transaction.atomic():
            work = store.lock(saga_id, step)
            yield work
            if work.collected:
                work.commit()
    except errors.NotFound:
        if found := reading.archived(saga_id):
            raise errors.TooLate(_(ARCHIVED), state=found.saga.state) from None
        raise
    except Exception as error:
        if database.is_busy(error):
            raise errors.Busy(
                _("Somebody else is at this saga just now: nothing was changed. Try again in a few seconds.")
            ) from error
        raise


@contextmanager
def _intervention(
    saga_id: uuid.UUID | str, seen: Seen, refusal: refusals.Refusal, *, attempt: bool = False
) -> Iterator[UnitOfWork]:
    """Do the same for an operator: refuse where the saga has moved on, or where the predicate refuses.

    Raises:
        MovedOn: it is not as it was seen.
        NotAllowed: the intervention is not possible now.
    """
    with _locked(saga_id) as work, work.at(meant(work, seen)):
        saga, step = work.saga, work.step
        seen.require(saga, step, attempt=attempt)
        if why := refusal(saga, step, refusals.declaration(saga), work.now):
            raise errors.NotAllowed(why, state=saga.state)
        yield work


def meant(work: UnitOfWork, seen: Seen) -> models.StepInstance:
    """The step that the person looked at: of a stage that is done at once, any; else the one at hand."""
    if refusals.declaration(work.saga) is None or work.stage.parallel is None:
        return work.step
    return next((row for row in work.members(work.stage) if row.name == seen.step), work.step)


def _commit_or_refuse(work: UnitOfWork) -> None:
    """Commit; if the saga's owner cannot take that, the intervention is refused with what it said.

    Raises:
        NotAllowed: the owner's hook failed.
    """
    try:
        work.commit()
    except (OperationalError, InterfaceError, errors.LostRace):
        raise
    except Exception as error:
        logger.exception("the hook that tells of a saga's being put aside met a bug")
        why = f"Its owner could not take that: {type(error).__name__}: {failures.text_of(error)}"
        raise errors.NotAllowed(why, state=work.saga.state) from error


def _try_now(
    saga_id: uuid.UUID | str, refusal: refusals.Refusal, *, seen: Seen, actor: str, reason: str
) -> SagaInstance:
    with _intervention(saga_id, seen, refusal) as work:
        work.note(
            EventKind.OPERATOR_RETRY, subject=work.step.name, actor=actor, reason=reason, data=_on(seen)
        )
        _go_on(work, actor=actor, reason=reason)
    return work.saga


def _compensate_if_free(work: UnitOfWork, kind: FailureKind, *, actor: str, reason: str) -> None:
    if transitions.compensate_when_free(work, kind, actor=actor, reason=reason):
        dispatching.dispatch(work)


def _resolve_action(work: UnitOfWork, happened: bool, facts: dict[str, Any], event: dict[str, Any]) -> None:
    saga, step, declared = work.saga, work.step, work.declared_step
    if step.state == StepState.RUNNING:
        _write_off(work)
    if happened:
        if missing := calls.missing_facts(declared, step, facts):
            raise errors.NotAllowed(f"{step.name} gives {missing}; state these facts.", state=saga.state)
        if saga.state == SagaState.NEEDS_ATTENTION:
            transitions.reopen(work, **event)
        transitions.finish_step(work, {**(step.facts or {}), **facts}, **event)
        _clear_worker(work)
        dispatching.follow(work, transitions.advance(work))
    elif declared.kind == "retriable":
        if step.state == StepState.UNKNOWN:
            work.transition_step(StepState.PENDING, EventKind.STEP_REOPENED, **event)
        _go_on(work, **event)
    else:
        failure = (
            Failure.from_json(step.error)
            if step.error
            else failures.failure(step, FailureKind.OPERATOR, now=work.now, message=event["reason"])
        )
        if step.state != StepState.FAILED:
            data = failure.as_json()
            work.transition_step(
                StepState.FAILED, EventKind.STEP_FAILED, attempt=step.attempts, data=data, **event
            )
        if saga.state == SagaState.NEEDS_ATTENTION:
            work.set(attention=None)
        transitions.start_compensation(work, failure, **event)
        dispatching.dispatch(work)


def _resolve_undo(work: UnitOfWork, happened: bool, event: dict[str, Any]) -> None:
    if not happened:
        if why := refusals.not_its_turn(work.saga, work.step, work.declared, work.now):
            raise errors.NotAllowed(why, state=work.saga.state)
        _go_on(work, **event)
        return
    if work.saga.state == SagaState.NEEDS_ATTENTION:
        transitions.reopen(work, **event)
    attempts = work.step.undo_attempts
    work.transition_step(StepState.UNDONE, EventKind.UNDO_DONE, attempt=attempts, **event)
    work.set_step(undone_at=NOW)
    _clear_worker(work)
    dispatching.follow(work, transitions.advance(work))


def _clear_worker(work: UnitOfWork) -> None:
    """A person answers for how the step stands now: no worker brought it there, and no task."""
    work.set_step(worker="", task_id="")


def _go_on(work: UnitOfWork, **event: Any) -> None:
    if work.saga.state == SagaState.NEEDS_ATTENTION:
        transitions.resume(work, **event)
    # An operator wants it tried now, and may know that the provider is back.
    circuits.let_through(work.declared_step.queue, work.saga.pk)
    dispatching.dispatch_at_hand(work)


def _through(way: str) -> dict[str, str]:
    """Which way an answer came, for its event."""
    return {"through": way} if way else {}


def _on(seen: Seen) -> dict[str, str]:
    """What an intervention was decided on, for its event."""
    return {"seen": str(seen)}


def _state(saga: SagaInstance, what: str) -> str:
    return f"The saga is {SagaState(saga.state).label.lower()} and {what}."
