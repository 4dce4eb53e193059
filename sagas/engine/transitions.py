"""What a saga may do next: go on, end, compensate, call a person. Each only decides, into a `UnitOfWork`.

Forwards and backwards are one algorithm with a sign: `states.Direction`.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from sagas import errors, models
from sagas.declaration import definition, registry, stages
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import approvals, children, dispatching, failures, messages, parallel
from sagas.engine.failures import Failure
from sagas.engine.kinds import Clock, EventKind, FailureKind, Next
from sagas.engine.store import NOW, After, UnitOfWork

MOST_RESUMES = 1000
"""No more are counted: the pause has long been the longest."""

# --- Forwards -------------------------------------------------------------------------------------


def finish_step(work: UnitOfWork, facts: dict[str, Any], **event: Any) -> None:
    """The action is done: its facts are kept on its row, and its outputs go to later steps."""
    declared = work.declared_step
    work.transition_step(StepState.DONE, EventKind.STEP_DONE, attempt=work.step.attempts, **event)
    work.set_step(finished_at=NOW, wait_until=None, facts=facts, error=None)
    if (declared.outputs or declared.has_secrets) and not work.step.is_member:
        kept = declared.without_secrets(work.saga.facts)
        work.set(facts={**kept, **{name: facts.get(name) for name in declared.outputs}})
        work.forget(declared.secrets)


def advance(work: UnitOfWork) -> Next:
    """The step is done, or undone: the next one is due, or the saga ends."""
    dispatching.unpark(work)
    if work.saga.resumes:
        work.set(resumes=0)
    if work.step.is_member:
        return _advance_member(work)
    if work.forward:
        return enter(work, work.step.position + 1)
    return go_back(work, below=work.step.position)


def _advance_member(work: UnitOfWork) -> Next:
    """Whoever records the last step of a stage advances the saga; anybody else leaves it to the others."""
    work.set_step(wake_at=None, dispatched_at=None)
    stage = work.stage
    if work.forward:
        if not parallel.is_done(work):
            return Next.STOP
        parallel.merge_outputs(work, stage)
        return enter(work, stage.last + 1)
    if not parallel.to_undo(work):
        return go_back(work, below=stage.first)
    return _undo_others(work)


def _undo_others(work: UnitOfWork) -> Next:
    """Members of the stage are still to be undone: the next one, or a person where every one left failed."""
    if (row := parallel.undo_failed(work)) is not None:
        with work.at(row):
            _call_for_undo(work, Failure.from_json(row.error or {}))
        return Next.STOP
    if following := parallel.undo_next(work):
        return dispatching.send_members(work, following)
    return Next.STOP


def enter(work: UnitOfWork, position: int) -> Next:
    """Begin with the first stage from there of which anything is to be done; without any the saga completes.

    What is to be left out is decided here, and only here: the facts are read once.
    """
    declared = work.declared
    _let_children_complete(work, position)
    while position < len(declared.all_steps):
        stage = declared.stage_at(position)
        if chosen := _chosen(work, stage):
            return _begin(work, stage, chosen)
        position = stage.last + 1
    work.set(position=position)
    if children.ends_with_parent(work.saga):
        _wait_for_parent(work)
        return Next.STOP
    _finish(work, SagaState.COMPLETED)
    return Next.CONTINUE


def _let_children_complete(work: UnitOfWork, position: int) -> None:
    """Past the pivot nothing undoes what came before: the children there need not wait any longer."""
    declared, pivot = work.declared, work.declared.pivot
    at_pivot = position == pivot < len(declared.all_steps)
    past = position > pivot or (at_pivot and declared.all_steps[pivot].kind == "retriable")
    before = [step for step in declared.children if declared.positions[step.name] < position]
    if past and before:
        children.complete(work, before)


def _wait_for_parent(work: UnitOfWork) -> None:
    """All of a child's steps are done, and its parent may yet undo it: now the parent's clocks rule."""
    work.note(EventKind.SAGA_WAITING, data={"parent": str(work.saga.parent_id)})
    dispatching.unpark(work)
    work.set(dispatched_at=None, dispatches=1, deadline_at=None, wake_at=After(children.START_LOOK))
    _leave_nothing(work)
    children.report(work)


def start(work: UnitOfWork) -> None:
    """Begin with the first stage, where no message has been sent, and have what is next sent."""
    after = enter(work, 0)
    if work.saga.epoch == 0:
        work.set(epoch=1)  # Its first step was left out: from now on it has begun all the same.
    if work.onward is None and after is Next.CONTINUE and not work.saga.is_final:
        work.onward = dispatching.dispatch_of(work.saga)
    dispatching.follow(work, after)


def left_out_at_first(declared: definition.Saga, facts: Mapping[str, Any]) -> int:
    """How many steps at the beginning a new saga leaves out, where all that comes then is a message.

    It is written as one that stands behind them. Any other enters its first stage, under its lock.
    """
    for stage in declared.stages:
        if stage.is_plain:
            return stage.first
        # Without a condition all of them hold.
        is_done = all(bool(facts.get(each.fact)) is each.wanted for each in stage.conditions[0])
        if stage.parallel is not None or is_done:
            break
    return 0


def _chosen(work: UnitOfWork, stage: stages.Stage) -> list[int]:
    """The places of those of its steps that are done, in view of the facts; the others are skipped."""
    chosen = []
    for position, step, conditions in zip(stage.positions, stage.steps, stage.conditions, strict=True):
        if not conditions:
            chosen.append(position)
            continue
        facts = {each.fact: bool(work.saga.facts.get(each.fact)) for each in conditions}
        if all(facts[each.fact] is each.wanted for each in conditions):
            chosen.append(position)
            work.note(EventKind.STEP_CHOSEN, subject=step.name, data={"facts": facts})
        else:
            row = work.members(stage)[position - stage.first]
            with work.at(row):
                work.transition_step(StepState.SKIPPED, EventKind.STEP_SKIPPED, data={"facts": facts})
                work.set_step(finished_at=NOW)
    return chosen


def _begin(work: UnitOfWork, stage: stages.Stage, chosen: Sequence[int]) -> Next:
    """The stage's turn has come, for those of its steps that are to be done."""
    before = work.declared.stage_at(work.step.position)
    # A chain leads from a step to the plain ones right behind it, and to nothing else.
    chained = stage.is_plain and before.is_sent_alone and stage.first == before.last + 1
    work.set(position=stage.first)
    if not chained:
        work.set(epoch=work.saga.epoch + 1)
    if stage.is_sent_alone:
        _expect_message(work)
        return Next.CONTINUE
    rows = [work.members(stage)[position - stage.first] for position in chosen]
    if stage.parallel is not None:
        for row in rows:
            with work.at(row):
                work.set_step(epoch=0)
    for row in rows:
        with work.at(row):
            if not work.declared_step.has_worker and begin_without_worker(work) is Next.COMPENSATE:
                return Next.COMPENSATE
    if stage.parallel is None:
        return Next.STOP
    return dispatching.send_members(work, [row for row in rows if row.state == StepState.PENDING])


