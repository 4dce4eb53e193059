"""Callbacks that wait for a person: who was called and why, and how it was settled."""

import contextlib
import functools
import logging
import uuid
from collections.abc import Iterator

from django.db import transaction

from sagas import conf, errors, models
from sagas.engine import messages, store
from sagas.engine.kinds import EventKind
from sagas.models import Signal

logger = logging.getLogger("sagas")


def call_a_person(signal: Signal, why: str) -> None:
    """Have it stand in the attention queue until a person says that it is settled; alerted once (A4)."""
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


def reject(*, source: str, event_id: str, why: str) -> models.Signal:
    """Write down that a callback came which its sender signed, and which cannot be understood or kept.

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

    With SAGAS_FOUR_EYES it is settled once a second person says so too: to say that money was given
    back by hand is to decide about it.

    Arguments:
        signal_id: the callback's.
        actor: who says so, for the event.
        reason: what was found out or done, in words.

    Returns:
        The callback; its `settled_at` is null while it waits for the second person.

    Raises:
        NotFound: there is no such callback.
        NotAllowed: no person was called for it, or it is settled already.
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
        kind = EventKind.OPERATOR_SETTLED if agreed else EventKind.OPERATOR_ASKED
        _note_of_person(signal, kind, actor=actor, reason=reason)
    return signal


def retry(signal_id: int, *, actor: str, reason: str) -> models.Signal:
    """Have what a late callback tells of undone once more, now. If that goes well it is settled.

    Arguments:
        signal_id: the callback's.
        actor: who asks for it, for the event.
        reason: why, in words.

    Returns:
        The callback.

    Raises:
        NotFound: there is no such callback.
        NotAllowed: no person was called for it, or there is nothing to undo.
    """
    with _open(signal_id) as signal:
        if signal.fate != Signal.Fate.LATE:
            raise errors.NotAllowed("Nothing of it is to be undone by us; say that it is settled.")
        signal.wake_at = models.database_now()
        signal.save(update_fields=["wake_at"])
        _note_of_person(signal, EventKind.OPERATOR_RETRIED, actor=actor, reason=reason)
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


def _note_of_person(signal: Signal, kind: EventKind, *, actor: str, reason: str) -> None:
    """With the saga's events, where it is about one."""
    try:
        saga_id, name = parse(signal.step_key)
        work = store.lock(saga_id, name)
    except errors.NotFound:
        return
    data = {"source": signal.source, "event_id": signal.event_id, "kind": signal.kind}
    work.note(kind, subject=name, actor=actor, reason=reason, data=data)
    work.commit()


def parse(key: str) -> tuple[uuid.UUID, str]:
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
