"""The engine's face: begin a saga, carry out its steps, take callbacks, intervene.

Rows and rules; no broker in sight. `sagas.tasks` carries the messages, and `sagas.engine.transport` stands
between the two.
"""

import contextlib
import datetime
import functools
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, transaction

from sagas import conf, errors, models
from sagas.declaration import definition
from sagas.engine import dispatching, pacing, store, tracecontext, transitions, transport
from sagas.engine.archive import forget_too, keep_live, take_along
from sagas.engine.attempts import Lane, Result, WorkerContext
from sagas.engine.callbacks import reject
from sagas.engine.callbacks import retry as retry_callback
from sagas.engine.callbacks import settle as settle_callback
from sagas.engine.carrying import carry
from sagas.engine.erasure import STRUCK, Damaged, Values, strike, strike_columns, strike_elsewhere, strike_too
from sagas.engine.erasure import why_not as why_not_struck
from sagas.engine.execution import LEASE_MARGIN, go_on, perform
from sagas.engine.inbox import receive
from sagas.engine.kinds import Next
from sagas.engine.late_compensation import compensate_late
from sagas.engine.operations import (
    approve,
    ask,
    cancel,
    close,
    compensate,
    extend,
    hold,
    look,
    meant,
    refuse,
    release,
    resolve,
    resume,
    retry,
    skip,
)
from sagas.engine.pacing import take
from sagas.engine.probes import heard, probe_returned
from sagas.engine.seen import Seen
from sagas.engine.sums import Kind as MetricKind
from sagas.engine.sums import age as metrics_age
from sagas.engine.sums import fold as fold_metrics
from sagas.engine.sums import read as read_metrics
from sagas.engine.sums import rebuild as rebuild_metrics
from sagas.engine.sweeping import leave_to_others, on_chain_error, sweep
from sagas.engine.tracecontext import traced

__all__ = [
    "LEASE_MARGIN",
    "STRUCK",
    "Damaged",
    "Lane",
    "MetricKind",
    "Next",
    "Result",
    "Seen",
    "Values",
    "WorkerContext",
    "approve",
    "ask",
    "begin",
    "begin_many",
    "cancel",
    "carry",
    "close",
    "compensate",
    "compensate_late",
    "extend",
    "fold_metrics",
    "forget_too",
    "go_on",
    "heard",
    "hold",
    "keep_live",
    "leave_to_others",
    "look",
    "meant",
    "metrics_age",
    "on_chain_error",
    "perform",
    "probe_returned",
    "read_metrics",
    "rebuild_metrics",
    "receive",
    "refuse",
    "reject",
    "release",
    "resolve",
    "resume",
    "retry",
    "retry_callback",
    "settle_callback",
    "skip",
    "strike",
    "strike_columns",
    "strike_elsewhere",
    "strike_too",
    "sweep",
    "take",
    "take_along",
    "traced",
    "why_not_struck",
]


def begin(
    saga: definition.Saga,
    *,
    key: str,
    inputs: dict[str, Any],
    actor: str = "system",
    not_before: datetime.datetime | None = None,
) -> models.SagaInstance:
    """Begin a saga in the transaction of its business rows; it is sent on its way once that commits.

    The row is the outbox: if the broker is gone the sweep publishes later, and nothing is lost (D1). While
    its first queue is full it stands in the line of that queue, and a worker takes it from there.

    Arguments:
        saga: the declaration.
        key: the business key, at most 100 characters; one live saga of a name has it.
        inputs: a fact (JSON) for every name in the declaration's `inputs`.
        actor: who asked for it, for the event.
        not_before: when it is to start, by the database's clock; its deadline counts from then. It can be
            cancelled before. By default it starts now.

    Returns:
        The instance.

    Raises:
        NotInTransaction: it was called outside transaction.atomic().
        MissingFacts: `inputs` does not name exactly what the declaration asks for.
        BadFacts: `inputs` is not JSON that can be kept.
        AlreadyLive: a live saga of that name has the key.
        LineFull: as many as the setting `SAGAS_LONGEST_LINE` allows stand in the line of its first queue
            already. One that begins otherwise than with one step's message, or later, is taken.
        ValueError: `not_before` has no time zone.
        ImproperlyConfigured: the settings name no transport that can be used.
    """
    if not_before is not None and not_before.tzinfo is None:
        raise ValueError(f"not_before must have a time zone: {not_before} could be any of many moments.")
    (instance,) = _begin(saga, [(key, inputs)], actor, not_before)
    return instance