def begin_without_worker(work: UnitOfWork) -> Next:
    """The turn of the step at hand has come, whose children do it, or people; or it fails at once."""
    if not isinstance(work.declared_step, definition.Child):
        approvals.begin(work)
        return Next.STOP
    try:
        children.begin(work)
    except errors.BadFacts as bad:
        failure = failures.failure(work.step, FailureKind.BUG, now=work.now, error=bad)
        return fail(work, failure, provable=True)
    return Next.STOP


def _expect_message(work: UnitOfWork) -> None:
    """The message of the next step is under way: that of the chain, or one that is sent now."""
    work.set(dispatched_at=NOW, dispatches=1)
    dispatching.look_after_saga(work, dispatching.grace())


def go_back(work: UnitOfWork, *, below: int) -> Next:
    """Undo what was begun below that position, the last begun first; without any the saga is compensated."""
    position = next_to_undo(work, below=below)
    if position is None:
        _finish(work, SagaState.COMPENSATED)
        return Next.CONTINUE
    stage = work.declared.stage_at(position)
    work.set(position=stage.first)
    if not (stage.is_sent_alone and work.declared.stage_at(work.step.position).is_sent_alone):
        work.set(epoch=work.saga.epoch + 1)
    if stage.parallel is not None:
        return dispatching.send_members(work, parallel.due(work))
    if not stage.is_sent_alone:
        dispatching.redispatch(work)
        return Next.STOP
    _expect_message(work)
    return Next.CONTINUE


