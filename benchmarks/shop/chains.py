"""The same work as a plain Celery chain: a floor. No rows, no lock, no sweep, no guarantee at all.

A refusal is compensated as the shape of the project has it: by an error callback that sends a second
chain. If that message, or any other, is lost, so is the order.
"""

import functools
from typing import Any

import celery
from django.db import transaction

from benchmarks.shop import functions

ACTIONS = ("charge", "reserve", "issue", "dispatch")
UNDOS = ("cancel", "release", "refund")


class Chain:
    """The tasks of one Celery application, and the chain of them that is an order."""

    def __init__(self, app: Any, *, queue: str) -> None:
        """Register the tasks.

        Arguments:
            app: whose workers carry it out.
            queue: that they listen to.
        """
        self._app = app
        self._queue = queue
        for name in (*ACTIONS, *UNDOS):
            self._register(name)
        self._register_undo()

    def start(self, order: str) -> None:
        """Publish an order's chain."""
        links = [self._signature(name, order=order) for name in ACTIONS]
        celery.chain(*links, app=self._app).apply_async(link_error=[self._signature("undo", order=order)])

    def _register(self, name: str) -> None:
        run = functools.partial(_carry_out, getattr(functions, name), facts=name in ACTIONS)

        @self._app.task(name=f"chain.{name}", ignore_result=True, throws=(functions.Refused,))
        def step(*, order: str) -> None:
            run(order=order)

    def _register_undo(self) -> None:
        @self._app.task(name="chain.undo", ignore_result=True)
        def undo(*, order: str) -> None:
            """The error callback."""
            celery.chain(*[self._signature(name, order=order) for name in UNDOS], app=self._app).apply_async()

    def _signature(self, name: str, **arguments: str) -> Any:
        return self._app.signature(f"chain.{name}", kwargs=arguments, immutable=True, queue=self._queue)


@transaction.atomic
def _carry_out(function: Any, *, order: str, facts: bool) -> None:
    function(key=order, **({"order": order} if facts else {}))
