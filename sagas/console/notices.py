"""What about a saga's surroundings explains what is, or is not, happening to it."""

import dataclasses
import datetime
from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sagas import conf, models
from sagas.console import formatting, history, interventions
from sagas.declaration.states import SagaState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Notice:
    """Something about the surroundings that explains what is, or is not, happening."""

    kind: str
    text: str
    tone: str = "warning"

    signal: int | None = None
    """The callback that it is about, where a person is to see to one."""


def of(record: history.History) -> list[Notice]:
    """What about the surroundings explains the saga's state."""
    return list(_all(record))


def _all(record: history.History) -> Iterator[Notice]:
    saga = record.saga
    if saga.archived_at is not None:
        yield Notice(
            kind="archived",
            tone="info",
            text=_("It is in the archive since %(at)s: it is only to look at, and nothing changes any more.")
            % {"at": formatting.moment(saga.archived_at)},
        )
    if record.declared is None and saga.archived_at is None:
        yield Notice(
            kind="undeclared",
            tone="error",
            text=_(
                "Version %(version)s of %(name)s is no longer in the code of this process: it cannot go on "
                "until the declaration is back (sagas.E011)."
            )
            % {"version": saga.version, "name": saga.name},
        )
    elif record.declared is not None and record.declared.fingerprint != saga.fingerprint:
        yield Notice(
            kind="changed",
            tone="error",
            text=_(
                "Version %(version)s of %(name)s was changed since this saga began with it: restore it, and "
                "declare the change as a new version (sagas.E011)."
            )
            % {"version": saga.version, "name": saga.name},
        )
    if record.live and saga.closed_at is None:
        yield from _surroundings(record)
    for signal in record.signals:
        if signal.fate == models.Signal.Fate.LATE:
            yield _late(signal)
        elif signal.attention_at is not None and signal.settled_at is None:
            given = {"source": signal.source, "kind": signal.kind, "why": formatting.spoken(signal.attention)}
            yield Notice(
                kind="callback",
                tone="error",
                text=_("A callback of %(source)s (%(kind)s) waits for a person: %(why)s") % given,
                signal=signal.pk,
            )


def _surroundings(record: history.History) -> Iterator[Notice]:
    saga = record.saga
    if saga.held_at is not None and saga.state == SagaState.NEEDS_ATTENTION:
        yield Notice(
            kind="held", text=_("It is held since %(since)s.") % {"since": formatting.moment(saga.held_at)}
        )
    if saga.cancel_requested_at is not None and not record.backward:
        yield Notice(
            kind="cancel",
            text=_(
                "%(actor)s asked %(since)s for it to be undone: %(reason)s It turns round as soon as the "
                "attempt under way has ended."
            )
            % {
                "actor": saga.cancel_actor,
                "since": formatting.moment(saga.cancel_requested_at),
                "reason": formatting.sentence(saga.cancel_reason),
            },
        )
    for consent in record.consents:
        yield Notice(
            kind="consent",
            text=_("%(actor)s asked for “%(intervention)s”, which waits for a second person: %(reason)s")
            % {
                "actor": consent.actor,
                "intervention": interventions.asked_for(consent),
                "reason": formatting.sentence(consent.reason),
            },
        )
    if record.unswept is not None:
        silence = None if record.swept_at is None else record.now - record.swept_at
        yield Notice(kind="sweep", tone="error", text=nobody_sweeps(silence))
    if record.declared is None:
        return
    told: set[str] = set()
    for each in record.at_each:
        declared = each.declared_step
        if declared is not None and declared.has_worker and declared.queue not in told:
            told.add(declared.queue)
            yield from _queue_and_provider(each, declared.queue)
    if saga.deadline_at is not None and saga.deadline_at <= record.now:
        yield Notice(
            kind="deadline",
            text=_(
                "Its deadline has passed; the next regular check, or the end of the attempt, acts upon it."
            ),
        )


