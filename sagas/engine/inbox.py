"""Callbacks from outside: stored first, then matched, and kept whatever becomes of them.

One that comes before its step waits for it is taken up when the step does. One that lost a race
against the saga's giving up is acted upon: what it tells of is undone once more (M3).
"""

import contextlib
import datetime
import functools
import logging
import random
import uuid
from collections.abc import Iterator
from typing import Any, Literal

from django.db import transaction

from sagas import conf, database, errors, models
from sagas.declaration.states import Direction, SagaState, StepState
from sagas.engine import messages, store, transitions
from sagas.engine.store import Change
from sagas.models import Signal

logger = logging.getLogger("sagas")

LATE_ATTEMPTS = 50
"""How often the remedy of a late callback is tried before a person is called."""

Ended = Literal["", "turned", "advanced"]


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
    with transaction.atomic():
        signal, created = Signal.objects.get_or_create(
            source=source,
            event_id=event_id,
            defaults={
                "step_key": key[:100],
                "facts": facts,
                "refused": refused,
                "kind": kind,
                "mismatch": mismatch,
            },
        )
        if created:
            _match(signal, queue)
    return signal


def reject(*, source: str, event_id: str, why: str) -> models.Signal:
    """Write down that a callback came which its sender signed, and which nobody can understand or keep.

    Nothing of its content is kept. A person is called: it may tell of money. Coming again changes nothing.

    Arguments:
        source: who sent it.
        event_id: the sender's own id of it, or what else it is known again by.
        why: what is wrong with it, in words, without what it says (A3).
    """
    with transaction.atomic():
        signal, created = Signal.objects.get_or_create(
            source=source, event_id=event_id, defaults={"step_key": "", "fate": Signal.Fate.UNREADABLE}
        )
        if created:
            call_a_person(signal, messages.NOT_UNDERSTOOD % {"why": why})
    return signal


def settle(signal_id: int, *, actor: str, reason: str) -> models.Signal:
    """Say, with evidence, that what a callback called a person for is settled; kept with who said so.

    With SAGAS_FOUR_EYES it is settled once a second person says so too: whoever says that money was given
    back by hand decides about it.

    Returns:
        The callback; its `settled_at` is null while it waits for the second person.

    Raises:
        NotFound: there is no such callback.
        NotAllowed: nobody was called for it, or it is settled already.
    """
    with _open(signal_id) as signal:
        first = signal.settled_by
        agreed = not conf.four_eyes() or first not in ("", actor)
        if agreed and first not in ("", actor):
            signal.settled_by, signal.settlement = (
                f"{first}, {actor}"[:150],
                f"{signal.settlement} / {reason}",
            )
        else:
            signal.settled_by, signal.settlement = actor, reason
        if agreed:
            signal.settled_at, signal.wake_at = models.database_now(), None
        signal.save(update_fields=["settled_at", "settled_by", "settlement", "wake_at"])
        kind = "operator.settled" if agreed else "operator.asked"
        _note_of_person(signal, kind, actor=actor, reason=reason)
    return signal


def retry(signal_id: int, *, actor: str, reason: str) -> models.Signal:
    """Have what a late callback tells of undone once more, now. If that goes well it is settled.

    Raises:
        NotFound: there is no such callback.
        NotAllowed: nobody was called for it, or there is nothing to undo.
    """
    with _open(signal_id) as signal:
        if signal.fate != Signal.Fate.LATE:
            raise errors.NotAllowed("Nothing of it is to be undone by us; say that it is settled.")
        signal.wake_at = models.database_now()
        signal.save(update_fields=["wake_at"])
        _note_of_person(signal, "operator.retried", actor=actor, reason=reason)
    return signal


@contextlib.contextmanager
def _open(signal_id: int) -> Iterator[Signal]:
    """A callback that a person was called for, locked."""
    with transaction.atomic():
        found = Signal.objects.select_for_update().filter(pk=signal_id).first()
        if found is None:
            raise errors.NotFound(f"There is no callback {signal_id}.")
        if found.attention_at is None or found.settled_at is not None:
            raise errors.NotAllowed("Nobody has to see to this callback any more.")
        yield found


def _note_of_person(signal: Signal, kind: str, *, actor: str, reason: str) -> None:
    """With the saga's events, where it is about one."""
    try:
        saga_id, name = _parse(signal.step_key)
        locked = store.lock(saga_id, name)
    except errors.NotFound:
        return
    change = Change(locked.saga, locked.now)
    data = {"source": signal.source, "event_id": signal.event_id, "kind": signal.kind}
    change.note(kind, subject=name, actor=actor, reason=reason, data=data)
    change.write()


