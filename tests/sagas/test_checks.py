"""`manage.py check` names what a deployment would break, before it does."""

import dataclasses

import pytest
from django.core import checks
from django.core.management import CommandError, call_command

from sagas import BadDeclaration, Saga, engine, models, registry
from tests.sagas import stage
from tests.sagas.toybox import saga as toys


def found(*, databases=None):
    return [
        message.id for message in checks.run_checks(databases=databases) if message.id.startswith("sagas.")
    ]


def test_the_projects_own_declarations_are_sound(rows):
    assert found(databases=["default"]) == []


def test_a_declaration_that_was_refused_at_import_is_reported_with_its_hint(monkeypatch):
    with pytest.raises(BadDeclaration) as refused:
        Saga(name="Trip", steps=[], retry=toys.ONE.retry)
    monkeypatch.setattr(registry, "refused", [refused.value])

    with pytest.raises(CommandError, match=r"sagas\.E001") as told:
        call_command("check")

    assert "HINT: Declare at least one Step." in str(told.value)


def test_an_undo_with_less_patience_than_its_deed_is_doubtful(monkeypatch):
    hasty = toys.saga(
        "toy-hasty", toys.local("a"), undo_retry=dataclasses.replace(toys.ONE.retry, attempts=1)
    )
    monkeypatch.setattr(registry, "_sagas", {("toy-hasty", 1): hasty})

    assert found() == ["sagas.W001"]


def test_a_live_saga_whose_version_is_gone_is_found_only_when_the_database_may_be_asked(office):
    saga = stage.begin(toys.LOCAL)
    models.SagaInstance.objects.filter(pk=saga.pk).update(version=7)

    assert found() == []
    assert found(databases=["default"]) == ["sagas.E011"]


def test_so_is_one_whose_version_is_declared_otherwise(office):
    saga = stage.begin(toys.LOCAL)
    models.SagaInstance.objects.filter(pk=saga.pk).update(fingerprint="of old")

    assert found(databases=["default"]) == ["sagas.E011"]


def test_what_has_ended_or_was_put_aside_holds_up_no_version(office):
    ended, closed = stage.begin(toys.ONE), stage.begin(toys.REMOTE, "fail a, fail undo a")
    stage.drive(office, ended, closed)
    engine.close(closed.pk, seen=engine.look(closed.pk), actor="operator", reason="settled by hand")
    models.SagaInstance.objects.update(version=7)

    assert found(databases=["default"]) == []
