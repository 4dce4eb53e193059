"""`manage.py check` names what a deployment would break, before it does."""

import dataclasses
import datetime
import sys

import pytest
from django.apps import apps
from django.core import checks, exceptions
from django.core.management import CommandError, call_command
from django.utils import module_loading

from saga_project import celery
from sagas import BadDeclaration, Saga, conf, engine, models
from sagas.declaration import registry
from sagas.engine import transport
from sagas.testing import clocks
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys


@pytest.fixture(autouse=True)
def declared_by_apps_alone(monkeypatch):
    """Other tests of this process may have declared sagas of their own."""
    monkeypatch.setattr(registry, "_sagas", {})
    for app in apps.get_app_configs():
        if module_loading.module_has_submodule(app.module, "saga"):
            registry.load(f"{app.name}.saga")


def found(*, databases=None):
    return [
        message.id for message in checks.run_checks(databases=databases) if message.id.startswith("sagas.")
    ]


def test_the_projects_own_declarations_are_sound(rows):
    assert found(databases=["default"]) == []


@pytest.mark.parametrize("databases", [{"default"}, {"default": True}])
def test_databases_are_named_in_any_way_as_the_test_runner_does(rows, databases):
    assert found(databases=databases) == []


def test_a_declaration_that_was_refused_at_import_is_reported_with_its_hint(monkeypatch):
    with pytest.raises(BadDeclaration) as refused:
        Saga(name="Trip", steps=[], retry=toys.ONE.retry)
    monkeypatch.setattr(registry, "refused", [refused.value])

    with pytest.raises(CommandError, match=r"sagas\.E001") as told:
        call_command("check")

    assert "HINT: Declare at least one Step." in str(told.value)


def test_an_undo_with_less_patience_than_its_action_is_doubtful(monkeypatch):
    hasty = toys.saga(
        "toy-hasty", toys.local("a"), undo_retry=dataclasses.replace(toys.ONE.retry, attempts=1)
    )
    monkeypatch.setattr(registry, "_sagas", {("toy-hasty", 1): hasty})

    assert found() == ["sagas.W001"]


def test_a_wait_that_outlasts_its_sagas_deadline_is_doubtful():
    registry.add(toys.saga("toy-hasty-wait", toys.waits("w"), deadline=HOUR / 2))

    assert found() == ["sagas.W007"]


def test_a_live_saga_whose_version_is_gone_is_found_only_when_the_database_may_be_asked(broker):
    saga = harness.begin(toys.LOCAL)
    models.SagaInstance.objects.filter(pk=saga.pk).update(version=7)

    assert found() == []
    assert found(databases=["default"]) == ["sagas.E011"]


def test_so_is_one_whose_version_is_declared_otherwise(broker):
    saga = harness.begin(toys.LOCAL)
    models.SagaInstance.objects.filter(pk=saga.pk).update(fingerprint="of old")

    assert found(databases=["default"]) == ["sagas.E011"]


HOUR = datetime.timedelta(hours=1)


def told(*, databases=None):
    """What `manage.py check` warns of, by id."""
    found = checks.run_checks(databases=databases)
    return {message.id: message for message in found if message.id.startswith("sagas.")}


def test_that_nobody_sweeps_while_sagas_live_is_found_with_the_line_to_add(broker):
    harness.begin(toys.LOCAL)
    assert told(databases=["default"]) == {}, "it has only just begun"

    clocks.pass_time(HOUR)

    warning = told(databases=["default"])["sagas.W003"]
    assert "Nobody sweeps, and nobody ever has, while sagas are live (1)" in warning.msg
    assert '{"task": "sagas.sweep", "schedule": 1.0}' in warning.hint

    engine.sweep()
    assert "sagas.W003" not in told(databases=["default"])


def test_that_no_worker_listens_where_sagas_wait_is_found(broker):
    harness.begin(toys.LOCAL)
    for _ in range(4):
        engine.sweep()
        clocks.pass_time(HOUR / 60)
    engine.sweep()

    warning = told(databases=["default"])["sagas.W004"]
    assert warning.msg.startswith("No worker listens on the queue toys, where sagas wait (1): none has given")
    assert warning.hint == "Start one: celery worker --queues=toys"

    engine.heard("toys")
    assert told(databases=["default"]) == {}


def test_that_no_worker_listens_for_steps_that_are_done_at_once_is_found(broker):
    harness.begin(toys.AT_ONCE_FIRST)
    for _ in range(4):
        engine.sweep()
        clocks.pass_time(HOUR / 60)
    engine.sweep()

    messages = [one.msg for one in checks.run_checks(databases=["default"]) if one.id == "sagas.W004"]

    assert [message.partition(":")[0] for message in messages] == [
        "No worker listens on the queue toys, where sagas wait (1)",
        "No worker listens on the queue world, where sagas wait (2)",
    ]