def fail(
    work: UnitOfWork,
    failure: Failure,
    *,
    unknown: bool = False,
    provable: bool = False,
    owners: bool = False,
    **event: Any,
) -> Next:
    """The step has failed: the saga compensates, or calls a person where it no longer can (P1, P4).

    Arguments:
        work: the saga, at the step.
        failure: why.
        unknown: it may have happened.
        provable: it surely did not, so that even a pivot leaves both ways open.
        owners: the last step went well, but the owner's `on_completed` met a bug, and all was rolled back.
            That is no reason to undo an order that was delivered: it is done again when the hook is mended.
        event: what the events say beside it.
    """
    kind = work.declared_step.kind
    # What cannot be undone, and is not proven to have failed, may have happened: there is no way back
    # from it (P1), and it is asked about before it is tried again (U2).
    doubtful = unknown or (work.declared_step.remote if owners else kind != "compensatable" and not provable)
    to = StepState.UNKNOWN if doubtful else StepState.FAILED
    kept = failure.as_json()
    work.set_step(error=kept, wait_until=None, finished_at=NOW)
    work.transition_step(to, EventKind.STEP_FAILED, attempt=work.step.attempts, data=kept, **event)
    if not owners and (kind == "compensatable" or (kind == "pivot" and provable)):
        start_compensation(work, failure, **event)
        return Next.COMPENSATE
    keep_first_failure(work, failure)
    why = messages.OWNER_FAILED if owners else messages.PAST_UNDOING
    require_attention(
        work,
        why=why % {"step": work.step.name, "error": failure.error, "message": failure.message},
        advice=messages.SEE_TO_THE_HOOK if owners else messages.SEE_TO_THE_CAUSE,
        resume=failure.kind != FailureKind.REFUSED,
    )
    return Next.STOP


def stop_at_mismatch(work: UnitOfWork, failure: Failure, **event: Any) -> Next:
    """Something happened, and it is not what was asked: a person is called, and nothing goes on before.

    It is no refusal, for undoing has something to take back, and no unknown outcome, for asking again
    gives the same answer. If the saga is not wanted any more, it compensates all the same: its undo takes
    back what was really done.
    """
    kept = failure.as_json()
    work.set_step(error=kept, wait_until=None)
    work.transition_step(
        StepState.UNKNOWN, EventKind.STEP_UNKNOWN, attempt=work.step.attempts, data=kept, **event
    )
    if compensate_if_cancelled(work):
        return Next.COMPENSATE
    keep_first_failure(work, failure)
    require_attention(
        work,
        why=messages.MISMATCH % {"step": work.step.name, "message": failure.message},
        advice=messages.SETTLE_MISMATCH,
        resume=False,
    )
    return Next.STOP


def mark_unknown(work: UnitOfWork, failure: dict[str, Any]) -> None:
    """The worker vanished with the step: a remote action is unknown (U1), a local one was rolled back."""
    attempts = work.step.attempts
    if work.declared_step.remote:
        work.transition_step(StepState.UNKNOWN, EventKind.STEP_UNKNOWN, attempt=attempts, data=failure)
    else:
        work.transition_step(StepState.PENDING, EventKind.STEP_RETRY, attempt=attempts, data=failure)


