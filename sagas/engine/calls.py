"""Calling a step's functions: with the idempotency key, and the facts that each takes by name."""

from typing import Any, Literal

from sagas import models
from sagas.declaration import definition


def do(step: definition.Step, row: models.StepInstance) -> Any:
    """Call the step's action with all of its inputs."""
    return step.do(key=row.key, **{name: row.saga.facts[name] for name in step.inputs})


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
    returned = row.facts or {}
    return {
        name: row.saga.facts[name] if name in step.inputs else returned.get(name)
        for name in declared.arguments[step.name, which]
    }