def _queue_and_provider(record: history.History, name: str) -> Iterator[Notice]:
    """Whether its step can get through: to its provider, and to a worker."""
    circuit, queue = record.circuits.get(name), record.queues.get(name)
    if circuit is not None and circuit.open_until is not None:
        yield Notice(
            kind="circuit",
            text=_(
                "The provider of %(queue)s is out since %(since)s: %(reason)s Its steps wait without "
                "spending their attempts. A few are tried again %(when)s."
            )
            % {
                "queue": name,
                "since": formatting.moment(circuit.failing_since or circuit.opened_at),
                "reason": formatting.sentence(circuit.reason),
                "when": formatting.when(circuit.open_until, record.now),
            },
        )
    lag = queue.lag(record.now) if queue is not None else None
    if record.unheard is not None:
        yield Notice(kind="queue", tone="error", text=nobody_listens(name, record.unheard))
    elif lag is not None and lag > conf.SILENT_AFTER:
        yield Notice(
            kind="backlog",
            text=_(
                "The queue %(queue)s has a backlog: what was sent %(lag)s ago has not been taken yet. Its "
                "workers are at it; more of them would make it shorter."
            )
            % {"queue": name, "lag": formatting.length(lag)},
        )


def nobody_listens(queue: str, silence: datetime.timedelta) -> str:
    """That a queue has no worker, and what to do about it."""
    return _(
        "No worker listens on the queue %(queue)s: none has given a sign for %(silence)s. Start one "
        "(%(command)s)."
    ) % {
        "queue": queue,
        "silence": formatting.length(silence),
        "command": conf.worker_command(queue),
    }


def line_full(queue: str, standing: int) -> str:
    """That no more sagas begin in a queue, and what to do about it."""
    return ngettext(
        "No more sagas are taken that begin in the queue %(queue)s: %(n)s waits in its line, and "
        "SAGAS_LONGEST_LINE allows no more. More workers of that queue make it shorter.",
        "No more sagas are taken that begin in the queue %(queue)s: %(n)s wait in its line, and "
        "SAGAS_LONGEST_LINE allows no more. More workers of that queue make it shorter.",
        standing,
    ) % {"queue": queue, "n": standing}


def nobody_sweeps(silence: datetime.timedelta | None) -> str:
    """That nobody sweeps, since when if ever somebody did, and what to do about it."""
    if silence is None:
        text = _(
            "The regular check (sagas.sweep) does not run, and never has: "
            "what is lost, late or due stands still."
        )
    else:
        text = _(
            "The regular check (sagas.sweep) has not run for %(silence)s: "
            "what is lost, late or due stands still."
        )
    if conf.uses_celery():
        hint = _(
            "Schedule the task sagas.sweep in beat, run beat, and have a worker listen on the queue "
            "%(queue)s (celery worker --queues=%(queue)s)."
        )
    else:
        hint = _("Run manage.py saga_worker, which sweeps; with --processes 0 it carries out no step.")
    return f"{text} {hint}" % {"silence": formatting.length(silence), "queue": conf.SWEEP_QUEUE}


def _late(signal: models.Signal) -> Notice:
    given = {
        "source": signal.source,
        "kind": signal.kind,
        "at": formatting.moment(signal.received_at),
        "error": formatting.spoken(signal.compensation_error),
        "done": formatting.moment(signal.compensated_at),
    }
    if signal.compensated_at is not None:
        text = _(
            "A callback of %(source)s (%(kind)s) came too late, at %(at)s, and what it told of was undone "
            "by itself at %(done)s."
        )
        return Notice(kind="late", tone="info", text=text % given)
    if signal.settled_at is not None:
        text = _(
            "A callback of %(source)s (%(kind)s) came too late, at %(at)s, and %(actor)s settled what it "
            "told of: %(settlement)s"
        )
        given |= {"actor": signal.settled_by, "settlement": formatting.spoken(signal.settlement)}
        return Notice(kind="late", tone="info", text=text % given)
    if signal.wake_at is not None:
        text = _(
            "A callback of %(source)s (%(kind)s) came too late, at %(at)s; what it told of is being undone."
        )
        return Notice(kind="late", text=text % given)
    text = _(
        "A callback of %(source)s (%(kind)s) came too late, at %(at)s, and what it told of could not be "
        "undone: %(error)s Settle it by hand."
    )
    return Notice(kind="late", tone="error", text=text % given, signal=signal.pk)
