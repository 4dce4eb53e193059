"""Which step of an order's saga does what: told by its action, whatever it is called and in whatever version.

A step's name is data and never used for something else, so a name stands for one action in every version of
the saga. One that no declared version knows any more stands for none.
"""

from collections.abc import Iterable, Mapping

from orders import saga
from sagas import StepFunction
from sagas import models as saga_models
from sagas.declaration import registry


def actions() -> dict[str, StepFunction]:
    """What each step does, by its name, over all declared versions of the order's saga."""
    versions = registry.versions(saga.ORDER_FULFILMENT.name)
    return {step.name: step.action for version in versions for step in version.all_steps}


def by_action(
    rows: Iterable[saga_models.StepInstance],
) -> Mapping[StepFunction, saga_models.StepInstance]:
    """The steps of one order by what they do; of several that do the same, the first."""
    known = actions()
    found: dict[StepFunction, saga_models.StepInstance] = {}
    for row in rows:
        if row.name in known:
            found.setdefault(known[row.name], row)
    return found


def names(action: StepFunction, *, version: int | None = None) -> list[str]:
    """The names of the steps that do this, in that version or in any.

    Raises:
        UnknownSaga: that version is not declared.
    """
    if version is None:
        return [name for name, known in actions().items() if known is action]
    steps = registry.get(saga.ORDER_FULFILMENT.name, version).all_steps
    return [step.name for step in steps if step.action is action]
