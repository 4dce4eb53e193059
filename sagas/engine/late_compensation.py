"""What a late callback tells of is undone once more, such as a payment that lands after its refund (M3)."""

import datetime
import random

from django.db import transaction

from sagas import database, models
from sagas.declaration import definition
from sagas.engine import callbacks, calls, failures, messages, store
from sagas.engine.kinds import EventKind
from sagas.models import Signal

ATTEMPTS = 50
"""How often it is tried before a person is called."""

LEASE = datetime.timedelta(seconds=60)
"""How long one attempt may take before another worker makes its own; undos are idempotent."""


def compensate_late(signal_id: int) -> None:
    """Undo once more what a late callback tells of.

    1. Count the attempt, and hold the callback for as long as it may take.
    2. Call the step's undo: a local one in a transaction, a remote one with none open.
    3. Write down how it went: done, to be tried again, or for a person.

    Raises:
        django.db.Error: the database is away; its lease brings it back.
    """
    with transaction.atomic():
        signal = Signal.objects.select_for_update().get(pk=signal_id)
        now = models.database_now()
        if signal.compensated_at or signal.wake_at is None:
            return
        signal.compensation_attempts += 1
        signal.wake_at = now + LEASE
        signal.save(update_fields=["compensation_attempts", "wake_at"])
        saga_id, name = callbacks.parse(signal.step_key)
        row = models.StepInstance.objects.select_related("saga").get(saga=saga_id, name=name)
    declared = row.saga.definition
    step = declared.step(name)
    try:
        if step.remote:
            calls.undo(declared, step, row)
        else:
            with transaction.atomic():
                calls.undo(declared, step, row)
    except Exception as error:
        if database.is_away(error):
            raise
        _failed(signal, declared, step, error)
        return
    _done(signal)


def queue_of(signal: Signal) -> str:
    """Where a late callback's compensation is carried out: at the service that it is about.

    Raises:
        UnknownSaga: that version is no longer declared.
        KeyError: it is, without that step.
    """
    saga_id, name = callbacks.parse(signal.step_key)
    return models.SagaInstance.objects.get(pk=saga_id).definition.step(name).queue


def _done(signal: Signal) -> None:
    with transaction.atomic():
        work = store.lock(*callbacks.parse(signal.step_key))
        done = Signal.objects.filter(pk=signal.pk, compensated_at=None)
        if not done.update(compensated_at=work.now, wake_at=None, compensation_error=""):
            return  # Another worker was first; undos are idempotent.
        waited_for = Signal.objects.filter(pk=signal.pk, attention_at__isnull=False, settled_at=None)
        waited_for.update(settled_at=work.now, settled_by="engine", settlement=messages.UNDONE_AFTER_ALL)
        work.note(
            EventKind.SIGNAL_COMPENSATED,
            subject=work.step.name,
            actor=signal.source,
            data={"event_id": signal.event_id},
        )
        work.commit()


def _failed(signal: Signal, declared: definition.Saga, step: definition.Step, error: Exception) -> None:
    excused = database.is_busy(error) or isinstance(error, tuple(declared.outage))
    spent = signal.compensation_attempts >= ATTEMPTS and not excused
    final = spent or isinstance(error, (*declared.refused, *declared.mismatch))
    attempts = signal.compensation_attempts
    retry = declared.retry_of(step, undo=True)
    pause = retry.pause(attempt=attempts, chance=random.random())  # noqa: S311 - no secret
    text = f"{type(error).__name__}: {failures.text_of(error)}"
    with transaction.atomic():
        work = store.lock(*callbacks.parse(signal.step_key))
        unfinished = Signal.objects.filter(pk=signal.pk, compensated_at=None)
        if not unfinished.update(compensation_error=text, wake_at=None if final else work.now + pause):
            return  # Another worker had more luck meanwhile.
        work.note(
            EventKind.SIGNAL_COMPENSATION_FAILED if final else EventKind.SIGNAL_COMPENSATION_RETRY,
            subject=work.step.name,
            attempt=attempts,
            data={"error": text},
        )
        work.commit()
        if final:
            signal.refresh_from_db()
            callbacks.call_a_person(signal, messages.NOT_UNDONE % {"error": text})
