"""The floor with this project's settings: its Celery application, on a queue of its own."""

from benchmarks.shop import chains
from saga_project.celery import app

QUEUE = "floor"

CHAIN = chains.Chain(app, queue=QUEUE)