# --- Backwards ------------------------------------------------------------------------------------


def start_compensation(work: UnitOfWork, failure: Failure, **event: Any) -> None:
    """Turn the saga round: everything begun is undone, the last begun first (O1).

    1. A remote step whose lease ran out may have happened: it is unknown, and is undone too (U3).
    2. The first failure is kept (A2).
    3. The saga compensates from its last begun step; if none was begun it ends at once.
    4. Where steps were done at once, nothing is undone while an attempt at one of them may be under way.
    """
    at_once = work.stage.parallel is not None
    if work.step.state == StepState.RUNNING and not at_once:
        mark_unknown(work, {"clock": Clock.LEASE})
        work.set_step(lease_until=None)
    keep_first_failure(work, failure)
    work.transition(SagaState.COMPENSATING, EventKind.SAGA_COMPENSATING, data=failure.as_json(), **event)
    if not at_once:
        dispatching.unpark(work)
    work.set(
        direction=Direction.BACKWARD,
        attention=None,
        dispatches=0,
        dispatched_at=None,
        deadline_at=After(work.declared.undo_deadline),
    )
    children.report(work)
    if at_once:
        parallel.drain(work)
        end_drain(work)
        return
    if work.step.state == StepState.WAITING and isinstance(work.declared_step, definition.Approval):
        approvals.withdraw(work)
    position = next_to_undo(work, below=len(work.declared.all_steps), with_current=True)
    _stand_at(work, position)


def end_drain(work: UnitOfWork) -> bool:
    """Once no attempt at an action of the stage can be under way, say what is to be undone first.

    Returns:
        Whether that is so, and it is to be sent: nobody has sent it yet.
    """
    if (until := parallel.busy_until(work)) is not None:
        work.set(wake_at=until)
        return False
    stage = work.stage
    for row in work.members(stage):
        if row.state == StepState.RUNNING:
            with work.at(row):
                mark_unknown(work, {"clock": Clock.LEASE})
                work.set_step(lease_until=None, fence=row.fence + 1)
                work.set_step(wake_at=None, dispatched_at=None, dispatches=0)
    _stand_at(work, stage.first if parallel.to_undo(work) else next_to_undo(work, below=stage.first))
    return not work.saga.is_final


def _stand_at(work: UnitOfWork, position: int | None) -> None:
    """Where undoing begins; nothing is sent yet."""
    if position is None:
        work.set(position=0)
        _finish(work, SagaState.COMPENSATED)
    else:
        work.set(position=work.declared.stage_at(position).first, wake_at=After(dispatching.grace()))


def compensate_when_free(work: UnitOfWork, kind: FailureKind, *, actor: str, reason: str) -> bool:
    """Compensate at once where no attempt is under way; otherwise its end finds the request (O2).

    Steps that are done at once drain: there the saga turns round in any case.

    Returns:
        Whether it compensates, and is to be sent on its way.
    """
    if work.stage.parallel is None and not parallel.is_free(work.step, work.now):
        return False
    failure = failures.failure(work.step, kind, now=work.now, message=reason)
    start_compensation(work, failure, actor=actor, reason=reason)
    return True


def compensate_if_cancelled(work: UnitOfWork) -> bool:
    """Compensate if that was asked for meanwhile, and the step can still be undone."""
    saga = work.saga
    if saga.cancel_requested_at is None or work.step.position >= work.declared.pivot:
        return False
    cancelled = failures.failure(work.step, FailureKind.CANCELLED, now=work.now, message=saga.cancel_reason)
    start_compensation(work, cancelled, actor=saga.cancel_actor, reason=saga.cancel_reason)
    return True


