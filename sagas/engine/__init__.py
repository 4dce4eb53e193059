"""The engine's face: begin a saga, carry out its steps, take callbacks, intervene.

Rows and rules; no broker in sight. `sagas.tasks` carries the messages, and `sagas.engine.transport` stands
between the two.
"""

from typing import Any

from django.db import connection

from sagas import errors, models
from sagas.declaration import definition
from sagas.engine import store, transitions, transport
from sagas.engine.attempts import Lane, Result, WorkerContext
from sagas.engine.callbacks import reject
from sagas.engine.callbacks import retry as retry_callback
from sagas.engine.callbacks import settle as settle_callback
from sagas.engine.execution import LEASE_MARGIN, go_on, perform
from sagas.engine.inbox import receive
from sagas.engine.kinds import Next
from sagas.engine.late_compensation import compensate_late
from sagas.engine.operations import (
    ask,
    cancel,
    close,
    compensate,
    extend,
    hold,
    look,
    release,
    resolve,
    resume,
    retry,
    skip,
)
from sagas.engine.probes import heard, probe_returned
from sagas.engine.seen import Seen
from sagas.engine.sweeping import on_chain_error, sweep

__all__ = [
    "LEASE_MARGIN",
    "Lane",
    "Next",
    "Result",
    "Seen",
    "WorkerContext",
    "ask",
    "begin",
    "cancel",
    "close",
    "compensate",
    "compensate_late",
    "extend",
    "go_on",
    "heard",
    "hold",
    "look",
    "on_chain_error",
    "perform",
    "probe_returned",
    "receive",
    "reject",
    "release",
    "resolve",
    "resume",
    "retry",
    "retry_callback",
    "settle_callback",
    "skip",
    "sweep",
]


def begin(
    saga: definition.Saga, *, key: str, inputs: dict[str, Any], actor: str = "system"
) -> models.SagaInstance:
    """Begin a saga in the transaction of its business rows; it is sent on its way once that commits.

    The row is the outbox: if the broker is gone the sweep publishes later, and nothing is lost (D1).

    Arguments:
        saga: the declaration.
        key: the business key, at most 100 characters; one live saga of a name has it.
        inputs: a fact (JSON) for every name in the declaration's `inputs`.
        actor: who asked for it, for the event.

    Returns:
        The instance.

    Raises:
        NotInTransaction: it was called outside transaction.atomic().
        MissingFacts: `inputs` does not name exactly what the declaration asks for.
        BadFacts: `inputs` is not JSON that can be kept.
        AlreadyLive: a live saga of that name has the key.
        ImproperlyConfigured: the settings name no transport that can be used.
    """
    transport.current()  # It would stand for ever, and only the log would say why.
    if not connection.in_atomic_block:
        raise errors.NotInTransaction
    if set(inputs) != set(saga.inputs):
        raise errors.MissingFacts(f"{saga} is given {sorted(saga.inputs)}, not {sorted(inputs)}.")
    instance = models.SagaInstance(
        name=saga.name,
        version=saga.version,
        fingerprint=saga.fingerprint,
        key=key,
        facts=store.storable(inputs),
    )
    store.begin(instance, grace=transitions.grace(), actor=actor)
    transport.after_commit(transitions.dispatch_of(instance))
    return instance