def take_stored(change: Change, step: models.StepInstance) -> Ended:
    """Take up the callbacks that came before the step waited; says whether they ended the wait."""
    stored = Signal.objects.filter(step_key=step.key, fate=Signal.Fate.STORED).order_by("id")
    for signal in stored.select_for_update():
        ended = _apply(change, step, signal)
        if ended:
            return ended
    return ""


def compensate_late(signal_id: int) -> None:
    """Undo once more what a late callback tells of, such as a payment after its refund (M3)."""
    with transaction.atomic():
        signal = Signal.objects.select_for_update().get(pk=signal_id)
        now = models.database_now()
        if signal.compensated_at or signal.wake_at is None:
            return
        signal.compensation_attempts += 1
        signal.wake_at = now + LEASE
        signal.save(update_fields=["compensation_attempts", "wake_at"])
        saga_id, name = _parse(signal.step_key)
        saga = models.SagaInstance.objects.get(pk=saga_id)
    declared = saga.definition
    step = declared.step(name)
    assert step.undo is not None, "only what can be undone has a remedy"
    try:
        if step.remote:
            step.undo(key=signal.step_key)
        else:
            with transaction.atomic():
                step.undo(key=signal.step_key)
    except Exception as error:
        if database.is_away(error):
            raise  # Its lease brings it back.
        excused = database.is_busy(error) or isinstance(error, tuple(declared.outage))
        spent = signal.compensation_attempts >= LATE_ATTEMPTS and not excused
        refused = isinstance(error, (*declared.refused, *declared.mismatch)) or spent
        _remedy_failed(signal, error, final=refused, retry=declared.retry_of(step, undo=True))
        return
    with transaction.atomic():
        locked = store.lock(saga_id, name)
        done = Signal.objects.filter(pk=signal.pk, compensated_at=None)
        if not done.update(compensated_at=locked.now, wake_at=None, compensation_error=""):
            return  # Another worker was first; undos are idempotent.
        waited_for = Signal.objects.filter(pk=signal.pk, attention_at__isnull=False, settled_at=None)
        waited_for.update(settled_at=locked.now, settled_by="engine", settlement=messages.UNDONE_AFTER_ALL)
        change = Change(locked.saga, locked.now)
        change.note(
            "signal.compensated", subject=name, actor=signal.source, data={"event_id": signal.event_id}
        )
        change.write()


def queue_of(signal: Signal) -> str:
    """Where the remedy of a late callback is carried out: at the service that it is about.

    Raises:
        UnknownSaga: that version is no longer declared.
        KeyError: it is, without that step.
    """
    saga_id, name = _parse(signal.step_key)
    return models.SagaInstance.objects.get(pk=saga_id).definition.step(name).queue


LEASE = datetime.timedelta(seconds=60)
"""How long one attempt at a remedy may take before another worker makes its own; undos are idempotent."""


def _remedy_failed(signal: Signal, error: Exception, *, final: bool, retry: Any) -> None:
    saga_id, name = _parse(signal.step_key)
    pause = retry.pause(attempt=signal.compensation_attempts, chance=random.random())  # noqa: S311 - no secret
    with transaction.atomic():
        locked = store.lock(saga_id, name)
        signal.compensation_error = f"{type(error).__name__}: {transitions.words_of(error)}"
        wake_at = None if final else locked.now + pause
        open_ = Signal.objects.filter(pk=signal.pk, compensated_at=None)
        if not open_.update(compensation_error=signal.compensation_error, wake_at=wake_at):
            return  # Another worker had more luck meanwhile.
        change = Change(locked.saga, locked.now)
        kind = "signal.compensation_failed" if final else "signal.compensation_retry"
        change.note(
            kind,
            subject=name,
            attempt=signal.compensation_attempts,
            data={"error": signal.compensation_error},
        )
        change.write()
        if final:
            signal.refresh_from_db()
            call_a_person(signal, messages.NOT_UNDONE % {"error": signal.compensation_error})


def call_a_person(signal: Signal, why: str) -> None:
    """Have it stand in the attention queue until somebody says that it is settled; alerted once (A4)."""
    called_before = signal.attention_at is not None
    signal.attention, signal.attention_at = why, signal.attention_at or models.database_now()
    signal.settled_at, signal.settled_by, signal.settlement = None, "", ""
    signal.save(update_fields=["attention", "attention_at", "settled_at", "settled_by", "settlement"])
    if not called_before:
        transaction.on_commit(
            functools.partial(
                logger.error,
                "callback %s of %s (%s) needs attention: %s Settle it by hand, and say so in the console.",
                signal.event_id,
                signal.source,
                signal.step_key,
                why,
            )
        )