def fail_undo(work: UnitOfWork, failure: Failure) -> None:
    """The undo was refused, met a bug, or spent its budget: a person is called, and nothing is dropped.

    Of steps that were done at once the others are undone all the same, before a person is called.
    """
    kept = failure.as_json()
    work.set_step(error=kept)
    work.transition_step(
        StepState.UNDO_FAILED, EventKind.UNDO_FAILED, attempt=work.step.undo_attempts, data=kept
    )
    if not work.step.is_member:
        _call_for_undo(work, failure)
        return
    dispatching.unpark(work)
    work.set_step(wake_at=None, dispatched_at=None)
    _undo_others(work)
    if work.onward is not None:
        work.send(work.onward)
        work.onward = None


def _call_for_undo(work: UnitOfWork, failure: Failure) -> None:
    require_attention(
        work,
        why=messages.UNDO_FAILED % {"step": work.step.name, "message": failure.message},
        advice=messages.SETTLE_WITH_PROVIDER,
        resume=failure.kind not in (FailureKind.REFUSED, FailureKind.MISMATCH),
    )


def next_to_undo(work: UnitOfWork, *, below: int, with_current: bool = False) -> int | None:
    """The highest position below that was begun and is not undone yet; None when nothing is left.

    Arguments:
        work: the saga, at a step.
        below: the position that it is to be below.
        with_current: whether the step at hand, as it is about to be written, may be the one.
    """
    saga, current, declared = work.saga, work.step, work.declared
    if declared.is_plain and (not with_current or current.position == saga.position):
        # Nothing was left out on the way, so every step before this one was begun: no need to look.
        top = current.position - (not current.begun) if with_current else below - 1
        return next(
            (position for position in range(top, -1, -1) if declared.all_steps[position].undoable), None
        )
    for row in work.below(below):
        if row.begun and row.state != StepState.UNDONE and declared.all_steps[row.position].undoable:
            return row.position
    return None


# --- Approvals ------------------------------------------------------------------------------------


def approve(work: UnitOfWork, facts: dict[str, Any], **event: Any) -> Next:
    """One more person has approved; the step is done once enough have."""
    approval = approvals.declared(work)
    kept = {**(work.step.facts or {}), **facts, approvals.APPROVALS: approvals.given(work)}
    if event:
        kept[approvals.APPROVALS].append({**event, "at": work.now.isoformat()})
        if len(kept[approvals.APPROVALS]) < approval.persons:
            work.set_step(facts=kept)
            return Next.STOP
    finish_step(work, {**kept, definition.APPROVED: True}, **event)
    return advance(work)


def lapse(work: UnitOfWork) -> Next:
    """Nobody has answered in time: the declaration says what that means."""
    approval = approvals.declared(work)
    if approval.lapse == "approve":
        return approve(work, {})
    if approval.lapse == "refuse":
        return fail(work, failures.wait_over(work.step, work.now), provable=True)
    failure = failures.wait_over(work.step, work.now)
    work.set_step(error=failure.as_json(), wait_until=None)
    keep_first_failure(work, failure)
    require_attention(
        work, why=messages.NOT_ANSWERED % {"step": work.step.name}, advice=messages.ANSWER, resume=False
    )
    return Next.STOP


# --- The end --------------------------------------------------------------------------------------


def _finish(work: UnitOfWork, state: SagaState) -> None:
    """End the saga, and tell its owner in the same transaction (I1)."""
    declared = work.declared
    completed = state == SagaState.COMPLETED
    work.transition(state, EventKind.SAGA_COMPLETED if completed else EventKind.SAGA_COMPENSATED)
    dispatching.unpark(work)
    if completed and declared.children:
        children.complete(work, list(declared.children))
    children.report(work)
    work.set(finished_at=NOW, wake_at=None, dispatched_at=None, deadline_at=None, held_at=None)
    _leave_nothing(work)
    work.call(declared.on_completed if completed else declared.on_compensated)