def test_a_beat_schedule_without_the_sweep_is_found_with_the_line_to_add(monkeypatch):
    monkeypatch.setitem(celery.app.conf, "beat_schedule", {})

    warning = told()["sagas.W002"]
    assert "saga_project" in warning.msg
    assert '{"task": "sagas.sweep", "schedule": 1.0}' in warning.hint


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"SAGAS_INLINE": False}, "SAGAS_INLINE is off"),
        ({"SAGAS_TRANSPORT": conf.DJANGO_TASKS_TRANSPORT}, "SAGAS_TRANSPORT is django.tasks"),
        ({"SAGAS_TRANSPORT": conf.POSTGRES_TRANSPORT, "SAGAS_INLINE": False}, ""),
        ({}, ""),
    ],
)
def test_a_bound_of_lines_in_which_nothing_stands_that_begins_is_found(settings, changed, why):
    for name, value in changed.items():
        setattr(settings, name, value)
    assert "sagas.W013" not in told()

    settings.SAGAS_LONGEST_LINE = 500

    assert ("sagas.W013" in told()) is bool(why)
    if why:
        assert why in told()["sagas.W013"].msg


def test_an_application_that_was_not_configured_is_found_with_the_line_to_add(monkeypatch):
    monkeypatch.setattr(conf, "_noted", [])

    warning = told()["sagas.W012"]
    assert "saga_project was not configured for sagas" in warning.msg
    assert warning.hint.startswith("Call sagas.celery.configure(app)")


def test_a_beat_schedule_that_drives_no_bulk_runs_is_found_with_the_line_to_add(monkeypatch):
    schedule = {"sweep": {"task": "sagas.sweep", "schedule": 1.0}}
    monkeypatch.setitem(celery.app.conf, "beat_schedule", schedule)

    (warning,) = told().values()
    assert (warning.id, "saga_project" in warning.msg) == ("sagas.W005", True)
    assert '{"task": "sagas.bulk", "schedule": 1.0}' in warning.hint


def test_a_broker_that_hands_a_message_out_while_it_is_carried_is_found(monkeypatch):
    options = {**celery.app.conf.broker_transport_options, "visibility_timeout": 10}
    monkeypatch.setitem(celery.app.conf, "broker_transport_options", options)

    warning = told()["sagas.W006"]
    assert "the broker hands it out anew after 10 s" in warning.msg
    assert "visibility_timeout" in warning.hint


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "SAGAS_CELERY_APP",
            "",
            "sagas.E012: no Celery application is known that carries sagas. Call sagas.",
        ),
        ("SAGAS_INLINE_TIME", 1, "sagas.E013: SAGAS_INLINE_TIME is 1. It is a timedelta above zero"),
        ("SAGAS_PINNED_QUEUES", "inventory", "sagas.E013: SAGAS_PINNED_QUEUES is 'inventory'. It is a list"),
        ("SAGAS_GRACE", 5, "sagas.E013: SAGAS_GRACE is 5. It is a timedelta above zero"),
        ("SAGAS_SWEEP_EVERY", datetime.timedelta(0), "sagas.E013: SAGAS_SWEEP_EVERY is"),
        ("SAGAS_FOUR_EYES", "no", "sagas.E013: SAGAS_FOUR_EYES is 'no'. It is True or False."),
        ("SAGAS_ROLES_SEE", "orders.order", "sagas.E013: SAGAS_ROLES_SEE is 'orders.order'. It is a list"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_when_the_process_starts(
    settings, monkeypatch, name, value, says
):
    setattr(settings, name, value)
    monkeypatch.setattr(conf, "_noted", [])

    with pytest.raises(exceptions.ImproperlyConfigured) as refused:
        apps.get_app_config("sagas").ready()

    assert says in str(refused.value)


def test_every_other_setting_may_be_left_out(settings):
    for name in (
        "SAGAS_GRACE",
        "SAGAS_LINE_DELAY",
        "SAGAS_LONGEST_LINE",
        "SAGAS_SWEEP_EVERY",
        "SAGAS_FOUR_EYES",
        "SAGAS_ROLES_SEE",
        "FLOWER_URL",
    ):
        delattr(settings, name)

    assert conf.problems() == []
    second = datetime.timedelta(seconds=1)
    assert (conf.grace(), conf.sweep_every(), conf.line_delay()) == (5 * second, second, second / 50)
    assert (conf.four_eyes(), conf.roles_see(), conf.flower_url()) == (False, [], "")
    assert conf.longest_line() is None


@pytest.mark.parametrize("path", ["nowhere.app", "sagas.conf.problems"])
def test_a_celery_application_that_is_none_is_found_and_nothing_is_begun_with_it(
    rows, settings, monkeypatch, path
):
    settings.SAGAS_CELERY_APP = path
    assert found() == ["sagas.E012"]

    monkeypatch.delitem(sys.modules, "sagas.tasks", raising=False)
    monkeypatch.setattr(transport, "_named", None)
    with pytest.raises(exceptions.ImproperlyConfigured, match="SAGAS_CELERY_APP is"):
        harness.begin(toys.ONE)
    assert not models.SagaInstance.objects.exists()


def test_a_role_that_is_to_see_a_model_that_is_not_there_is_found(settings):
    settings.SAGAS_ROLES_SEE = ["orders.order", "orders.ordre"]

    assert told()["sagas.E013"].msg == "SAGAS_ROLES_SEE names 'orders.ordre': no such model."


def test_what_has_ended_or_was_put_aside_holds_up_no_version(broker):
    ended, closed = harness.begin(toys.ONE), harness.begin(toys.REMOTE, "fail a, fail undo a")
    harness.drive(broker, ended, closed)
    engine.close(closed.pk, seen=engine.look(closed.pk), actor="operator", reason="settled by hand")
    models.SagaInstance.objects.update(version=7)

    assert found(databases=["default"]) == []
