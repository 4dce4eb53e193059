"""What a Celery application needs for sagas: one function, called at the end of a project's `celery.py`.

    from celery import Celery
    from sagas.celery import configure

    app = Celery("shop")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks()
    configure(app)

It is made for applications that have tasks of their own. What the engine's tasks need they say themselves
(`Reliable`), so nothing that is set for the application makes another task come twice, or less surely.
"""

from collections.abc import Iterable
from typing import Any

import celery
from django.conf import settings

from sagas import conf

RABBITMQ = frozenset({"amqp", "pyamqp", "amqps"})
"""Schemes of `broker_url` that lead to RabbitMQ."""

VALKEY = frozenset({"redis", "rediss", "sentinel"})
"""Schemes of `broker_url`; of others nothing is known, and nothing is set for them."""

HEARTBEAT_S = 5
"""A worker and RabbitMQ count each other as dead after two of these without a sign. RabbitMQ's manual advises
5 to 20; Celery's 120 would leave messages with a host that vanished for four minutes."""


class Reliable(celery.Task):  # type: ignore[type-arg]  # It has none outside the stubs.
    """What all tasks of the engine have in common, whatever the application says of its own tasks."""

    # A dead worker's message comes back. Safe, because every task asks its row first.
    acks_late = True
    # Not at once, though: a step that kills its worker would go on to kill the next. The sweep sends it.
    reject_on_worker_lost = False
    # One that failed is done with: what failed is in the rows.
    acks_on_failure_or_timeout = True
    # No results: the rows are the truth, and a backend that is down would block workers.
    ignore_result = True
    store_errors_even_if_ignored = False
    serializer = "json"
    # A chain says the same of every link: eight of them fit into 2 KB this way, two without.
    compression = "zlib"


def configure(app: celery.Celery, *, quorum_queues: bool = False) -> None:
    """Have a Celery application carry sagas: what they need of it, and what beat is to send.

    1. It becomes the application that carries the engine's messages, unless SAGAS_CELERY_APP names another.
    2. A worker takes one message at a time, and waits for a broker that is away as long as it takes. A broker
       that hangs is noticed in seconds.
    3. Beat sends the sweep; and what drives the console's bulk runs, the archive and the traces, where these
       are in use.

    What the project sets itself stays as it is, and so does an entry of its beat_schedule that sends such a
    task; `manage.py check` and `manage.py doctor` say where that is unwise. It may be called before or after
    the application has read its configuration.

    Arguments:
        app: the application.
        quorum_queues: on RabbitMQ, whether every queue that Celery makes, those of the project's own tasks
            too, is a quorum queue, which a majority of a cluster's nodes keeps. A queue that is there as a
            classic one must be deleted before. On other brokers it says nothing.
    """
    if not conf.is_noted(app):
        conf.note_app(app)

        def apply(source: Any, **_: Any) -> None:
            _apply(source, quorum_queues)

        # The application reads its configuration late, and may read it more than once.
        app.on_after_configure.connect(apply, weak=False)
        if app.configured:  # type: ignore[attr-defined]  # The stubs have forgotten it.
            _apply(app.conf, quorum_queues)


def schedule() -> dict[str, dict[str, Any]]:
    """What beat is to send, as an application's beat_schedule has it.

    Nothing here expires: that would compare the clocks of two machines (D9). Those that come every second are
    ticks, of which one that waits is enough.
    """
    entries = {"sagas-sweep": {"task": conf.SWEEP_TASK, "schedule": conf.sweep_every()}}
    if _has_console():
        entries["sagas-bulk"] = {"task": conf.BULK_TASK, "schedule": conf.BULK_EVERY}
    if conf.archive_after() is not None or conf.archive_keep() is not None:
        entries["sagas-archive"] = {"task": conf.ARCHIVE_TASK, "schedule": conf.ARCHIVE_EVERY}
    if conf.otlp_endpoint():
        entries["sagas-traces"] = {"task": conf.TRACES_TASK, "schedule": conf.TRACES_EVERY}
    return entries


def options(url: str, *, quorum_queues: bool = False) -> dict[str, Any]:
    """What `configure` sets for an application whose broker is at this address, but for the schedule.

    Arguments:
        url: of the broker, or of the first of several.
        quorum_queues: as of `configure`.
    """
    scheme = _scheme(url)
    wanted: dict[str, Any] = {**_ALWAYS, "broker_transport_options": {}}
    if scheme in RABBITMQ:
        wanted |= _ON_RABBITMQ | (_WITH_QUORUM_QUEUES if quorum_queues else {})
        wanted["broker_transport_options"] = dict(_TRANSPORT_OF_RABBITMQ)
    elif scheme in VALKEY:
        wanted["broker_transport_options"] = dict(_TRANSPORT_OF_VALKEY)
    return wanted