def close(work: UnitOfWork) -> None:
    """Nothing moves a saga any more that is put aside: what an end clears away goes, and its owner is told.

    One whose version is gone can be put aside too; its owner is told by the newest version's hook.
    """
    try:
        hook = work.declared.on_closed
        _leave_nothing(work)
        children.let_go(work)
    except errors.UnknownSaga:
        versions = reversed(registry.versions(work.saga.name))
        hook = next((newest.on_closed for newest in versions), None)
    children.report(work)
    work.call(hook)


def _leave_nothing(work: UnitOfWork) -> None:
    """Nothing of the saga will be done any more.

    Its steps' secrets are struck out, and callbacks that came before their step waited, and were never
    needed, are not left lying there.
    """
    declared, saga = work.declared, work.saga
    if declared.children and saga.closed_at is not None:
        children.complete(work, list(declared.children))
    left = declared.without_secrets(saga.facts)
    if left is not saga.facts:
        work.set(facts=left)
    work.forget(declared.secrets)
    work.drop_callbacks([f"{saga.pk}.{step.name}" for step in declared.all_steps if step.wait is not None])


# --- People ---------------------------------------------------------------------------------------


def require_attention(
    work: UnitOfWork, *, why: str, advice: str, resume: bool, child: str = "", **event: Any
) -> None:
    """Call a person: once for all by the alert (A4), and for as long as it lasts in the lists.

    Arguments:
        work: the saga, at the step that is in the way.
        why: a sentence.
        advice: a sentence: what a person may do.
        resume: whether trying again by itself now and then may help; a refusal does not change.
        child: the child that is in the way, if it is one.
        event: what the event says beside it.
    """
    saga, declared = work.saga, work.declared
    if saga.state == SagaState.NEEDS_ATTENTION:
        return  # For another step of the same stage: a person sees both.
    attention = {"step": work.step.name, "why": why, "advice": advice, "since": work.now.isoformat()}
    if child:
        attention["child"] = child
    work.transition(SagaState.NEEDS_ATTENTION, EventKind.SAGA_ATTENTION, data=attention, **event)
    dispatching.unpark(work)
    pause = declared.resume_pause(resumes=saga.resumes, chance=random.random())  # noqa: S311 - no secret
    work.set(
        attention=attention,
        dispatched_at=None,
        dispatches=1,
        wake_at=After(pause) if resume else None,
    )
    children.report(work)
    if saga.alerted_at is None:
        work.set(alerted_at=NOW)
        work.tell(declared.on_attention)
        sentence = why if why.endswith((".", "!", "?")) else f"{why}."
        work.alert("saga %s (%s) needs attention: %s %s", saga.pk, saga.name, sentence, advice)


def keep_first_failure(work: UnitOfWork, failure: Failure) -> None:
    """The first failure is kept for ever (A2)."""
    if work.saga.failure is None:
        work.set(failure=failure.as_json())


def resume(work: UnitOfWork, **event: Any) -> None:
    """Let a saga that needs attention try again, in the direction it was going.

    Its budget stays spent: each time it is resumed buys one more attempt. Where it resumes by itself, the
    next pause is longer; where a person resumes it, the pauses begin anew.
    """
    by_itself = event.get("actor", "engine") == "engine"
    work.set(resumes=min(work.saga.resumes + 1, MOST_RESUMES) if by_itself else 0)
    for row in _of_stage(work):
        if work.forward and row.state == StepState.FAILED:
            with work.at(row):
                work.transition_step(StepState.PENDING, EventKind.STEP_REOPENED, **event)
    work.set(dispatched_at=None, wake_at=NOW)
    reopen(work, **event)


