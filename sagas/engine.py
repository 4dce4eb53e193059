"""The engine's face: begin a saga, carry out its steps, take callbacks, steer it.

Rows and rules; no broker in sight. `sagas.tasks` carries the messages, and `sagas.transport` is the
door between the two.
"""

from typing import Any

from django.db import connection

from sagas import definition, errors, journal, models, moves, transport
from sagas.inbox import receive, reject, remedy
from sagas.inbox import retry as retry_callback
from sagas.inbox import settle as settle_callback
from sagas.operations import ask, cancel, close, compensate, extend, hold, look, release, resolve, retry, skip
from sagas.phases import Bearer, Result, Verdict, perform
from sagas.seen import Seen
from sagas.sweeping import echo, heard, sweep, take_up

__all__ = [
    "Bearer",
    "Result",
    "Seen",
    "Verdict",
    "ask",
    "begin",
    "cancel",
    "close",
    "compensate",
    "echo",
    "extend",
    "heard",
    "hold",
    "look",
    "perform",
    "receive",
    "reject",
    "release",
    "remedy",
    "resolve",
    "retry",
    "retry_callback",
    "settle_callback",
    "skip",
    "sweep",
    "take_up",
]


def begin(
    saga: definition.Saga, *, key: str, given: dict[str, Any], actor: str = "system"
) -> models.SagaInstance:
    """Begin a saga in the transaction of its business rows; it is sent on its way once that commits.

    The row is the outbox: if the broker is gone the sweep publishes later, and nothing is lost (D1).

    Arguments:
        saga: the declaration.
        key: the business key, at most 100 characters; one live saga of a name has it.
        given: a fact (JSON) for every name in the declaration's `given`.
        actor: who asked for it, for the event.

    Returns:
        The instance.

    Raises:
        NotInTransaction: it was called outside transaction.atomic().
        MissingFacts: `given` does not name exactly what the declaration asks for.
        BadFacts: `given` is not JSON that can be kept.
        AlreadyLive: a live saga of that name has the key.
        ImproperlyConfigured: the settings name nobody who could carry its messages.
    """
    transport.current()  # It would stand for ever, and only the log would say why.
    if not connection.in_atomic_block:
        raise errors.NotInTransaction
    if set(given) != set(saga.given):
        raise errors.MissingFacts(f"{saga} is given {sorted(saga.given)}, not {sorted(given)}.")
    instance = models.SagaInstance(
        name=saga.name,
        version=saga.version,
        fingerprint=saga.fingerprint,
        key=key,
        facts=journal.storable(given),
    )
    journal.begin(instance, grace=moves.grace(), actor=actor)
    transport.after_commit(moves.errand(instance))
    return instance
