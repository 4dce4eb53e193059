"""The REST API tells what a saga is about as far as an app does, and needs none that does.

With real orders it is tested in tests/orders/test_staff.py.
"""

import uuid

import pytest
from django.contrib.auth import models as auth
from django.db import connection
from django.test import Client, utils

from api import tokens
from api.models import Scope
from sagas import models
from sagas.console import panels
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")


class Parcels:
    """An app that knows each saga by a number, which is the saga's own id's end."""

    def describe(self, saga_ids):
        return {saga: panels.Subject(text="A parcel", id=saga, number=number(saga)) for saga in saga_ids}

    def numbered(self, wanted):
        found = [
            pk for pk in models.SagaInstance.objects.values_list("pk", flat=True) if number(pk) == wanted
        ]
        return models.SagaInstance.objects.filter(pk__in=found).values_list("pk", flat=True)


def number(saga: uuid.UUID) -> str:
    return f"P-{str(saga)[-6:]}"


@pytest.fixture
def olga():
    user, _ = auth.User.objects.get_or_create(
        username="olga", defaults={"is_staff": True, "is_superuser": True}
    )
    _, secret = tokens.create(user=user, name="tests", scope=Scope.STAFF)
    yield Client(headers={"Authorization": f"Token {secret}"})
    user.delete()


def test_a_saga_of_which_no_app_tells_is_about_nothing_and_found_by_its_key(olga, monkeypatch):
    monkeypatch.setattr(panels, "_subjects", {})
    saga, other = admin_client.attention(), admin_client.waiting()

    assert olga.get(f"/api/v1/sagas/{saga.pk}").json()["order"] is None
    (found,) = olga.get(f"/api/v1/sagas?key={saga.key}").json()["results"]
    assert (found["id"], found["order"]) == (str(saga.pk), None)
    assert olga.get("/api/v1/sagas?key=another").json()["results"] == []
    assert other.key != saga.key


def test_a_saga_is_found_and_shown_with_the_number_that_its_app_tells(olga, monkeypatch):
    monkeypatch.setattr(panels, "_subjects", {})
    saga = admin_client.play(toys.ONE, "do a, completed")
    admin_client.attention()
    panels.add(saga.name, Parcels())

    (found,) = olga.get(f"/api/v1/sagas?key={number(saga.pk)}").json()["results"]

    assert found["order"] == {"id": str(saga.pk), "number": number(saga.pk)}
    assert olga.get(f"/api/v1/sagas/{saga.pk}").json() == found


def test_a_page_takes_as_many_statements_however_many_sagas_it_has(olga, monkeypatch):
    monkeypatch.setattr(panels, "_subjects", {})
    panels.add(admin_client.play(toys.ONE, "do a, completed").name, Parcels())
    olga.get("/api/v1/sagas")  # Whatever is asked once only.

    with utils.CaptureQueriesContext(connection) as for_one:
        assert len(olga.get("/api/v1/sagas").json()["results"]) == 1
    for _ in range(3):
        admin_client.play(toys.ONE, "do a, completed")
    with utils.CaptureQueriesContext(connection) as for_four:
        assert len(olga.get("/api/v1/sagas").json()["results"]) == 4

    assert len(for_four) == len(for_one)
