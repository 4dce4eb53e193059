"""Callbacks from outside: stored first, then matched, and kept whatever becomes of them.

One that comes before its step waits for it is taken up when the step does. One that lost a race
against the saga's giving up is acted upon: what it tells of is undone once more (M3, `late_compensation`).
One for a saga in the archive brings that back first, with its callbacks, so that a repetition is known again.
"""

import datetime
import logging
from typing import Any

from django.db import connection, transaction
from psycopg.types import json

from sagas import database, errors, models
from sagas.declaration.states import SagaState, StepState
from sagas.engine import archive, callbacks, calls, dispatching, failures, messages, store, transitions
from sagas.engine.kinds import FailureKind, Next
from sagas.engine.store import NOW, UnitOfWork
from sagas.models import Signal

logger = logging.getLogger("sagas")


def receive(
    *,
    source: str,
    event_id: str,
    key: str,
    facts: dict[str, Any] | None = None,
    refused: str | None = None,
    kind: str = "",
    mismatch: str = "",
    queue: str = "",
) -> models.Signal:
    """Store a verified callback, and act upon it. A callback that is already there changes nothing.

    Arguments:
        source: who sent it, such as `payments`.
        event_id: the sender's own id of it, unique for that source.
        key: the key of the step that it is about.
        facts: what it tells; a waiting step is done once they have what it waits for.
        refused: words that say why what is waited for will not come, if that is what it tells.
        kind: the sender's name for it, for people.
        mismatch: words that say how it differs from what was asked, with the figures, if it does: then it is
            believed in nothing, and a person is called.
        queue: the queue of the steps that the sender may speak of, its service's; empty for any.

    Returns:
        The stored callback, with its fate.

    Raises:
        BadFacts: the facts are not JSON that can be kept.
    """
    if facts is not None:
        facts = store.storable(facts)
    # What fails here takes the caller's transaction with it: the sender is to send it again.
    with transaction.atomic(savepoint=False):
        signal, is_new = _stored(
            source=source, event_id=event_id, step_key=key[:100], facts=facts, refused=refused, kind=kind,
            mismatch=mismatch,
        )  # fmt: skip
        if not is_new:
            return signal
        work = _find(signal)
        if work is None and _bring_back(signal):
            return receive(
                source=source, event_id=event_id, key=key, facts=facts, refused=refused, kind=kind,
                mismatch=mismatch, queue=queue,
            )  # fmt: skip
        # If another callback has just brought it back, it is live by now.
        _match(signal, work or _find(signal), queue)
    return signal


def take_stored(work: UnitOfWork) -> Next | None:
    """Take up the callbacks that came before the step waited.

    Returns:
        What the chain is to do next, if one of them ended the wait; else None.
    """
    if work.inbox_is_empty:
        return None
    stored = Signal.objects.filter(step_key=work.step.key, fate=Signal.Fate.STORED).order_by("id")
    for signal in stored.select_for_update():
        if ended := _apply(work, signal):
            return ended
    return None


def _stored(**told: Any) -> tuple[Signal, bool]:
    """The callback as stored, and whether it is new: in one statement, where `get_or_create` takes four."""
    signal = Signal(**told)
    facts = None if signal.facts is None else json.Jsonb(signal.facts)
    values: list[Any] = [
        signal.source, signal.event_id, signal.step_key, facts, signal.refused, signal.kind, signal.mismatch,
        signal.fate, signal.compensation_attempts, signal.compensation_error,
    ]  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sagas_signal (source, event_id, step_key, facts, refused, kind, mismatch, fate,"
            " compensation_attempts, compensation_error) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (source, event_id) DO NOTHING RETURNING id, received_at",
            values,
        )
        written: tuple[int, datetime.datetime] | None = cursor.fetchone()
    if written is None:
        return Signal.objects.get(source=signal.source, event_id=signal.event_id), False
    signal.pk, signal.received_at = written
    signal._state.adding = False
    return signal, True


def _find(signal: Signal) -> UnitOfWork | None:
    """The step that the callback is about, locked; None where no live saga has it."""
    try:
        return store.lock(*callbacks.parse(signal.step_key))
    except errors.NotFound:
        return None


