"""The Celery application: how messages travel. What they mean is decided by the rows."""

import datetime
import logging
import os
import time
import warnings
from typing import Any

import celery
from celery import signals
from celery.exceptions import OperationalError, SecurityWarning
from django.conf import settings
from django.core import exceptions
from django.db import close_old_connections, connection

from saga_project import alive, broker, logs, postgres, rabbitmq
from sagas import ticks
from sagas.celery import configure

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")

BROKER: broker.Broker = settings.BROKER
"""The broker that BROKER_URL names."""

rabbitmq.install()
if os.environ.get("CELERY_BROKER_URL") == settings.CELERY_BROKER_URL:
    # The command `celery` takes BROKER_URL for its own option --broker, which goes before all that is set
    # here: then every worker would begin with the same address, and so would beat.
    del os.environ["CELERY_BROKER_URL"]
app = celery.Celery("saga_project")
app.conf.update(
    # Each process begins with another of several addresses, so that a node that dies is missed by some only.
    **BROKER.celery_settings(begin_with=os.getpid()),
    # What follows is for this project's own tasks, and for how its processes are run: what sagas need is said
    # by `configure`, below.
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    # Only JSON: a client that can write to the broker must not be able to run code.
    task_serializer="json",
    accept_content=["json"],
    task_default_queue="sagas",
    # Their messages come back as well when a worker dies: each looks in its rows for what is to be done.
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    worker_consumer="saga_project.consumer:Consumer",
    # A web request does not wait for its broker, and a worker has the sweep.
    task_publish_retry=True,
    task_publish_retry_policy={
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.2,
    },
    # For Flower and for the operator.
    worker_send_task_events=True,
    task_send_sent_event=False,
    worker_hijack_root_logger=False,
    worker_max_tasks_per_child=10_000,
    timezone="UTC",
    beat_scheduler="saga_project.beat:Scheduler",
    # Beside the engine's entries. Nothing here expires: that would compare the clocks of two machines (D9).
    beat_schedule={
        "deliver-webhooks": {
            "task": "webhooks.deliver",
            "schedule": datetime.timedelta(seconds=1),
        },
        "look-back": {
            "task": "orders.look-back",
            "schedule": settings.PIX_POLL,
            # It asks the bank, so a bank that is slow holds up its own queue and no other.
            "options": {"queue": "payments"},
        },
        "clear-up": {
            "task": "orders.clear-up",
            "schedule": datetime.timedelta(minutes=1),
            "options": {"queue": "webhooks"},
        },
    },
    # Celery closes Django's connection around every task unless told how often to reuse it. These
    # two and CONN_HEALTH_CHECKS keep it for the life of the process and replace it when it is dead.
    CELERY_DB_REUSE_MAX=1_000_000_000,
)
configure(app, quorum_queues=True)
app.autodiscover_tasks()

logs.TICKS.update(entry["task"] for entry in app.conf.beat_schedule.values())

logger = logging.getLogger(__name__)

# Seven lines of each worker; `be_a_worker` says it in one.
warnings.filterwarnings("ignore", "You're running the worker with superuser privileges", SecurityWarning)


# A queue of its own: a merchant's slow server holds up other merchants at worst.
@app.task(
    name="webhooks.deliver",
    base=ticks.Tick,
    queue="webhooks",
    ignore_result=True,
    soft_time_limit=90,
    time_limit=100,
)
def deliver_webhooks() -> None:
    """Send merchants the webhooks that are due."""
    from webhooks import deliveries

    deliveries.run()


@app.task(name="orders.look-back", ignore_result=True, soft_time_limit=300, time_limit=310)
def look_back() -> None:
    """Ask the bank whether a PIX that was given up was paid after all."""
    from orders import payment_reconciliation

    payment_reconciliation.run()


@app.task(name="orders.clear-up", ignore_result=True, soft_time_limit=50, time_limit=55)
def clear_up() -> None:
    """Delete rows that are of no use any more, such as old idempotency keys; and erase what was agreed to."""
    from orders import cleanup, erasure

    cleanup.run()
    erasure.drive()


def publish_in_haste() -> None:
    """For processes that answer people: no request waits longer than half a second for the broker."""
    from sagas import haste  # It needs the apps.

    haste.publish_in_haste(
        app,
        threads=settings.WEB_THREADS,
        explain=lambda queue, reason: str(broker.precondition(queue, reason)),
    )


@signals.worker_init.connect
def be_a_worker(**_: object) -> None:
    """Connect as patiently as a worker does: before it has children, so they too.

    Raises:
        SystemExit: the database is reached in a way that a worker cannot work with.
    """
    postgres.assume("worker")
    if os.geteuid() == 0:
        logger.info("this worker runs as root: do not have it so where it matters")
    try:
        postgres.refuse_unprepared()
    except exceptions.ImproperlyConfigured as refusal:
        # Celery would log any other error of a signal's receiver, and go on.
        raise SystemExit(f"This worker does not start: {refusal}") from None


@signals.beat_init.connect
def look_at_the_broker(**_: object) -> None:
    """Have beat end, and say why, where its messages could not be taken."""
    from saga_project import consumer

    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
            consumer.check(connection)
    except broker.Unfit as unfit:
        raise SystemExit(str(unfit)) from unfit
    except OperationalError:
        pass  # It is away; beat says so, and tries again.


@signals.heartbeat_sent.connect
def say_that_it_lives(**_: object) -> None:
    """Every two seconds while the worker's loop goes round and it has its broker."""
    alive.touch()


IDLE_S = 5.0
"""A connection that was at work so recently is not asked whether it still lives. If it does not, the task
finds out, and the sweep sends it again: to ask before every task costs more than that."""

_used_at = float("-inf")


@signals.task_prerun.connect
def name_what_is_logged(task_id: str = "", task: Any = None, **_: object) -> None:
    """What is logged from here on is of this task."""
    logs.at_work(getattr(task, "name", ""), task_id)


@signals.task_prerun.connect
def keep_connections_fresh(**_: object) -> None:
    """Drop a connection that died or is too old, after a pause or an error; a live one is kept."""
    if connection.errors_occurred or time.monotonic() - _used_at > IDLE_S:
        close_old_connections()


@signals.task_postrun.connect
def note_use(**_: object) -> None:
    """The connection was at work until now."""
    global _used_at
    _used_at = time.monotonic()
    logs.at_rest()