def _has_console() -> bool:
    """Whether the console is installed, as the settings say: Django's apps may not be there yet."""
    return any(name == "sagas.console" or name.startswith("sagas.console.apps.") for name in _installed())


def _installed() -> Iterable[str]:
    return getattr(settings, "INSTALLED_APPS", ())


_ALWAYS: dict[str, Any] = {
    # None waits inside a busy worker.
    "worker_prefetch_multiplier": 1,
    # A worker waits for its broker as long as it takes.
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
}

_ON_RABBITMQ: dict[str, Any] = {
    "broker_heartbeat": HEARTBEAT_S,
    # A queue of remote control may still belong to the connection that just died: that passes, within two
    # heartbeats.
    "broker_channel_error_retry": True,
}

_WITH_QUORUM_QUEUES: dict[str, Any] = {
    # All queues: the one that is named here, and those that are made when they are first used.
    "task_default_queue_type": "quorum",
    "task_create_missing_queue_type": "quorum",
    "worker_detect_quorum_queues": True,
    # Those of remote control and of events live as long as their connection, and are its own: RabbitMQ 4.3
    # refuses queues that are neither durable nor exclusive.
    "control_queue_exclusive": True,
    "event_queue_exclusive": True,
    # After a lost connection Celery would take fewer messages at a time, as many as are still at work, and
    # put that right message by message. On quorum queues it cannot: they keep the number that a consumer
    # began with, so the worker would work at half its strength, or less, until it is started anew.
    "worker_enable_prefetch_count_reduction": False,
}

_TRANSPORT_OF_RABBITMQ: dict[str, Any] = {
    # Without confirms a node that crashes loses messages that it had accepted.
    "confirm_publish": True,
    "confirm_timeout": 3,
    "connect_timeout": 2,
    "read_timeout": 5,
    "write_timeout": 5,
}

_TRANSPORT_OF_VALKEY: dict[str, Any] = {
    # A worker polls for a second at a time; five mean that the broker hangs.
    "socket_timeout": 5,
    "socket_connect_timeout": 1,
    "socket_keepalive": True,
    "health_check_interval": 25,
}


def _apply(source: Any, quorum_queues: bool) -> None:
    wanted = options(_first_of(source.broker_url), quorum_queues=quorum_queues)
    wanted["broker_transport_options"] |= source.broker_transport_options or {}
    for name, value in wanted.items():
        if name == "broker_transport_options" or not _says(source, name):
            source[name] = value
    own = dict(source.beat_schedule)
    sent = {entry.get("task") for entry in own.values()}
    missing = {name: entry for name, entry in schedule().items() if entry["task"] not in sent}
    source["beat_schedule"] = missing | own


def _first_of(urls: Any) -> str:
    """The first address of a broker: Celery takes a list, or a text with semicolons, which begins with it."""
    return str(urls if isinstance(urls, str) else next(iter(urls or ()), ""))


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _says(source: Any, name: str) -> bool:
    """Whether the project's configuration has this setting. The last of Celery's maps are its own defaults.

    Celery's `value_set_for` forgets the namespace of Django's settings.
    """
    return any(key in told for told in source.maps[:-1] for key in source._to_keys(name))


# --- Processes that answer people -----------------------------------------------------------------------


def hasty(urls: Any, transport: dict[str, Any]) -> dict[str, Any]:
    """What `sagas.haste` sets: a broker that is gone, or hangs, is given up soon.

    With several nodes of RabbitMQ the next one is tried at once; else the message is left to the sweep.

    Arguments:
        urls: of the broker, as `broker_url` has them.
        transport: what `broker_transport_options` says.
    """
    scheme = _scheme(_first_of(urls))
    limits: dict[str, float] = {}
    if scheme in RABBITMQ:
        limits = {"connect_timeout": 0.5, "read_timeout": 1, "write_timeout": 1, "confirm_timeout": 1}
    elif scheme in VALKEY:
        limits = {"socket_timeout": 1, "socket_connect_timeout": 0.5}
    wanted = transport | limits
    if scheme == "sentinel":
        wanted["sentinel_kwargs"] = (transport.get("sentinel_kwargs") or {}) | limits
    several = ";" in urls if isinstance(urls, str) else len(urls or ()) > 1
    return {
        "broker_transport_options": wanted,
        "task_publish_retry_policy": {
            "max_retries": 1 if scheme in RABBITMQ and several else 0,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        },
    }
