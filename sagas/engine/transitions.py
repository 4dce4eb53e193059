"""What a saga may do next: go on, end, turn round, call a person. Each collects into a `Change`.

Forwards and backwards are one algorithm with a sign: `states.Direction`.
"""

import datetime
import functools
import inspect
import logging
import pathlib
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import functions

from sagas import conf, errors, models
from sagas.declaration import definition, registry
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import circuits, messages, transport
from sagas.engine.store import NOW, After, Change

logger = logging.getLogger("sagas")

WINDOW = 8
"""Steps sent as one chain. A chain's messages carry all that is left of it, so a long one would grow
them quadratically, and past 2 KB; the last step of a window sends the next one, which costs no
message more."""

FRAMES_AT_MOST = 12
"""So many of a bug's innermost frames are kept: the outer ones are the engine's own, and always the same."""

LONGEST_GRACE = datetime.timedelta(minutes=10)
"""However often a saga was redispatched in vain, it is looked at again after this long."""

PARKED_LOOK = datetime.timedelta(hours=1)
"""A saga that waits for a circuit is woken when it closes. If nobody did, the sweep looks after so long."""

MOST_RESUMES = 1000
"""No more are counted: the pause has long been the longest."""

FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD


def grace(dispatches: int = 1) -> datetime.timedelta:
    """How long a message may be under way before somebody asks after it: doubles with each in vain."""
    doubled: datetime.timedelta = conf.grace() * 2.0 ** min(dispatches - 1, 16)
    return min(doubled, LONGEST_GRACE)


def dispatch_of(saga: models.SagaInstance, step: models.StepInstance | None = None) -> transport.Dispatch:
    """The next steps of the instance in its direction, at most a window of them.

    `step` is the one that was at hand: if it is to be tried again, the dispatch says how often it was.
    """
    declared = saga.definition
    tried = 0
    if step is not None and step.position == saga.position:
        tried = step.attempts if saga.direction == FORWARD else step.undo_attempts
    if saga.direction == FORWARD:
        steps = list(declared.steps[saga.position :])
    else:
        steps = [step for step in reversed(declared.steps[: saga.position + 1]) if step.undo]
    return transport.Dispatch(
        saga_id=saga.pk,
        epoch=saga.epoch,
        name=saga.name,
        direction=Direction(saga.direction),
        messages=tuple(transport.Message(step=step.name, queue=step.queue) for step in steps[:WINDOW]),
        tried=tried,
    )


def dispatch(change: Change, step: models.StepInstance | None = None) -> None:
    """Raise the epoch, so that every message of before is void, and send the rest after the commit.

    Where it could only be turned away by an open circuit, it is parked, and nothing is sent.
    """
    saga = change.saga
    if step is not None and step.position == saga.position and not admitted(saga, step):
        park(change, step)
        return
    _unpark(change)
    dispatches = saga.dispatches + 1
    change.set(epoch=saga.epoch + 1, dispatches=dispatches, dispatched_at=NOW)
    look_within(change, grace(dispatches))
    transport.after_commit(dispatch_of(saga, step))


def admitted(saga: models.SagaInstance, step: models.StepInstance, *, take: bool = False) -> bool:
    """Whether the service of the step at hand lets this saga through now; a local step has none.

    Arguments:
        take: whether the attempt is made at once.
    """
    declared = saga.definition.steps[step.position]
    asks_nobody = step.state == StepState.WAITING and declared.ask is None
    if not declared.remote or asks_nobody:
        return True
    return circuits.admits(declared.queue, saga.pk, untried=_tried(saga, step) == 0, take=take)


def _tried(saga: models.SagaInstance, step: models.StepInstance) -> int:
    return step.attempts if saga.direction == FORWARD else step.undo_attempts


