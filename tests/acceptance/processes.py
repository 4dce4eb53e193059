"""Real processes around a test: Celery workers with a sweep of their own, and a broker that may die."""

import contextlib
import os
import signal
import subprocess
import sys
import time

from examples import saga
from saga_project import queues
from sagas import conf
from sagas.declaration import registry
from tests.support import database

IMPATIENT = {"SAGAS_SWEEP_EVERY": "200ms", "SAGAS_GRACE": "1s"}
"""What would take seconds in production takes less here; the rules are the same."""


def shop():
    """The queues for which the local stack starts workers: the toy box and the examples have their own."""
    return [name for name in queues.everything() if name not in {*_of_toys(), *_of(saga.SAGAS)}]


def toys(*, without=()):
    """The queues of the toy box and the engine's own."""
    return [name for name in (*_of_toys(), conf.ENGINE_QUEUE, conf.SWEEP_QUEUE) if name not in without]


def examples():
    """The queues of the examples and the engine's own."""
    return [*_of(saga.SAGAS), conf.ENGINE_QUEUE, conf.SWEEP_QUEUE]


def _of_toys():
    return _of(declared for declared in registry.everything() if declared.name.startswith("toy-"))


def _of(sagas):
    return sorted({step.queue for declared in sagas for step in declared.all_steps if step.has_worker})


@contextlib.contextmanager
def celery(*arguments, log=subprocess.DEVNULL, **more):
    """A process of Celery's; at the end it is asked to go, and its whole process group made to."""
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "--app=saga_project", "--no-color", *arguments],
        env=database.environment(**more),
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def worker(place, *, queues=None, children=2, beat=True, settings=(), **more):
    """A worker, with beat in it unless that is elsewhere; settings as Celery's command line takes them."""
    arguments = [
        "worker", f"--queues={','.join(queues or toys())}", f"--concurrency={children}",
        *(["--beat", f"--schedule={place}/beat"] if beat else []),
        "--loglevel=INFO", "--without-gossip", "--without-mingle",
        f"--hostname=toys-{os.getpid()}-{time.time_ns()}@test",
        # How long a result of a dead child may still be under way: ten seconds in production.
        "--", "worker.lost_wait=0.5", *settings,
    ]  # fmt: skip
    with (place / "worker.log").open("ab") as log, celery(*arguments, log=log, **IMPATIENT | more) as process:
        yield process
