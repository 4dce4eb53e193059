"""Whether a process lives, and whether it can do its work."""

import datetime
import socket
from typing import Any

import pytest
from django.db.migrations import recorder
from django.test import Client

from saga_project import health
from sagas import models

pytestmark = pytest.mark.django_db


def test_a_process_that_answers_lives() -> None:
    answer = Client().get("/livez")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}
    assert "no-store" in answer["Cache-Control"]


@pytest.fixture(autouse=True)
def swept() -> None:
    """Somebody swept a moment ago."""
    models.Heartbeat.objects.create(name=models.Heartbeat.SWEEP, at=models.database_now())


def test_with_database_schema_and_broker_it_is_ready() -> None:
    answer = Client().get("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "checks": {"database": "ok", "migrations": "ok", "broker": "ok", "sweep": "ok"},
    }


def test_without_a_broker_it_still_takes_orders(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{port}/0"

    answer = Client().get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["checks"]["broker"] == "unreachable"


@pytest.mark.parametrize(("ago_s", "said"), [(40, "late"), (None, "never")])
def test_where_nobody_sweeps_it_takes_orders_and_says_so(ago_s: int | None, said: str) -> None:
    if ago_s is None:
        models.Heartbeat.objects.all().delete()
    else:
        models.Heartbeat.objects.update(at=models.database_now() - datetime.timedelta(seconds=ago_s))

    answer = Client().get("/readyz")

    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"]["sweep"] == said


def test_with_a_migration_missing_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_migrated", False)
    recorder.MigrationRecorder.Migration.objects.filter(app="orders").delete()

    answer = Client().get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["checks"]["migrations"] == "pending"


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_there_is_nothing_to_be_posted(path: str) -> None:
    assert Client().post(path).status_code == 405


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_only_read(path: str) -> None:
    answer = Client(enforce_csrf_checks=True).post(path)

    assert answer.status_code == 405
    assert answer["Allow"] == "GET, HEAD"


def test_the_bare_address_leads_to_the_documentation() -> None:
    assert Client().get("/").headers["Location"] == "/api/docs"
