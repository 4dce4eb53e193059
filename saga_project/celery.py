"""The Celery application: how messages travel. What they mean is decided by the rows."""

import datetime
import os
import time

import celery
from celery import signals
from django.conf import settings
from django.db import close_old_connections, connection

from saga_project import alive, postgres
from sagas import ticks

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")

REDELIVERY_S = 120
"""When the broker hands out a message anew that nobody acknowledged. Longer than any step's lease,
so that a slow step is not handed out while it runs; the sweep is there before it anyway."""

app = celery.Celery("saga_project")
app.conf.update(
    broker_url=settings.CELERY_BROKER_URL,
    # No result backend: the rows are the truth, and one that is down would block workers.
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    # Only JSON: a client that can write to the broker must not be able to run code.
    task_serializer="json",
    accept_content=["json"],
    # A chain says the same of every link: eight of them fit into 2 KB this way, two without.
    task_compression="zlib",
    task_create_missing_queues=True,
    task_default_queue="sagas",
    # Late acknowledgement and one message at a time: a dead worker's message comes back, and none
    # waits inside a busy worker. Safe, because every task asks its row first.
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # A worker waits for its broker as long as it takes; a web request does not.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
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
    # Nothing here expires: that would compare the clocks of two machines (D9). Those that come every
    # second are ticks, of which one that waits is enough; of the others one comes in a minute, and those
    # that find nothing to do cost next to nothing.
    beat_schedule={
        "sweep": {
            "task": "sagas.sweep",
            "schedule": settings.SAGAS_SWEEP_EVERY,
        },
        "drive-bulk-runs": {
            "task": "sagas.bulk",
            "schedule": datetime.timedelta(seconds=1),
        },
        "archive": {
            "task": "sagas.archive",
            "schedule": datetime.timedelta(minutes=1),
        },
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
REDIS = settings.CELERY_BROKER_URL.startswith(("redis", "valkey"))
app.conf.broker_transport_options = (
    {
        "visibility_timeout": REDELIVERY_S,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # A worker polls for a second at a time; five mean that the broker hangs.
        "socket_timeout": 5,
        "socket_connect_timeout": 1,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
    if REDIS
    else {
        # Without confirms a crashing broker loses messages that it had accepted.
        "confirm_publish": True,
        "confirm_timeout": 3,
        "connect_timeout": 2,
        "read_timeout": 5,
        "write_timeout": 5,
    }
)
app.autodiscover_tasks()


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
    """For processes that answer people: give up on a broker that is gone, or hangs, in half a second.

    The order is committed by then, and the sweep publishes what could not be. Workers must not do so:
    they wait for messages on the same kind of connection, a second at a time.
    """
    timeouts = (
        {"socket_timeout": 0.4, "socket_connect_timeout": 0.3}
        if REDIS
        else {"connect_timeout": 0.4, "read_timeout": 0.4, "write_timeout": 0.4, "confirm_timeout": 0.4}
    )
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, **timeouts}
    app.conf.task_publish_retry_policy = {"max_retries": 0, "interval_start": 0}


@signals.worker_init.connect
def be_a_worker(**_: object) -> None:
    """Connect as patiently as a worker does: before it has children, so they too."""
    postgres.assume("worker")


@signals.heartbeat_sent.connect
def say_that_it_lives(**_: object) -> None:
    """Every two seconds while the worker's loop goes round and it has its broker."""
    alive.touch()


IDLE_S = 5.0
"""A connection that was at work so recently is not asked whether it still lives. If it does not, the task
finds out, and the sweep sends it again: to ask before every task costs more than that."""

_used_at = float("-inf")


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