def begin_many(
    saga: definition.Saga, items: Iterable[tuple[str, dict[str, Any]]], *, actor: str = "system"
) -> list[models.SagaInstance]:
    """Begin many sagas of one declaration at once: one statement writes them, and they are sent on together.

    It is to `begin` as it is called for each, some ten times as fast: for an import, or a job that begins
    thousands. All of them begin or none does. A few hundred at a time is enough; more keep the transaction
    open for longer, and gain little.

    Arguments:
        saga: the declaration.
        items: of each, its business key and its inputs, as `begin` takes them.
        actor: who asked for them, for the events.

    Returns:
        The instances, in the order of the items.

    Raises:
        NotInTransaction: it was called outside transaction.atomic().
        MissingFacts: the inputs of one do not name exactly what the declaration asks for.
        BadFacts: the inputs of one are not JSON that can be kept.
        AlreadyLive: live sagas of that name have some of the keys, which it names (and lists in
            `context["keys"]`), or a key stands twice among the items. None was begun, and the transaction
            goes on.
        LineFull: as many as the setting `SAGAS_LONGEST_LINE` allows stand in the line of their first queue
            already, as with `begin`. While one place is free all of these may begin.
        ImproperlyConfigured: the settings name no transport that can be used.
    """
    return _begin(saga, list(items), actor)


def _begin(
    saga: definition.Saga,
    items: Sequence[tuple[str, dict[str, Any]]],
    actor: str,
    not_before: datetime.datetime | None = None,
) -> list[models.SagaInstance]:
    transport.current()  # They would stand for ever, and only the log would say why.
    if not connection.in_atomic_block:
        raise errors.NotInTransaction
    instances = [
        models.SagaInstance(
            name=saga.name,
            version=saga.version,
            fingerprint=saga.fingerprint,
            key=key,
            facts=_checked(saga, key, inputs),
            epoch=0,
            traceparent=tracecontext.current(),
        )
        for key, inputs in items
    ]
    sent = [] if not_before is not None else _sent_at_once(saga, instances)
    try:
        for queue in {saga.all_steps[instance.position].queue for instance in sent}:
            pacing.refuse_where_full(queue)
    except errors.LineFull:
        # Who asks again, not knowing that the saga was begun, is not to be told that it was not.
        store.refuse_live(saga.name, [instance.key for instance in instances])
        raise
    lines: dict[str, list[models.SagaInstance]] = {}
    if saga.inline and conf.inline():
        for instance in sent:
            lines.setdefault(saga.all_steps[instance.position].queue, []).append(instance)
    for queue, some in lines.items():
        for instance in some[pacing.room(queue, len(some)) :]:
            instance.in_line_for = queue
    # One that is live already has written nothing; of many the others would stand.
    with transaction.atomic() if len(instances) > 1 else contextlib.nullcontext():
        store.begin(
            instances,
            grace=dispatching.grace(),
            line_look=dispatching.LINE_LOOK,
            actor=actor,
            not_before=not_before,
        )
    if sent:
        transport.after_commit(
            *(dispatching.dispatch_of(instance) for instance in sent if instance.in_line_for is None)
        )
    if not_before is None and len(sent) < len(instances):
        at_once = {instance.pk for instance in sent}
        for instance in instances:
            if instance.pk not in at_once:
                _enter(instance)
    for queue in lines:
        transaction.on_commit(functools.partial(pacing.look, queue), robust=True)
    return instances


def _sent_at_once(
    saga: definition.Saga, instances: Sequence[models.SagaInstance]
) -> list[models.SagaInstance]:
    """Those that need but a message; each is put behind the steps at the beginning that it leaves out."""
    sent = []
    for instance in instances:
        instance.position = transitions.left_out_at_first(saga, instance.facts)
        instance.epoch = int(saga.stage_at(instance.position).is_plain)
        if instance.epoch:
            sent.append(instance)
    return sent


def _enter(instance: models.SagaInstance) -> None:
    """Begin with the first stage, where that is more than to send a message."""
    work = store.lock(instance.pk)
    transitions.start(work)
    work.commit()
    for field in models.SagaInstance._meta.concrete_fields:
        setattr(instance, field.attname, getattr(work.saga, field.attname))


def _checked(saga: definition.Saga, key: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs as a row can keep them.

    Raises:
        MissingFacts: they do not name exactly what the declaration asks for.
        BadFacts: they are not JSON that can be kept.
    """
    if set(inputs) != set(saga.inputs):
        raise errors.MissingFacts(
            f"{saga} is given {sorted(saga.inputs)}, not {sorted(inputs)} (key {key!r}).", key=key
        )
    try:
        return store.storable(inputs)
    except errors.BadFacts as error:
        raise errors.BadFacts(f"{error} (Key {key!r}.)", key=key) from error.__cause__
