"""Calling a step's functions: with the idempotency key, and the facts that each takes by name.

What comes of it is an outcome, whatever the function does: the declaration says which error means what.
"""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, Literal

from django.db import connection
from psycopg import pq

from sagas import database, models
from sagas.declaration import definition
from sagas.engine import failures, messages, store
from sagas.engine.attempts import Attempt, Outcome
from sagas.engine.kinds import Clock, OutcomeKind

logger = logging.getLogger("sagas")

CANCEL_TIMEOUT_S = 2
"""How long the database may take to hear that a statement is to end: less than up to the hard limit."""


def call(attempt: Attempt) -> Outcome:
    """Call the step's function within the time that it may take, and say what came of it."""
    doubtful = attempt.doubtful
    try:
        with attempt.message.context.limit(attempt.step.timeout):
            if attempt.undo:
                undo(attempt.declared, attempt.step, attempt.row)
                return Outcome(kind=OutcomeKind.DONE)
            if attempt.step.ask is not None and (attempt.doubtful or attempt.only_asks):
                facts = ask(attempt.declared, attempt.step, attempt.row)
                if facts is not None:
                    return Outcome(kind=OutcomeKind.DONE, facts=_facts(facts, attempt))
                if attempt.only_asks:
                    never = NeverHappened(messages.NEVER_HAPPENED)
                    return Outcome(kind=OutcomeKind.REFUSED, error=never, clock=Clock.WAIT)
                doubtful = False
            return Outcome(kind=OutcomeKind.DONE, facts=_facts(do(attempt.step, attempt.row), attempt))
    except attempt.message.context.interrupts as interrupted:
        _cancel_statement()
        return Outcome(kind=lost(attempt.step), error=interrupted, clock=Clock.ATTEMPT)
    except Exception as error:
        outcome = _classify(attempt, error)
        if doubtful and outcome.kind == OutcomeKind.TRANSIENT:
            # That this attempt did not happen says nothing about the one before.
            return dataclasses.replace(outcome, kind=OutcomeKind.UNKNOWN)
        return dataclasses.replace(outcome, doubtful=doubtful)


def _facts(answer: Any, attempt: Attempt) -> dict[str, Any]:
    """A function's answer as the row can keep it, with all of the step's outputs.

    Raises:
        BadFacts: it is not JSON, or not what PostgreSQL takes for it.
        KeyError: an output is missing.
    """
    facts = store.storable(answer)
    if missing := missing_facts(attempt.step, attempt.row, facts):
        raise KeyError(f"{attempt.step.name} gave no {', '.join(missing)}")
    return facts


def _classify(attempt: Attempt, error: Exception) -> Outcome:
    """Errors decide: that the database is in the way, what the declaration names, then it is a bug."""
    declared, step = attempt.declared, attempt.step
    if database.is_busy(error) or database.is_away(error):
        logger.info("saga step %s is late: %s", step.name, failures.text_of(error).partition("\n")[0])
        return Outcome(kind=lost(step), error=error, late=True)
    for kind, named in (
        (OutcomeKind.REFUSED, declared.refused),
        (OutcomeKind.OUTAGE, declared.outage),
        (OutcomeKind.MISMATCH, declared.mismatch),
        (OutcomeKind.UNKNOWN, declared.unknown),
        (OutcomeKind.TRANSIENT, declared.retry_of(step, undo=attempt.undo).on),
    ):
        if isinstance(error, tuple(named)):
            return Outcome(kind=kind if step.remote else _LOCAL.get(kind, kind), error=error)
    if isinstance(error, MemoryError) or database.is_passing(error):
        return Outcome(kind=lost(step), error=error)
    logger.error("saga step %s met a bug: %s", step.name, failures.traced(error, attempt.row.saga.facts))
    return Outcome(kind=OutcomeKind.BUG, error=error)


_LOCAL = {
    OutcomeKind.UNKNOWN: OutcomeKind.TRANSIENT,
    OutcomeKind.OUTAGE: OutcomeKind.TRANSIENT,
    OutcomeKind.MISMATCH: OutcomeKind.REFUSED,
}
"""A local function was rolled back with its transaction: nothing about it is unknown. Nor has it a provider
that could be out."""


def lost(step: definition.Step) -> OutcomeKind:
    """What it means that no answer came: a local function was rolled back, a remote one may have happened."""
    return OutcomeKind.UNKNOWN if step.remote else OutcomeKind.TRANSIENT


def _cancel_statement() -> None:
    """End the statement that the function was interrupted in.

    The database would go on with it though no worker waits for it any more, and hold all locks, this
    saga's among them, until it is done.
    """
    raw = connection.connection
    if raw is not None and raw.info.transaction_status == pq.TransactionStatus.ACTIVE:
        raw.cancel_safe(timeout=CANCEL_TIMEOUT_S)


class NeverHappened(Exception):
    """The provider knows nothing of it: what was begun there is gone."""


def do(step: definition.Step, row: models.StepInstance) -> Any:
    """Call the step's action with all of its inputs; one that nothing provided it has a default for."""
    facts = row.saga.facts
    return step.do(key=row.key, **{name: facts[name] for name in step.inputs if name in facts})


def undo(declared: definition.Saga, step: definition.Step, row: models.StepInstance) -> Any:
    """Call the step's undo with the facts that its signature names."""
    assert step.undo is not None, "only steps with an undo are undone"
    return step.undo(key=row.key, **_arguments(declared, step, row, "undo"))


def ask(declared: definition.Saga, step: definition.Step, row: models.StepInstance) -> Any:
    """Call the step's ask with the facts that its signature names."""
    assert step.ask is not None, "only steps with an ask are asked about"
    return step.ask(key=row.key, **_arguments(declared, step, row, "ask"))


def _arguments(
    declared: definition.Saga,
    step: definition.Step,
    row: models.StepInstance,
    which: Literal["undo", "ask"],
) -> dict[str, Any]:
    """Inputs are on the saga's row; what the action returned is on the step's, if it is known to have."""
    returned, facts = row.facts or {}, row.saga.facts
    return {
        name: facts[name] if name in step.inputs else returned.get(name)
        for name in declared.arguments[step.name, which]
        if name in facts or name not in step.inputs
    }


def missing_facts(
    declared: definition.Step, step: models.StepInstance, facts: Mapping[str, Any]
) -> list[str]:
    """The step's outputs that neither its row has nor these facts."""
    return [name for name in declared.outputs if name not in {**(step.facts or {}), **facts}]