def _match(signal: Signal, queue: str) -> None:
    """Find the step that the callback is about, and act."""
    try:
        saga_id, name = _parse(signal.step_key)
        locked = store.lock(saga_id, name)
    except errors.NotFound:
        _set_fate(signal, Signal.Fate.UNMATCHED)
        call_a_person(signal, messages.NO_SAGA)
        return
    try:
        if queue and locked.saga.definition.step(name).queue != queue:
            _set_fate(signal, Signal.Fate.UNMATCHED)
            call_a_person(signal, messages.NOT_ITS_STEP)
            return
        with transaction.atomic():
            _act(locked, signal)
    except errors.UnknownSaga:
        logger.exception("callback %s of %s is kept: nobody can act upon it", signal.event_id, signal.source)
        _keep(locked, signal)
    except Exception as bug:
        if database.is_passing(bug):
            raise
        # Whoever sent it has done nothing wrong, and it must not be lost.
        logger.error("a saga's hook met a bug: %s", transitions.traced(bug, {}))
        _met_a_bug(store.lock(saga_id, name), signal, bug)


def _keep(locked: store.Locked, signal: Signal) -> None:
    change = Change(locked.saga, locked.now)
    _note(change, locked.step, signal, Signal.Fate.STORED)
    change.write()


def _met_a_bug(locked: store.Locked, signal: Signal, bug: Exception) -> None:
    """The callback ends a wait, and the saga's owner could not take its end: as after a function's answer.

    It is kept: the step takes it up when it is tried again.
    """
    change = Change(locked.saga, locked.now)
    _note(change, locked.step, signal, Signal.Fate.STORED)
    if locked.saga.state == SagaState.RUNNING and locked.step.state == StepState.WAITING:
        failure = transitions.failure(locked.step, "bug", now=locked.now, error=bug)
        transitions.fail(change, locked.step, failure, owners=True, actor=signal.source)
    change.write()


def _act(locked: store.Locked, signal: Signal) -> None:
    """Do what the callback says, as the saga and the step stand."""
    saga, step = locked.saga, locked.step
    change = Change(saga, locked.now)
    if signal.mismatch:
        _contradict(change, step, signal)
    elif saga.state == SagaState.RUNNING and step.state == StepState.WAITING:
        _apply(change, step, signal)
        if saga.state in (SagaState.RUNNING, SagaState.COMPENSATING) and step.state != StepState.WAITING:
            transitions.dispatch(change)
    elif _settles(saga, step, signal):
        transitions.revive(change, step, actor=signal.source, reason="A callback settles it.")
        if _apply(change, step, signal) and not saga.is_final:
            transitions.dispatch(change)
    elif saga.closed_at is not None:
        _act_on_closed(change, step, signal)
    elif saga.state in (SagaState.RUNNING, SagaState.NEEDS_ATTENTION) and _may_yet_wait(step):
        _note(change, step, signal, Signal.Fate.STORED)
        if step.state == StepState.UNKNOWN and saga.state == SagaState.RUNNING:
            change.set(wake_at=store.NOW)
    elif _tells_of_end(saga, step, signal) and step.state in _GIVEN_UP and _has_undo(saga, step):
        _remedy_late(change, step, signal)
    else:
        _note(change, step, signal, Signal.Fate.NOTED)
    change.write()


def _act_on_closed(change: Change, step: models.StepInstance, signal: Signal) -> None:
    """A callback about a saga that was put aside: nothing waits for it any more.

    What it tells that nobody knew when the saga was put aside, such as a payment that lands after it, is
    undone (M3). What was known then was an operator's to settle by hand: undone once more here, the same
    money might go back twice.
    """
    saga = change.saga
    wait = saga.definition.step(step.name).wait
    known = wait is not None and bool((step.facts or {}).get(wait.until))
    if _tells_of_end(saga, step, signal) and not known and step.begun and _has_undo(saga, step):
        _remedy_late(change, step, signal)
    else:
        _note(change, step, signal, Signal.Fate.NOTED)