def reopen(work: UnitOfWork, **event: Any) -> None:
    """A saga that needs attention goes its way again, and a clock that had run out begins anew.

    With the old one it would be stopped before it had tried anything; without any, a provider that is
    still out would keep it for ever out of sight (T2). One that can still turn round does so. Where nobody
    has answered in time people are asked anew, whichever step it is for whose sake the saga goes on.
    """
    saga, declared = work.saga, work.declared
    to = SagaState.RUNNING if work.forward else SagaState.COMPENSATING
    work.transition(to, EventKind.SAGA_RESUMED, **event)
    work.set(attention=None, dispatches=0)
    children.report(work)
    _look_at_others(work, **event)
    over = saga.deadline_at is None or saga.deadline_at <= work.now
    if over and (not work.forward or past_pivot(saga, work.step)):
        work.set(deadline_at=After(declared.deadline if work.forward else declared.undo_deadline))
    for row in _of_stage(work):
        with work.at(row):
            if approvals.is_lapsed(work):
                approvals.ask(work)


def _of_stage(work: UnitOfWork) -> Sequence[models.StepInstance]:
    """The rows of the steps that are done at once; of a step that comes alone, its row."""
    return work.members(work.stage) if work.stage.parallel is not None else [work.step]


def _look_at_others(work: UnitOfWork, **event: Any) -> None:
    """What else is in the way beside the step at hand: it is tried again, or its children are looked at."""
    if work.stage.parallel is None:
        return
    at_hand = work.step
    for row in work.members(work.stage):
        with work.at(row):
            if row is not at_hand and work.forward and row.state == StepState.FAILED:
                work.transition_step(StepState.PENDING, EventKind.STEP_REOPENED, **event)
            if row is not at_hand and isinstance(work.declared_step, definition.Child):
                children.look(work)


# --- Questions ------------------------------------------------------------------------------------


def in_doubt(saga: models.SagaInstance, step: models.StepInstance) -> bool:
    """Whether a person may say what became of the step: of its action, or on the way back of its undo.

    An undo that began is in doubt whether or not it told of an error: one that the deadline cut off did not.
    So is a remote action whose worker vanished while another step of its stage had a person called: until the
    saga goes on nobody writes that it is unknown. That no lease lives has been looked at before.
    """
    if saga.direction == Direction.FORWARD:
        if step.state == StepState.RUNNING and saga.state == SagaState.NEEDS_ATTENTION:
            return saga.definition.step(step.name).remote
        begun = step.state in (StepState.UNKNOWN, StepState.FAILED, StepState.WAITING)
        return begun or (step.state == StepState.PENDING and bool(step.error))
    return step.state in (StepState.UNDOING, StepState.UNDO_FAILED)


def past_pivot(saga: models.SagaInstance, step: models.StepInstance | None) -> bool:
    """Whether the saga can no longer turn round by itself (P1).

    A pivot that is at work, waits, or may have happened counts as passed: it blocks both
    directions until that is settled (P4).
    """
    pivot = saga.definition.pivot
    if pivot >= len(saga.definition.all_steps):
        return False
    if saga.position > pivot:
        return True
    if saga.position < pivot or step is None:
        return False
    if saga.definition.all_steps[pivot].kind == "retriable":
        return True
    return step.state in (StepState.RUNNING, StepState.WAITING, StepState.UNKNOWN, StepState.DONE)


def budget_spent(work: UnitOfWork) -> bool:
    """Whether the step's attempts in this direction, or their time, are used up (R1)."""
    undo = not work.forward
    spent = counted(work.step, undo=undo) >= work.declared.retry_of(work.declared_step, undo=undo).attempts
    return spent or (work.forward and out_of_time(work))


def counted(step: models.StepInstance, *, undo: bool) -> int:
    """How many attempts are held against the budget: not those that an outage excuses (R4)."""
    if undo:
        return step.undo_attempts - step.undo_excused
    return step.attempts - step.excused


def out_of_time(work: UnitOfWork) -> bool:
    """Whether the budget of time for all attempts at the action is used up."""
    budget, started_at = work.declared_step.budget, work.step.started_at
    return budget is not None and started_at is not None and work.now - started_at >= budget