def park(change: Change, step: models.StepInstance) -> None:
    """Have the saga wait for the open circuit of its step's service: no message, no timer, no attempt.

    Whoever closes the circuit has it woken. Clocks go on: the deadline, the limit of a wait and the time
    that all attempts may take.
    """
    saga = change.saga
    declared = saga.definition.steps[step.position]
    ends = [step.wait_until] if step.state == StepState.WAITING else []
    if saga.direction == FORWARD and step.started_at is not None and declared.budget is not None and not ends:
        ends.append(step.started_at + declared.budget)
    look = min([PARKED_LOOK, *(end - change.now for end in ends if end is not None and end > change.now)])
    change.set(
        parked_for=declared.queue,
        parked_rank=min(_tried(saga, step), circuits.ANY_RANK),
        wake_at=_no_later_than_deadline(change, look),
        dispatched_at=None,
        dispatches=0,
    )


def _unpark(change: Change) -> None:
    if change.saga.parked_for is not None:
        change.set(parked_for=None)


def advance(change: Change, step: models.StepInstance) -> None:
    """The step is done, or undone: the next one is due, or the saga ends."""
    _unpark(change)
    saga = change.saga
    if saga.resumes:
        change.set(resumes=0)
    declared = saga.definition
    forward = saga.direction == FORWARD
    position = step.position + 1 if forward else next_to_undo(saga, below=step.position)
    if position is None:
        finish(change, SagaState.COMPENSATED)
    elif position >= len(declared.steps):
        change.set(position=position)
        finish(change, SagaState.COMPLETED)
    else:
        change.set(position=position, dispatched_at=NOW, dispatches=1)
        look_within(change, grace())


def finish_step(change: Change, step: models.StepInstance, facts: dict[str, Any], **said: Any) -> None:
    """The action is done: its facts are kept on its row, and what it gives goes to later steps."""
    declared = change.saga.definition.steps[step.position]
    change.move_step(step, StepState.DONE, "step.done", attempt=step.attempts, **said)
    change.set_step(step, finished_at=NOW, wait_until=None, facts=facts, error=None)
    if declared.outputs or declared.secrets:
        kept = _without(change.saga.facts, declared.secrets)
        change.set(facts={**kept, **{name: facts.get(name) for name in declared.outputs}})


def missing_facts(
    declared: definition.Step, step: models.StepInstance, facts: Mapping[str, Any]
) -> list[str]:
    """What the step gives to later ones that neither its row has nor these facts."""
    return [name for name in declared.outputs if name not in {**(step.facts or {}), **facts}]


def fail(
    change: Change,
    step: models.StepInstance,
    failure: dict[str, Any],
    *,
    unknown: bool = False,
    provable: bool = False,
    owners: bool = False,
    **said: Any,
) -> bool:
    """The step has failed: the saga turns round, or calls a person where it no longer can (P1, P4).

    Arguments:
        unknown: it may have happened.
        provable: it surely did not, so that even a pivot leaves both ways open.
        owners: the last step went well, but the owner's `completed` met a bug, and all was rolled back.
            Nobody undoes an order that was delivered because of that: it is done again when it is mended.

    Returns:
        Whether the saga turned round.
    """
    declared = change.saga.definition.steps[step.position]
    kind = declared.kind
    # What cannot be undone, and is not proven to have failed, may have happened: nobody turns back
    # from it (P1), and it is asked about before it is tried again (U2).
    doubtful = unknown or (declared.remote if owners else kind != "compensatable" and not provable)
    to = StepState.UNKNOWN if doubtful else StepState.FAILED
    change.set_step(step, error=failure, wait_until=None, finished_at=NOW)
    change.move_step(step, to, "step.failed", attempt=step.attempts, data=failure, **said)
    if not owners and (kind == "compensatable" or (kind == "pivot" and provable)):
        turn(change, step, failure, **said)
        return True
    if change.saga.failure is None:
        change.set(failure=failure)
    attend(
        change,
        step=step,
        why=(messages.OWNER_FAILED if owners else messages.PAST_UNDOING) % {**failure, "step": step.name},
        advice=messages.SEE_TO_THE_HOOK if owners else messages.SEE_TO_THE_CAUSE,
        resume=failure["kind"] != "refused",
    )
    return False


