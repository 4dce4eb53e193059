"""What holds for every example, whatever it is about."""

import datetime

import pytest
from django.contrib.auth.models import Permission

from examples.saga import SAGAS
from sagas import Approval
from sagas.declaration import registry

each_saga = pytest.mark.parametrize("saga", SAGAS, ids=str)


@each_saga
def test_the_engine_finds_it(saga):
    assert registry.get(saga.name, saga.version) is saga


@each_saga
def test_whoever_is_asked_has_the_time_that_the_approval_says(saga):
    waits = [step.wait.limit for step in saga.all_steps if step.wait]

    assert sum(waits, datetime.timedelta(0)) < saga.deadline


@pytest.mark.django_db
@each_saga
def test_there_is_the_permission_that_an_approval_wants(saga):
    for step in saga.all_steps:
        if isinstance(step, Approval):
            app, _, codename = step.permission.partition(".")
            assert Permission.objects.filter(content_type__app_label=app, codename=codename).count() == 1