def _bring_back(signal: Signal) -> bool:
    """Whether its saga was in the archive, and is there no more; the callback is then to be stored anew."""
    try:
        saga_id, _name = callbacks.parse(signal.step_key)
    except errors.NotFound:
        return False
    with transaction.atomic():
        # Among those that come back may be this very one, which came before.
        stored = Signal.objects.filter(pk=signal.pk)
        if brought_back := archive.restore(saga_id, instead_of=stored):
            logger.info("callback %s of %s is about an archived saga", signal.event_id, signal.source)
    return brought_back


def _match(signal: Signal, work: UnitOfWork | None, queue: str) -> None:
    """Act upon a new callback."""
    if work is None:
        _set_fate(signal, Signal.Fate.UNMATCHED, models.database_now())
        callbacks.call_a_person(signal, messages.NO_SAGA)
        return
    saga_id, name = work.saga.pk, work.step.name
    try:
        if queue and work.declared_step.queue != queue:
            _set_fate(signal, Signal.Fate.UNMATCHED, work.now)
            callbacks.call_a_person(signal, messages.NOT_ITS_STEP)
            return
        with transaction.atomic():
            _act(work, signal)
            work.commit()
    except errors.UnknownSaga:
        logger.error(
            "callback %s of %s is kept for a process that knows %s v%s: this one does not",
            signal.event_id, signal.source, work.saga.name, work.saga.version,
        )  # fmt: skip
        _leave_to_others(store.lock(saga_id, name), signal)
    except Exception as bug:
        if database.is_passing(bug):
            raise
        # The sender has done nothing wrong, and it must not be lost.
        logger.error("a saga's hook met a bug: %s", failures.traced(bug, {}))
        _owner_failed(store.lock(saga_id, name), signal, bug)


def _leave_to_others(work: UnitOfWork, signal: Signal) -> None:
    """Keep it; a step that waits for it is looked at by the next sweep, and not at its next poll."""
    saga, step = work.saga, work.step
    waits = saga.state == SagaState.RUNNING and saga.held_at is None and step.state == StepState.WAITING
    if waits and (step.is_member or step.position == saga.position):
        work.set_cursor(wake_at=NOW)
    _keep(work, signal)


def _keep(work: UnitOfWork, signal: Signal) -> None:
    _note(work, signal, Signal.Fate.STORED)
    work.commit()


def _owner_failed(work: UnitOfWork, signal: Signal, bug: Exception) -> None:
    """The callback ends a wait, and the saga's owner could not take its end: as after a function's answer.

    It is kept: the step takes it up when it is tried again.
    """
    _note(work, signal, Signal.Fate.STORED)
    if work.saga.state == SagaState.RUNNING and work.step.state == StepState.WAITING:
        failure = failures.failure(work.step, FailureKind.BUG, now=work.now, error=bug)
        transitions.fail(work, failure, owners=True, actor=signal.source)
    work.commit()


def _act(work: UnitOfWork, signal: Signal) -> None:
    """Decide what the callback makes of the saga, as the saga and the step stand."""
    saga, step = work.saga, work.step
    if signal.mismatch:
        _contradict(work, signal)
    elif saga.state == SagaState.RUNNING and step.state == StepState.WAITING:
        if after := _apply(work, signal):
            dispatching.follow(work, after)
    elif _settles(work, signal):
        transitions.reopen(work, actor=signal.source, reason="A callback settles it.")
        if after := _apply(work, signal):
            dispatching.follow(work, after)
    elif saga.closed_at is not None:
        _act_on_closed(work, signal)
    elif saga.state in (SagaState.RUNNING, SagaState.NEEDS_ATTENTION) and _may_yet_wait(step):
        _note(work, signal, Signal.Fate.STORED)
        if step.state == StepState.UNKNOWN and saga.state == SagaState.RUNNING:
            work.set(wake_at=store.NOW)
    elif _tells_of_end(work, signal) and step.state in _GIVEN_UP and work.declared_step.undo is not None:
        _compensate_late(work, signal)
    else:
        _note(work, signal, Signal.Fate.NOTED)


def _act_on_closed(work: UnitOfWork, signal: Signal) -> None:
    """A callback about a saga that was put aside: nothing waits for it any more.

    What it tells that was not known when the saga was put aside, such as a payment that lands after it, is
    undone (M3). What was known then was an operator's to settle by hand: undone once more here, the same
    money might go back twice.
    """
    wait, has_undo = work.declared_step.wait, work.declared_step.undo is not None
    known = wait is not None and bool((work.step.facts or {}).get(wait.until))
    if _tells_of_end(work, signal) and not known and work.step.begun and has_undo:
        _compensate_late(work, signal)
    else:
        _note(work, signal, Signal.Fate.NOTED)


