"""celery-saga: four tasks with compensations, its state in Valkey, on a Celery application with defaults.

python -m celery -A benchmarks.peers.celery_saga_peer worker
python -m benchmarks.peers.celery_saga_peer submit
"""

import os
import sys
import urllib.parse
from typing import Any

import celery
import django
from celery_saga import Saga, StepResponse, saga_task, set_default_backend
from celery_saga.backends import RedisSagaBackend
from django.db import transaction

from benchmarks.peers import submitter

django.setup()

from benchmarks.shop import functions  # noqa: E402 - after the settings

BROKER_URL = urllib.parse.urlsplit(os.environ["BROKER_URL"])._replace(path="/3").geturl()
"""Another database of the same Valkey."""

UNDOS = {"charge": "refund", "reserve": "release", "issue": "cancel", "dispatch": "recall"}

app = celery.Celery("celery-saga", broker=BROKER_URL)
app.conf.update(CELERY_DB_REUSE_MAX=1_000_000_000)
set_default_backend(RedisSagaBackend(url=BROKER_URL))


def _declare(action: str, undo: str) -> Any:
    do_it, undo_it = getattr(functions, action), getattr(functions, undo)

    @app.task(name=f"peer.{undo}")
    def compensate(compensation_data: dict[str, str]) -> None:
        with transaction.atomic():
            undo_it(key=compensation_data["order"])

    @saga_task(app, compensate=compensate, name=f"peer.{action}", throws=(functions.Refused,))
    def step(**context: str) -> StepResponse:
        order = context["order"]
        with transaction.atomic():
            do_it(key=order, order=order)
        return StepResponse(output={}, compensation_data={"order": order})

    return step


ORDER = Saga("order")
for _action, _undo in UNDOS.items():
    ORDER = ORDER.add_step(_declare(_action, _undo))


if __name__ == "__main__" and sys.argv[1:] == ["submit"]:
    submitter.serve(lambda order: ORDER.run(order=order))
