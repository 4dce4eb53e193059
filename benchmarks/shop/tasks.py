"""The same work as a plain Celery chain: THE FLOOR. No rows, no lock, no sweep, no guarantee at all.

A refusal is compensated as the shape of the project has it: by an error callback that sends a second
chain. If that message, or any other, is lost, so is the order.
"""

from typing import Any

import celery
from django.db import transaction

from benchmarks.shop import functions
from saga_project.celery import app

QUEUE = "benchmarks"
ACTIONS = ("charge", "reserve", "issue", "dispatch")
UNDOS = ("cancel", "release", "refund")


def start(order: str) -> None:
    """Publish the chain."""
    links = [_signature(name, order=order) for name in ACTIONS]
    celery.chain(*links, app=app).apply_async(link_error=[_signature("undo", order=order)])


def _signature(name: str, **arguments: str) -> Any:
    return app.signature(f"floor.{name}", kwargs=arguments, immutable=True, queue=QUEUE)


def _register(name: str) -> None:
    function = getattr(functions, name)
    facts = name in ACTIONS

    @app.task(name=f"floor.{name}", bind=True, ignore_result=True, throws=(functions.Refused,))
    def step(self: Any, *, order: str) -> None:
        with transaction.atomic():
            function(key=order, **({"order": order} if facts else {}))


for _name in (*ACTIONS, *UNDOS):
    _register(_name)


@app.task(name="floor.undo", bind=True, ignore_result=True)
def undo(self: Any, *, order: str) -> None:
    """The error callback."""
    celery.chain(*[_signature(name, order=order) for name in UNDOS], app=app).apply_async()
