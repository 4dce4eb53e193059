"""Real processes around a test: Celery workers with a sweep of their own, and a broker that may die."""

import contextlib
import os
import subprocess
import sys
import time

from django.db import connection

PATIENCE_S = 60
IMPATIENT = {"SAGAS_SWEEP_EVERY": "200ms", "SAGAS_GRACE": "1s"}
"""What would take seconds in production takes less here; the rules are the same."""


def environment(**more):
    """For processes that share this test's database and broker."""
    settings = connection.settings_dict
    place = str(settings["HOST"]).replace("/", "%2F")
    url = f"postgresql://{settings['USER']}@{place}:{settings['PORT']}/{settings['NAME']}"
    return {
        **os.environ,
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        **IMPATIENT,
        **more,
    }


@contextlib.contextmanager
def worker(place, *, queues="toys,world,sagas", children=2, **more):
    """A worker with beat in it; its whole process group is gone at the end."""
    command = [
        sys.executable, "-m", "celery", "--app=saga_project", "--no-color", "worker", "--beat",
        f"--schedule={place}/beat", f"--queues={queues}", f"--concurrency={children}", "--loglevel=INFO",
        "--without-gossip", "--without-mingle", f"--hostname=toys-{os.getpid()}-{time.time_ns()}@test",
        # How long a result of a dead child may still be under way: ten seconds in production.
        "--", "worker.lost_wait=0.5",
    ]  # fmt: skip
    with (place / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=environment(**more), stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(condition, what, patience_s=PATIENCE_S):
    """Wait until the condition gives something, and give it; fail with words if it does not in time."""
    end = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.05)
    return found
