"""The engine's errors. Each docstring is the message, and says what the caller may do."""

import inspect
from collections.abc import Sequence
from typing import Any


class SagaError(Exception):
    """Something is wrong with a saga."""

    def __init__(self, message: str | None = None, **context: Any) -> None:
        self.context = context
        super().__init__(message or inspect.getdoc(type(self)))


class UnknownSaga(SagaError):
    """No saga with that name and version is declared; declare it in an app's saga.py, or correct the name."""


class NotFound(SagaError):
    """There is no such saga instance; look its id up with `manage.py saga list`."""


class AlreadyLive(SagaError):
    """A live saga has this business key already; wait for it to end, or follow that one."""


class LineFull(SagaError):
    """So many sagas wait for a worker that no more are taken; nothing was begun, so try again in a while."""


class NotInTransaction(SagaError):
    """A saga begins in the transaction of its business rows; call this inside transaction.atomic()."""


class MissingFacts(SagaError):
    """`inputs` must name exactly the facts that the saga's declaration asks for."""


class BadFacts(SagaError):
    """Facts are an object in JSON, without NUL, NaN and halves of characters; state them so."""


class TooLate(SagaError):
    """The saga is past its point of no return, or has ended; read its state and act on that."""


class NotAllowed(SagaError):
    """This move does not apply to the saga's present state; read the state and choose another."""


class MovedOn(NotAllowed):
    """This has moved on since it was looked at; look again, and decide on what stands now."""


class BadSeen(SagaError):
    """What was seen is named as console, API and shell show it, such as take-payment:forward:waiting:1."""


class Busy(SagaError):
    """Somebody else is at this saga just now; nothing was changed, so try again in a few seconds."""


class LostRace(SagaError):
    """Another worker moved the saga first; nothing was written, and nothing need be done."""


class StepFailed(SagaError):
    """A step failed and the saga turned round; raised only so that Celery calls the error callback."""

    inline: Sequence[Sequence[object]] = ()
    """The steps that the same task had carried out beyond its own; the last of them is what failed."""