def contradict(change: Change, step: models.StepInstance, failure: dict[str, Any], **said: Any) -> bool:
    """Something happened, and it is not what was asked: a person is called, and nothing goes on before.

    It is no refusal, for undoing has something to take back, and no unknown outcome, for asking again
    gives the same answer. If the saga is not wanted any more, it turns round all the same: its undo takes
    back what was really done.

    Returns:
        Whether the saga turned round.
    """
    change.set_step(step, error=failure, wait_until=None)
    change.move_step(step, StepState.UNKNOWN, "step.unknown", attempt=step.attempts, data=failure, **said)
    if turn_if_cancelled(change, step):
        return True
    if change.saga.failure is None:
        change.set(failure=failure)
    attend(
        change,
        step=step,
        why=messages.MISMATCH % {"step": step.name, "message": failure["message"]},
        advice=messages.SETTLE_MISMATCH,
        resume=False,
    )
    return False


def fail_undo(change: Change, step: models.StepInstance, failure: dict[str, Any]) -> None:
    """The undo was refused, met a bug, or spent its budget: a person is called, and nothing is dropped."""
    change.set_step(step, error=failure)
    change.move_step(step, StepState.UNDO_FAILED, "undo.failed", attempt=step.undo_attempts, data=failure)
    attend(
        change,
        step=step,
        why=messages.UNDO_FAILED % {"step": step.name, "message": failure["message"]},
        advice=messages.SETTLE_WITH_PROVIDER,
        resume=failure["kind"] not in ("refused", "mismatch"),
    )


def budget_spent(change: Change, step: models.StepInstance) -> bool:
    """Whether the step's attempts in this direction, or their time, are used up (R1)."""
    declared = change.saga.definition
    of_step = declared.steps[step.position]
    if change.saga.direction == BACKWARD:
        return counted(step, undo=True) >= declared.retry_of(of_step, undo=True).attempts
    spent = counted(step, undo=False) >= declared.retry_of(of_step, undo=False).attempts
    return spent or out_of_time(change, step)


def counted(step: models.StepInstance, *, undo: bool) -> int:
    """How many attempts are held against the budget: not those that an outage excuses (R4)."""
    if undo:
        return step.undo_attempts - step.undo_excused
    return step.attempts - step.excused


def out_of_time(change: Change, step: models.StepInstance) -> bool:
    """Whether the budget of time for all attempts at the action is used up."""
    budget = change.saga.definition.steps[step.position].budget
    return budget is not None and step.started_at is not None and change.now - step.started_at >= budget


def finish(change: Change, state: SagaState, **said: Any) -> None:
    """End the saga, and tell its owner in the same transaction (I1)."""
    declared = change.saga.definition
    hook = declared.on_completed if state == SagaState.COMPLETED else declared.on_compensated
    change.move(state, f"saga.{state.value}", **said)
    _unpark(change)
    change.set(finished_at=NOW, wake_at=None, dispatched_at=None, deadline_at=None, held_at=None)
    forget(change)
    _note_stored(change)
    if hook is not None:
        hook(key=change.saga.key)


def close(change: Change) -> None:
    """Nothing moves a saga any more that is put aside: what `finish` clears away goes, and its owner is told.

    One whose version is gone can be put aside too; its owner is told by the newest version's hook.

    Raises:
        NotAllowed: its owner could not take that.
    """
    saga = change.saga
    try:
        hook = saga.definition.on_closed
        forget(change)
        _note_stored(change)
    except errors.UnknownSaga:
        hook = next((newest.on_closed for newest in reversed(registry.versions(saga.name))), None)
    if hook is None:
        return
    try:
        with transaction.atomic():
            hook(key=saga.key)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        logger.exception("the hook that tells of a saga's being put aside met a bug")
        why = f"Its owner could not take that: {type(error).__name__}: {words_of(error)}"
        raise errors.NotAllowed(why, state=saga.state) from error


def _note_stored(change: Change) -> None:
    """Callbacks that came before their step waited, and were never needed, are not left lying there."""
    declared = change.saga.definition
    waited = [f"{change.saga.pk}.{step.name}" for step in declared.steps if step.wait is not None]
    if waited:
        stored = models.Signal.objects.filter(step_key__in=waited, fate=models.Signal.Fate.STORED)
        stored.update(fate=models.Signal.Fate.NOTED, matched_at=functions.Now())