def _contradict(change: Change, step: models.StepInstance, signal: Signal) -> None:
    """It tells something else than was asked, so it ends no wait and fails no step.

    1. What is not wanted any more is undone once more: whatever was done goes back (M3). Of a saga that an
       operator put aside a person decides: what was settled by hand might go back twice.
    2. A saga that waits for it stops before a person.
    3. Otherwise the callback itself waits for one. If the step's outcome is unknown, it is asked about.
    """
    saga = change.saga
    if step.state in _GIVEN_UP and _has_undo(saga, step) and saga.closed_at is None:
        _remedy_late(change, step, signal)
        return
    _note(change, step, signal, Signal.Fate.MISMATCH)
    said = messages.NOT_ASKED % {"mismatch": signal.mismatch}
    if saga.state == SagaState.RUNNING and step.state == StepState.WAITING:
        failure = transitions.failure(step, "mismatch", now=change.now, message=said)
        if transitions.contradict(change, step, failure, actor=signal.source) and not saga.is_final:
            transitions.dispatch(change)
        return
    call_a_person(signal, said)
    if step.state == StepState.UNKNOWN and saga.state == SagaState.RUNNING:
        change.set(wake_at=store.NOW)


def _remedy_late(change: Change, step: models.StepInstance, signal: Signal) -> None:
    _note(change, step, signal, Signal.Fate.LATE)
    signal.wake_at = change.now
    signal.save(update_fields=["wake_at"])


_GIVEN_UP = {StepState.UNDOING, StepState.UNDONE, StepState.UNDO_FAILED, StepState.FAILED}


def _may_yet_wait(step: models.StepInstance) -> bool:
    return step.state in (StepState.PENDING, StepState.RUNNING, StepState.UNKNOWN, StepState.WAITING)


def _settles(saga: models.SagaInstance, step: models.StepInstance, signal: Signal) -> bool:
    """Whether a person was called because nobody knew, and now somebody says that it is done."""
    at_hand = saga.direction == Direction.FORWARD and saga.position == step.position
    called = saga.state == SagaState.NEEDS_ATTENTION and saga.closed_at is None
    in_doubt = step.state in (StepState.WAITING, StepState.UNKNOWN, StepState.FAILED)
    if not (at_hand and called and in_doubt and _tells_of_end(saga, step, signal)):
        return False
    return not transitions.missing_facts(saga.definition.step(step.name), step, signal.facts or {})


def _tells_of_end(saga: models.SagaInstance, step: models.StepInstance, signal: Signal) -> bool:
    """Whether the callback says that what was waited for has happened."""
    wait = saga.definition.step(step.name).wait
    return wait is not None and signal.refused is None and bool((signal.facts or {}).get(wait.until))


def _has_undo(saga: models.SagaInstance, step: models.StepInstance) -> bool:
    return saga.definition.step(step.name).undo is not None


def _apply(change: Change, step: models.StepInstance, signal: Signal) -> Ended:
    """Let the callback end the wait, if it tells of the end."""
    saga = change.saga
    declared = saga.definition.step(step.name)
    assert declared.wait is not None, "only a step with a wait waits"
    facts = {**(step.facts or {}), **(signal.facts or {})}
    _note(change, step, signal, Signal.Fate.APPLIED)
    if signal.refused is not None:
        change.set_step(step, facts=facts)
        failure = transitions.failure(step, "refused", now=change.now, message=signal.refused)
        turned = transitions.fail(change, step, failure, provable=True, actor=signal.source)
        return "turned" if turned else "advanced"
    if not facts.get(declared.wait.until):
        change.set_step(step, facts=facts)
        return ""
    transitions.finish_step(change, step, facts)
    if transitions.turn_if_cancelled(change, step):
        return "turned"
    transitions.advance(change, step)
    return "advanced"


def _note(change: Change, step: models.StepInstance, signal: Signal, fate: Signal.Fate) -> None:
    data = {"source": signal.source, "event_id": signal.event_id, "kind": signal.kind}
    change.note(f"signal.{fate.value}", subject=step.name, actor=signal.source, data=data)
    _set_fate(signal, fate)


def _set_fate(signal: Signal, fate: Signal.Fate) -> None:
    signal.fate = fate
    signal.matched_at = None if fate == Signal.Fate.STORED else models.database_now()
    signal.save(update_fields=["fate", "matched_at"])


def _parse(key: str) -> tuple[uuid.UUID, str]:
    """The instance and the step that a key names.

    Raises:
        NotFound: it is no key of ours.
    """
    saga_id, dot, step = key.partition(".")
    try:
        if not dot:
            raise ValueError(key)
        return uuid.UUID(saga_id), step
    except ValueError:
        raise errors.NotFound(f"{key!r} is no step's key.") from None
