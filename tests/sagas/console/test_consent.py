"""A second person's consent was once called an approval: permissions and archived rows keep up."""

import importlib

import pytest
from django.apps import apps
from django.contrib.auth import models as auth
from django.db import connection

from sagas import models, reading
from sagas.console.models import Consent
from sagas.engine import archive
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

migration = importlib.import_module("sagas.console.migrations.0022_consent")


@pytest.mark.django_db
def test_whoever_might_see_the_rows_still_may():
    group = auth.Group.objects.create(name="auditors")
    group.permissions.add(auth.Permission.objects.get(codename="view_consent"))

    with connection.schema_editor() as editor:
        migration.rename("consent", "approval")(apps, editor)
    assert group.permissions.get().codename == "view_approval"
    with connection.schema_editor() as editor:
        migration.rename("approval", "consent")(apps, editor)

    assert group.permissions.get().codename == "view_consent"


@pytest.mark.usefixtures("rows")
def test_what_was_archived_under_the_old_name_comes_back():
    saga = admin_client.play(toys.ONE, "do a, completed")
    Consent.objects.create(
        saga=saga, intervention="compensate", actor="olga", reason="why", state=Consent.State.REFUSED
    )
    archive.run(older_than=toys.NO_TIME)

    found = reading.archived(saga.pk)
    assert list(found.others) == ["sagas_console.approval"]
    assert not models.SagaInstance.objects.filter(pk=saga.pk).exists()
    archive.restore(saga.pk)

    assert Consent.objects.get(saga=saga).reason == "why"