def forget(change: Change) -> None:
    """Nothing of the saga will be done any more: strike what its steps were to forget."""
    secrets = [name for step in change.saga.definition.steps for name in step.secrets]
    if any(name in change.saga.facts for name in secrets):
        change.set(facts=_without(change.saga.facts, secrets))


def turn(change: Change, step: models.StepInstance | None, failure: dict[str, Any], **said: Any) -> None:
    """Turn the saga round: everything begun is undone, the last begun first (O1).

    1. A remote step whose lease ran out may have happened: it is unknown, and is undone too (U3).
    2. The first failure is kept (A2).
    3. The saga compensates from its last begun step; if none was begun it ends at once.
    """
    saga = change.saga
    declared = saga.definition
    if step is not None and step.state == StepState.RUNNING:
        lose(change, step, {"clock": "lease"})
        change.set_step(step, lease_until=None)
    if saga.failure is None:
        change.set(failure=failure)
    change.move(SagaState.COMPENSATING, "saga.compensating", data=failure, **said)
    _unpark(change)
    change.set(
        direction=BACKWARD,
        attention=None,
        dispatches=0,
        dispatched_at=None,
        deadline_at=After(declared.undo_deadline),
        wake_at=After(grace()),
    )
    position = next_to_undo(saga, below=len(declared.steps), current=step)
    if position is None:
        change.set(position=0)
        finish(change, SagaState.COMPENSATED)
    else:
        change.set(position=position)


def lose(change: Change, step: models.StepInstance, failure: dict[str, Any]) -> None:
    """Its worker vanished with it: what a remote action did is unknown (U1), a local one was rolled back."""
    if change.saga.definition.steps[step.position].remote:
        change.move_step(step, StepState.UNKNOWN, "step.unknown", attempt=step.attempts, data=failure)
    else:
        change.move_step(step, StepState.PENDING, "step.retry", attempt=step.attempts, data=failure)


def turn_if_cancelled(change: Change, step: models.StepInstance) -> bool:
    """Turn round if that was asked for meanwhile, and the step can still be undone."""
    saga = change.saga
    if saga.cancel_requested_at is None or step.position >= saga.definition.pivot:
        return False
    cancelled = failure(step, "cancelled", now=change.now, message=saga.cancel_reason)
    turn(change, step, cancelled, actor=saga.cancel_actor, reason=saga.cancel_reason)
    return True


def attend(
    change: Change,
    *,
    why: str,
    advice: str,
    step: models.StepInstance | None = None,
    resume: bool,
    **said: Any,
) -> None:
    """Call a person: once for all by the alert (A4), and for as long as it lasts in the lists.

    `resume` says whether trying again by itself now and then may help; a refusal does not change.
    """
    saga = change.saga
    declared = saga.definition
    attention = {
        "step": step.name if step else None,
        "why": why,
        "advice": advice,
        "since": change.now.isoformat(),
    }
    change.move(SagaState.NEEDS_ATTENTION, "saga.attention", data=attention, **said)
    _unpark(change)
    change.set(
        attention=attention,
        dispatched_at=None,
        dispatches=1,
        wake_at=After(_resume_pause(saga)) if resume else None,
    )
    if saga.alerted_at is None:
        change.set(alerted_at=NOW)
        if declared.on_attention is not None:
            _tell(declared.on_attention, saga.key)
        transaction.on_commit(
            functools.partial(
                logger.error, "saga %s (%s) needs attention: %s %s", saga.pk, saga.name, why, advice
            )
        )


def _resume_pause(saga: models.SagaInstance) -> datetime.timedelta:
    return saga.definition.resume_pause(resumes=saga.resumes, chance=random.random())  # noqa: S311 - no secret


def _tell(hook: Callable[..., object], key: str) -> None:
    """Call a hook whose failure changes nothing: that a person is needed is recorded all the same."""
    try:
        with transaction.atomic():
            hook(key=key)
    except Exception:
        logger.exception("the hook that tells of a saga's need for attention met a bug")


