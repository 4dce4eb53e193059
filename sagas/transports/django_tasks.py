"""A transport over `django.tasks`, or its backport `django-tasks` before Django 6.0: whatever backend it has.

Each message is one task, on the queue of its step. Nothing of `run_after`, retries or results is used: a
backend may lose, double, delay and reorder them. The sweep is `manage.py saga_worker --processes 0`.
"""

import datetime
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

try:
    from django.tasks import task  # type: ignore[import-not-found,unused-ignore]  # Since Django 6.0.
except ImportError:
    from django_tasks import task  # type: ignore[import-not-found,no-redef,unused-ignore]  # The backport.

from sagas import engine
from sagas.engine import transport
from sagas.transports import carriage

SIGN_EVERY_S = 1.0
_signs: dict[str, float] = {}


def _worker() -> str:
    return f"django-tasks@{socket.gethostname()}.{os.getpid()}"


def _give_a_sign(queue: str) -> None:
    """Say that a worker takes from the queue, once a second in each process."""
    if time.monotonic() >= _signs.get(queue, 0.0):
        _signs[queue] = time.monotonic() + SIGN_EVERY_S
        engine.heard(queue, _worker())


@task()  # type: ignore[untyped-decorator,unused-ignore]
def carry(queue: str, dispatch: dict[str, Any]) -> None:
    """Carry a saga on from its next step."""
    _give_a_sign(queue)
    carriage.carry_out(carriage.of_json(dispatch), worker=_worker(), queues={queue})


@task()  # type: ignore[untyped-decorator,unused-ignore]
def compensate_late(queue: str, signal_id: int) -> None:
    """Undo once more what a late callback tells of."""
    _give_a_sign(queue)
    engine.compensate_late(signal_id)


@task()  # type: ignore[untyped-decorator,unused-ignore]
def probe_returned(queue: str, sent_at: str) -> None:
    """A probe came through."""
    engine.probe_returned(queue, datetime.datetime.fromisoformat(sent_at), _worker(), carried_on=False)


class DjangoTasksTransport:
    """Carries the engine's dispatches as tasks of the default backend."""

    def send(self, dispatch: transport.Dispatch) -> None:
        """Enqueue the dispatch's first step; who carries it out goes on from there."""
        queue = dispatch.messages[0].queue
        carry.using(queue_name=queue).enqueue(queue, carriage.as_json(dispatch))

    def send_many(self, dispatches: Sequence[transport.Dispatch]) -> None:
        """Enqueue many, one by one: there is no other way to say it."""
        for dispatch in dispatches:
            self.send(dispatch)

    def compensate_late(self, signal_id: int, queue: str) -> None:
        """Enqueue the compensation of a late callback."""
        compensate_late.using(queue_name=queue).enqueue(queue, signal_id)

    def probe(self, queue: str, sent_at: datetime.datetime) -> None:
        """Enqueue a probe."""
        probe_returned.using(queue_name=queue).enqueue(queue, sent_at.isoformat())

    def backlog(self, *queues: str) -> int | None:
        """No backend tells."""
        return None
