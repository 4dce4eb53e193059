"""What a saga's declaration calls personal or secret, struck out before anybody is shown its facts (A3)."""

from typing import Any

from sagas import models
from sagas.engine import refusals

MASK = "•••"

Hidden = frozenset[str] | None
"""The names of the facts that are struck out; None where nobody can say, so that all of them are."""


def hidden(saga: models.SagaInstance | None) -> Hidden:
    """What to strike out of a saga's facts, events and callbacks.

    Returns:
        The names that its declaration hides. None where there is no saga, or the code no longer has its
        declaration: what was personal is not known any more.
    """
    declared = refusals.declaration(saga) if saga is not None else None
    return declared.hidden if declared is not None else None


def redact(value: Any, names: Hidden) -> Any:
    """The same data, with what stands under a hidden name struck out whole, however deep it stands."""
    if isinstance(value, dict):
        return {
            name: MASK if names is None or name in names else redact(inner, names)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [redact(item, names) for item in value]
    return value