def resume(change: Change, step: models.StepInstance, **said: Any) -> None:
    """Let a saga that needs attention try again, in the direction it was going.

    Its budget stays spent: each time it is resumed buys one more attempt. Where it resumes by itself, the
    next pause is longer; where a person resumes it, the pauses begin anew.
    """
    by_itself = said.get("actor", "engine") == "engine"
    change.set(resumes=min(change.saga.resumes + 1, MOST_RESUMES) if by_itself else 0)
    if change.saga.direction == FORWARD and step.state == StepState.FAILED:
        change.move_step(step, StepState.PENDING, "step.reopened", **said)
    revive(change, step, **said)
    change.set(dispatches=0, dispatched_at=None, wake_at=NOW)


def revive(change: Change, step: models.StepInstance, **said: Any) -> None:
    """A saga that needs attention goes its way again, and a clock that had run out begins anew.

    With the old one it would be stopped before it had tried anything; without any, a provider that is
    still out would keep it for ever where nobody looks (T2). One that can still turn round does so.
    """
    saga = change.saga
    declared = saga.definition
    forward = saga.direction == FORWARD
    change.move(SagaState.RUNNING if forward else SagaState.COMPENSATING, "saga.resumed", **said)
    change.set(attention=None)
    over = saga.deadline_at is None or saga.deadline_at <= change.now
    if over and (not forward or past_pivot(saga, step)):
        change.set(deadline_at=After(declared.deadline if forward else declared.undo_deadline))


def is_free(step: models.StepInstance, now: datetime.datetime) -> bool:
    """Whether nobody may be at the step now (O2)."""
    return step.lease_until is None or step.lease_until <= now or step.state not in AT_WORK


def in_doubt(saga: models.SagaInstance, step: models.StepInstance) -> bool:
    """Whether a person may say what became of the step: of its action, or on the way back of its undo."""
    if saga.direction == FORWARD:
        begun = step.state in (StepState.UNKNOWN, StepState.FAILED, StepState.WAITING)
        return begun or (step.state == StepState.PENDING and bool(step.error))
    return step.state == StepState.UNDO_FAILED or (step.state == StepState.UNDOING and bool(step.error))


AT_WORK = {StepState.RUNNING, StepState.UNDOING}


def past_pivot(saga: models.SagaInstance, step: models.StepInstance | None) -> bool:
    """Whether the saga can no longer turn round by itself (P1).

    A pivot that is at work, waits, or may have happened counts as passed: it blocks both
    directions until that is settled (P4).
    """
    pivot = saga.definition.pivot
    if pivot >= len(saga.definition.steps):
        return False
    if saga.position > pivot:
        return True
    if saga.position < pivot or step is None:
        return False
    if saga.definition.steps[pivot].kind == "retriable":
        return True
    return step.state in (StepState.RUNNING, StepState.WAITING, StepState.UNKNOWN, StepState.DONE)


def next_to_undo(
    saga: models.SagaInstance, *, below: int, current: models.StepInstance | None = None
) -> int | None:
    """The highest position below that was begun and is not undone yet; None when nothing is left.

    `current` is the step as this transaction is about to write it.
    """
    declared = saga.definition
    if not declared.has_optional_steps and (current is None or current.position == saga.position):
        # Nothing was left out on the way, so every step before this one was begun: no need to look.
        top = below - 1 if current is None else current.position - (not current.begun)
        return next((position for position in range(top, -1, -1) if declared.steps[position].undo), None)
    steps = saga.steps.filter(position__lt=below)  # type: ignore[arg-type]
    for step in steps.order_by("-position"):
        row = current if current is not None and current.pk == step.pk else step
        if row.begun and row.state != StepState.UNDONE and declared.steps[row.position].undo:
            return row.position
    return None