def _contradict(work: UnitOfWork, signal: Signal) -> None:
    """It tells something else than was asked, so it ends no wait and fails no step.

    1. What is not wanted any more is undone once more: whatever was done goes back (M3). Of a saga that an
       operator put aside a person decides: what was settled by hand might go back twice.
    2. A saga that waits for it stops before a person.
    3. Otherwise the callback itself waits for one. If the step's outcome is unknown, it is asked about.
    """
    saga, step = work.saga, work.step
    if step.state in _GIVEN_UP and work.declared_step.undo is not None and saga.closed_at is None:
        _compensate_late(work, signal)
        return
    _note(work, signal, Signal.Fate.MISMATCH)
    said = messages.NOT_ASKED % {"mismatch": signal.mismatch}
    if saga.state == SagaState.RUNNING and step.state == StepState.WAITING:
        failure = failures.failure(step, FailureKind.MISMATCH, now=work.now, message=said)
        if transitions.stop_at_mismatch(work, failure, actor=signal.source) == Next.COMPENSATE:
            dispatching.dispatch(work)
        return
    callbacks.call_a_person(signal, said)
    if step.state == StepState.UNKNOWN and saga.state == SagaState.RUNNING:
        work.set(wake_at=store.NOW)


def _compensate_late(work: UnitOfWork, signal: Signal) -> None:
    _note(work, signal, Signal.Fate.LATE)
    signal.wake_at = work.now
    signal.save(update_fields=["wake_at"])


_GIVEN_UP = {StepState.UNDOING, StepState.UNDONE, StepState.UNDO_FAILED, StepState.FAILED}


def _may_yet_wait(step: models.StepInstance) -> bool:
    return step.state in (StepState.PENDING, StepState.RUNNING, StepState.UNKNOWN, StepState.WAITING)


def _settles(work: UnitOfWork, signal: Signal) -> bool:
    """Whether a person was called because it was not known, and now the callback says that it is done."""
    saga, step = work.saga, work.step
    at_hand = work.forward and dispatching.at_hand(work)
    called = saga.state == SagaState.NEEDS_ATTENTION and saga.closed_at is None
    in_doubt = step.state in (StepState.WAITING, StepState.UNKNOWN, StepState.FAILED)
    if not (at_hand and called and in_doubt and _tells_of_end(work, signal)):
        return False
    return not calls.missing_facts(work.declared_step, step, signal.facts or {})


def _tells_of_end(work: UnitOfWork, signal: Signal) -> bool:
    """Whether the callback says that what was waited for has happened."""
    wait = work.declared_step.wait
    return wait is not None and signal.refused is None and bool((signal.facts or {}).get(wait.until))


def _apply(work: UnitOfWork, signal: Signal) -> Next | None:
    """Let the callback end the wait, if it tells of the end: then, what the chain is to do next."""
    wait = work.declared_step.wait
    assert wait is not None, "only a step with a wait waits"
    facts = {**(work.step.facts or {}), **(signal.facts or {})}
    _note(work, signal, Signal.Fate.APPLIED)
    if signal.refused is not None:
        work.set_step(facts=facts)
        failure = failures.failure(work.step, FailureKind.REFUSED, now=work.now, message=signal.refused)
        return transitions.fail(work, failure, provable=True, actor=signal.source)
    if not facts.get(wait.until):
        work.set_step(facts=facts)
        return None
    transitions.finish_step(work, facts)
    if transitions.compensate_if_cancelled(work):
        return Next.COMPENSATE
    return transitions.advance(work)


def _note(work: UnitOfWork, signal: Signal, fate: Signal.Fate) -> None:
    data = {"source": signal.source, "event_id": signal.event_id, "kind": signal.kind}
    work.note(f"signal.{fate.value}", subject=work.step.name, actor=signal.source, data=data)
    _set_fate(signal, fate, work.now)


def _set_fate(signal: Signal, fate: Signal.Fate, now: datetime.datetime) -> None:
    signal.fate = fate
    signal.matched_at = None if fate == Signal.Fate.STORED else now
    signal.save(update_fields=["fate", "matched_at"])
