"""Safeguards, and how each is taken away from a program that is just starting."""

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

Replace = Callable[[Any, str, Any], object]
"""`setattr`; or a test's, which puts everything back."""


def sweep(replace: Replace) -> None:
    """Nobody looks after messages that are lost, workers that are gone, or times that have come (D1, D4)."""
    from sagas import engine

    replace(engine, "sweep", lambda limit=0: 0)


def fences(replace: Replace) -> None:
    """Epoch, lease and fence say nothing: whoever has a message may act, and record what came of it (D6)."""
    from sagas.engine import execution, parallel, store

    admit = execution.admit

    def admit_all(work: Any, message: Any) -> Any:
        return admit(work, dataclasses.replace(message, epoch=work.cursor.epoch))

    def trust(self: Any, saga: Any, step: Any, now: datetime.datetime) -> Any:
        return store.UnitOfWork(saga, step, now, self)

    replace(execution, "admit", admit_all)
    replace(execution, "_is_void", lambda work, attempt: False)
    replace(parallel, "is_free", lambda step, now: True)
    replace(store.Transactions, "trust", trust)


def tombstones(replace: Replace) -> None:
    """An undo that finds nothing leaves nothing behind, so that what it undoes may still come (E4, E5)."""
    from inventory import models as stock
    from inventory import services as inventory
    from providers import intents

    forbid, enter = intents.forbid, inventory._enter

    def only_what_is_there(row: Any) -> Any:
        if type(row)._default_manager.filter(key=row.key).exists():
            return forbid(row)
        intents.must_be_durable()
        return row

    def release_what_is_there(
        key: str, status: stock.Status, *, instead_of: stock.Status | None = None
    ) -> bool:
        nothing = instead_of is not None and not stock.Reservation.objects.filter(key=key).exists()
        return not nothing and enter(key, status, instead_of=instead_of)

    replace(intents, "forbid", only_what_is_there)
    replace(inventory, "_enter", release_what_is_there)


WAYS: dict[str, Callable[[Replace], None]] = {way.__name__: way for way in (sweep, fences, tombstones)}
"""Each safeguard by its name, with the function that takes it away."""
