"""The REST API tells what a saga is about as far as an app does, and takes answers to approvals.

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


# --- Approvals ------------------------------------------------------------------------------------


@pytest.fixture
def as_staff():
    """Somebody's client, with a token of the staff and these permissions."""
    users = []

    def begin(name, *permissions):
        user, _ = auth.User.objects.get_or_create(username=name, defaults={"is_staff": True})
        user.user_permissions.set(auth.Permission.objects.filter(codename__in=permissions))
        users.append(user)
        _, secret = tokens.create(user=user, name="tests", scope=Scope.STAFF)
        return Client(headers={"Authorization": f"Token {secret}"})

    yield begin
    for user in users:
        user.delete()


def send(person, saga, answer, **body):
    body = {"step": "ok", "reason": "Known customer", **body}
    return person.post(f"/api/v1/sagas/{saga.pk}/{answer}", body, "application/json")


@pytest.mark.parametrize(("answer", "ends"), [("approve", "completed"), ("refuse", "compensated")])
def test_an_approval_is_answered_with_a_reason(as_staff, answer, ends):
    saga, rita = admin_client.asked(), as_staff("rita", "approve_toy")

    told = send(rita, saga, answer)

    assert (told.status_code, told.json()["id"]) == (202, str(saga.pk))
    event = saga.events.get(kind__startswith="approval.")
    assert (event.actor, event.reason, event.data["through"]) == ("rita", "Known customer", "api")
    assert admin_client.finish(saga).state == ends


def test_an_approval_is_answered_by_nobody_without_its_own_permission(as_staff):
    saga = admin_client.asked()
    otto = as_staff("otto", "operate_saga", "compensate_saga", "resolve_saga")

    for answer in ("approve", "refuse"):
        told = send(otto, saga, answer)
        assert (told.status_code, told.json()["type"]) == (403, "/api/problems/not-permitted")
        assert "sample_app.approve_toy" in told.json()["detail"]
        assert Client().post(f"/api/v1/sagas/{saga.pk}/{answer}", {}, "application/json").status_code == 401
    assert not saga.events.filter(kind__startswith="approval.").exists()


def test_the_same_answer_once_more_changes_nothing_and_is_no_fault(as_staff):
    saga = admin_client.asked(toys.APPROVED_BY_TWO)
    rita, rob = as_staff("rita", "approve_toy"), as_staff("rob", "approve_toy")

    assert [send(rita, saga, "approve").status_code for _ in range(3)] == [202, 202, 202]
    assert saga.events.filter(kind="approval.given").count() == 1
    assert send(rob, saga, "approve").status_code == 202
    assert send(rita, saga, "approve").json()["steps"][1]["state"] == "done"
    other = send(rita, saga, "refuse")
    assert (other.status_code, other.json()["type"]) == (409, "/api/problems/move-not-allowed")
    assert admin_client.finish(saga).state == "completed"
    assert send(rita, saga, "approve").status_code == 202


def test_facts_are_stated_exactly(as_staff):
    saga, rita = admin_client.asked(toys.APPROVED_WITH_FACTS), as_staff("rita", "approve_toy")

    missing = send(rita, saga, "approve", facts={"limit": 7})
    assert (missing.status_code, missing.json()["type"]) == (409, "/api/problems/move-not-allowed")
    assert "limit, note" in missing.json()["detail"]
    assert missing.json()["saga"] == {"id": str(saga.pk), "state": "running"}
    assert send(rita, saga, "refuse", facts={"limit": 7}).status_code == 422
    assert send(rita, saga, "approve", facts={"limit": 7, "note": "x"}).status_code == 202
    changed = send(rita, saga, "approve", facts={"limit": 8, "note": "x"})
    assert changed.status_code == 409

    saga.refresh_from_db()
    assert (saga.facts["limit"], saga.facts["note"]) == (7, "x")


def test_what_is_no_approval_or_no_step_is_told_apart(as_staff):
    saga, rita = admin_client.asked(), as_staff("rita", "approve_toy")

    assert send(rita, saga, "approve", step="a").status_code == 409
    assert send(rita, saga, "approve", step="nothing").status_code == 404
    assert send(rita, saga, "approve", reason="").status_code == 422
    absent = f"/api/v1/sagas/{uuid.uuid4()}/approve"
    assert rita.post(absent, {"step": "ok", "reason": "x"}, "application/json").status_code == 404