def failure(
    step: models.StepInstance | None,
    kind: str,
    *,
    now: datetime.datetime,
    error: BaseException | None = None,
    message: str = "",
    clock: str | None = None,
) -> dict[str, Any]:
    """An error as the rows keep it: plain data, without personal facts (A3).

    `kind` is refused, outage, mismatch, transient, late, unknown, bug, timeout, cancelled or operator.
    `clock` names the clock that ran out, if one did: attempt, budget, wait, lease, deadline or
    undo-deadline. A bug's `frames` say where it came from: file, line and function, and no value of anything.
    """
    return {
        "step": step.name if step else None,
        "kind": kind,
        "error": type(error).__name__ if error is not None else None,
        "message": message or (_speak(error, step, kind) if error is not None else ""),
        "attempt": step.attempts if step else None,
        "clock": clock,
        "at": now.isoformat(),
        **({"frames": _frames(error)} if kind == "bug" and error is not None else {}),
    }


def deadline_over(step: models.StepInstance, now: datetime.datetime) -> dict[str, Any]:
    """The failure of a saga whose deadline ran out at that step."""
    return failure(step, "timeout", now=now, clock="deadline", message=messages.DEADLINE_OVER)


def _speak(error: BaseException, step: models.StepInstance | None, kind: str) -> str:
    """The error's words. Those of a bug are nobody's choice: what the saga was given is struck out (A3)."""
    if kind != "bug":
        return words_of(error)
    text = words_of(error, without=step.saga.facts if step else {})
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} (in {frames[-1].name})" if frames else text


def _frames(error: BaseException) -> list[str]:
    """Where a bug came from, the innermost last; paths begin at the package, whatever the machine."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_AT_MOST:]
    return [f"{'/'.join(_places(frame.filename))}:{frame.lineno} {frame.name}" for frame in frames]


def _places(filename: str) -> tuple[str, ...]:
    parts = pathlib.PurePath(filename).parts
    begins = [number for number, part in enumerate(parts) if part in ("site-packages", "dist-packages")]
    return parts[begins[-1] + 1 :] if begins else parts[-2:]


def traced(error: BaseException, facts: dict[str, Any]) -> str:
    """A bug's traceback for the log, without what the saga was given (A3)."""
    return _without_given("".join(traceback.format_exception(error)).rstrip(), facts)


def _without_given(text: str, facts: dict[str, Any]) -> str:
    for given in sorted(set(_leaves(facts)), key=len, reverse=True):
        text = text.replace(given, "[given]")
    return text


def words_of(error: BaseException, *, without: dict[str, Any] | None = None) -> str:
    """What an error says, as PostgreSQL can store it: that it failed is recorded whatever it says."""
    said = _without_given(str(error) or _meaning(type(error)), without or {})[:500]
    return said.replace("\0", "").encode(errors="replace").decode() or type(error).__name__


def _meaning(kind: type[BaseException]) -> str:
    """What an error that says nothing means: the first line of its docstring, if it is somebody's own."""
    return "" if kind.__module__ == "builtins" else inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]


def _without(facts: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in names}


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value] if isinstance(value, str) and len(value) > 3 else []


def _no_later_than_deadline(change: Change, delay: datetime.timedelta) -> After:
    """So long from now, or at the deadline where that comes first."""
    deadline = change.saga.deadline_at
    if deadline is None:
        return After(delay)
    return After(max(min(delay, deadline - change.now), datetime.timedelta(0)))


def look_within(change: Change, delay: datetime.timedelta) -> None:
    """Somebody looks again after so long at the latest.

    Where somebody will sooner anyway that stays: the sweep knows what has gone on meanwhile, and a row
    whose `wake_at` stays is written without touching an index (HOT).
    """
    wake_at = change.saga.wake_at
    if wake_at is None or not change.now < wake_at <= change.now + delay:
        change.set(wake_at=_no_later_than_deadline(change, delay))


def wake_after(change: Change, delay: datetime.timedelta) -> None:
    """No message is under way: somebody looks again after so long, or at the deadline."""
    _unpark(change)
    change.set(wake_at=_no_later_than_deadline(change, delay), dispatched_at=None, dispatches=0)


def queue_of(saga: models.SagaInstance) -> str:
    """The queue of the step at the instance's position."""
    steps = saga.definition.steps
    return steps[min(saga.position, len(steps) - 1)].queue
