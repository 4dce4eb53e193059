"""procrastinate: four tasks, each of which defers the next one in the transaction of its statement.

So no step is forgotten. That a task is done is a record of its own, after that transaction: a worker that
dies in between leaves a job that somebody must look for and run again, and its statement is then done twice.
Undoing is three more tasks.

    python -m benchmarks.peers.procrastinate_peer prepare | submit
"""

import sys
from typing import Any

import django
from django.db import transaction

from benchmarks.peers import submitter

if __name__ == "__main__":
    django.setup()

import procrastinate
from procrastinate.contrib.django import app, django_connector

from benchmarks.shop import functions

QUEUE = "orders"
NEXT = {
    "charge": "reserve", "reserve": "issue", "issue": "dispatch", "dispatch": None,
    "cancel": "release", "release": "refund", "refund": None,
}  # fmt: skip
TURNS_BACK = "cancel"
"""What is deferred when the carrier refuses."""

ACTIONS = ("charge", "reserve", "issue", "dispatch")


outbox = procrastinate.App(connector=django_connector.DjangoConnector())
"""Defers through Django's connection. In a worker `app` itself does not: it has a connection of its own
there, and what it defers is committed before the task's transaction is."""


def defer(name: str, order: str) -> None:
    """Have a step carried out; in the caller's transaction, if there is one."""
    outbox.configure_task(f"peer.{name}", queue=QUEUE).defer(order=order)


def _declare(name: str) -> None:
    function: Any = getattr(functions, name)
    facts = name in ACTIONS

    @app.task(name=f"peer.{name}", queue=QUEUE)
    def run(order: str) -> None:
        try:
            with transaction.atomic():
                function(key=order, **({"order": order} if facts else {}))
                if following := NEXT[name]:
                    defer(following, order)
        except functions.Refused:
            defer(TURNS_BACK, order)


def main(what: str) -> None:
    """Make the tables, or submit."""
    if what == "prepare":
        from django.core import management

        management.call_command("migrate", "procrastinate", verbosity=0)
    else:
        submitter.serve(lambda order: defer("charge", order))


if __name__ == "__main__":
    # As the workers know it: run as a script, this module would declare its tasks twice.
    from benchmarks.peers import procrastinate_peer

    procrastinate_peer.main(sys.argv[1])
else:
    for _name in NEXT:
        _declare(_name)
