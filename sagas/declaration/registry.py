"""Every declared saga, by name and version: found in each app's `saga.py`, as admin modules are."""

import datetime
import importlib
from collections.abc import Iterator

from sagas import errors
from sagas.declaration import definition, validation

_sagas: dict[tuple[str, int], definition.Saga] = {}
refused: list[validation.BadDeclaration] = []
"""Declarations that were refused at import; `manage.py check` reports them."""


def load(module: str) -> None:
    """Import a module and keep the sagas declared in it; what is refused is kept in `refused`.

    Arguments:
        module: its dotted name, such as `orders.saga`.
    """
    try:
        declared = vars(importlib.import_module(module))
    except validation.BadDeclaration as bad:
        refused.append(bad)
        return
    for value in declared.values():
        if isinstance(value, definition.Saga):
            add(value)


def add(saga: definition.Saga) -> definition.Saga:
    """Keep a declared saga, and those that are its children.

    Raises:
        BadDeclaration: another saga has that name and version.
    """
    known = _sagas.setdefault((saga.name, saga.version), saga)
    if known is not saga and known.fingerprint != saga.fingerprint:
        problem = validation.Problem(
            id="sagas.E010",
            message=f"{saga} is declared twice, differently.",
            hint="Raise the version of the newer one; instances run the version that they began with.",
        )
        raise validation.BadDeclaration(saga.name, [problem])
    for step in saga.children:
        add(step.child)
    return known


def get(name: str, version: int) -> definition.Saga:
    """The declared saga with that name and version.

    Raises:
        UnknownSaga: none is declared.
    """
    try:
        return _sagas[name, version]
    except KeyError:
        raise errors.UnknownSaga(
            f"Saga {name!r} version {version} is not declared in the code that runs here."
        ) from None


def versions(name: str) -> list[definition.Saga]:
    """Every declared version of that saga, the newest last."""
    return [saga for saga in everything() if saga.name == name]


def timeout(name: str, step: str) -> datetime.timedelta:
    """The longest that an attempt at that step may take, whichever version of the saga it is of.

    The versions share the step's task, and so its time limit; a lease must not end before that.
    """
    return max(one.timeout for saga in versions(name) for one in saga.all_steps if one.name == step)


def everything() -> Iterator[definition.Saga]:
    """Every declared saga, by name and version."""
    for _, saga in sorted(_sagas.items()):
        yield saga


def providers() -> set[str]:
    """Every queue of remote steps."""
    return {step.queue for saga in _sagas.values() for step in saga.all_steps if step.remote}


def queues() -> list[str]:
    """Every queue that a declared step is routed to."""
    return sorted({step.queue for saga in _sagas.values() for step in saga.all_steps if step.has_worker})


def first_queues() -> set[str]:
    """Every queue in which sagas begin that are nobody's children."""
    children = {step.child.name for saga in _sagas.values() for step in saga.children}
    first = {saga.first_queue for saga in _sagas.values() if saga.name not in children}
    return {queue for queue in first if queue is not None}
