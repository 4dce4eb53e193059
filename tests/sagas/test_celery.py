"""`sagas.celery.configure`: what a Celery application is told, and what it keeps of its own."""

import datetime

import celery
import pytest
from celery.app import defaults
from django.test import override_settings

from sagas import celery as ours
from sagas import conf

VALKEY, RABBITMQ = "redis://host/0", "amqp://user:secret@a:5672/shop;amqp://user:secret@b:5672/shop"
NAMESPACED = {"CELERY_BROKER_URL": VALKEY, "CELERY_WORKER_PREFETCH_MULTIPLIER": 8}


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch):
    """What is configured here carries no sagas of other tests."""
    monkeypatch.setattr(conf, "_noted", [])


def application(**settings):
    return celery.Celery("shop", set_as_current=False, changes=settings)


def sent(app):
    return {entry["task"]: entry["schedule"] for entry in app.conf.beat_schedule.values()}


def test_before_and_after_the_configuration_was_read_it_comes_to_the_same():
    early, late = application(broker_url=VALKEY), application(broker_url=VALKEY)
    assert (
        late.conf.worker_prefetch_multiplier == defaults.NAMESPACES["worker"]["prefetch_multiplier"].default
    )

    ours.configure(early)
    ours.configure(late)

    assert not early.configured, "the project's settings may not be there yet"
    for app in (early, late):
        assert app.conf.worker_prefetch_multiplier == 1
        assert app.conf.broker_transport_options["socket_timeout"] == 5
        assert {"sagas.sweep", "sagas.bulk", "sagas.archive"} == set(sent(app))
        assert conf.is_noted(app)


def test_a_configuration_that_is_read_once_more_is_completed_once_more():
    app = application()
    ours.configure(app)
    assert app.conf.worker_prefetch_multiplier == 1

    app.config_from_object({"broker_url": RABBITMQ, "timezone": "UTC"})

    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.broker_transport_options["confirm_publish"]
    assert "sagas.sweep" in sent(app)


def test_what_the_project_says_itself_stays():
    day = datetime.timedelta(days=1)
    app = application(
        broker_url=VALKEY,
        worker_prefetch_multiplier=4,
        broker_transport_options={"socket_timeout": 60, "global_keyprefix": "shop."},
        beat_schedule={
            "mine": {"task": "shop.tidy", "schedule": day},
            "s": {"task": "sagas.sweep", "schedule": 2},
        },
    )
    ours.configure(app)

    assert app.conf.worker_prefetch_multiplier == 4
    assert app.conf.broker_transport_options["socket_timeout"] == 60
    assert app.conf.broker_transport_options["global_keyprefix"] == "shop."
    assert app.conf.broker_transport_options["health_check_interval"] == 25
    assert sent(app)["shop.tidy"] == day
    assert sent(app)["sagas.sweep"] == 2
    assert [name for name, entry in app.conf.beat_schedule.items() if entry["task"] == "sagas.sweep"] == ["s"]


def test_it_stays_as_well_where_it_is_among_djangos_settings():
    with override_settings(**NAMESPACED):
        app = celery.Celery("shop", set_as_current=False)
        app.config_from_object("django.conf:settings", namespace="CELERY")
        ours.configure(app)

        assert app.conf.worker_prefetch_multiplier == 8
        assert app.conf.broker_connection_max_retries is None
        assert "sagas.sweep" in sent(app)


@pytest.mark.parametrize("url", [VALKEY, RABBITMQ, "memory://", "sqs://"])
def test_a_projects_own_tasks_come_neither_twice_nor_to_another_kind_of_queue(url):
    app = application(broker_url=url)
    before = {
        name: app.conf[name]
        for name in (
            "task_acks_late", "task_reject_on_worker_lost", "task_serializer", "accept_content",
            "task_default_queue", "task_default_queue_type", "task_create_missing_queue_type",
            "task_publish_retry_policy", "result_backend", "timezone",
        )
    }  # fmt: skip

    ours.configure(app)

    assert {name: app.conf[name] for name in before} == before
    # Messages for later, and tasks that take long, would come twice.
    assert "visibility_timeout" not in app.conf.broker_transport_options


def test_the_engines_tasks_say_themselves_what_they_need():
    from saga_project.celery import app

    app.loader.import_default_modules()
    engines = [task for name, task in app.tasks.items() if name.startswith(("sagas.", "order-fulfilment."))]

    assert len(engines) > 8
    assert all(isinstance(task, ours.Reliable) for task in engines)
    assert {(task.acks_late, task.ignore_result, task.serializer) for task in engines} == {
        (True, True, "json")
    }


def test_the_schedule_has_what_is_in_use(settings):
    settings.SAGAS_ARCHIVE_AFTER = settings.SAGAS_ARCHIVE_KEEP = None
    settings.INSTALLED_APPS = ["sagas", "sagas.console.api"]
    settings.SAGAS_SWEEP_EVERY = datetime.timedelta(seconds=3)
    settings.SAGAS_OTLP_ENDPOINT = "http://collector:4318"

    tasks = {entry["task"]: entry["schedule"].total_seconds() for entry in ours.schedule().values()}

    assert tasks == {"sagas.sweep": 3, "sagas.traces": 2}
