import datetime
import math
from typing import Any

import pytest
from django.contrib.auth import models as auth
from django.test import Client
from prometheus_client import parser

from api import tokens
from api.models import Scope
from sagas import models as sagas

pytestmark = pytest.mark.django_db


def test_metrics_are_for_staff_and_read_from_the_rows(client: Client) -> None:
    alice = auth.User.objects.create_user("alice", is_staff=True)
    staff = _token(alice, Scope.STAFF)
    customer = _token(alice, Scope.CUSTOMER)

    answer = client.get("/metrics", headers={"Authorization": f"Token {staff}"})

    # It is what Prometheus reads.
    assert answer.status_code == 200
    families = {family.name: family for family in parser.text_string_to_metric_families(answer.text)}
    assert {sample.labels["state"] for sample in families["sagas_live"].samples} == {
        "running",
        "compensating",
        "needs_attention",
    }
    assert families["sagas_overdue"].samples[0].value == 0
    assert math.isinf(families["sagas_sweep_age_seconds"].samples[0].value), "nobody ever swept"

    # Whatever form it is asked for in.
    for accepted in ("text/plain", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "*/*"):
        headers = {"Authorization": f"Token {staff}", "Accept": accepted}
        assert client.get("/metrics", headers=headers).status_code == 200

    # Nobody else reads it.
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Token {customer}"}).status_code == 403


def test_an_outage_that_a_person_must_mend_is_a_metric(client: Client) -> None:
    staff = _token(auth.User.objects.create_user("alice", is_staff=True), Scope.STAFF)
    now = sagas.database_now()
    sagas.Circuit.objects.create(name="payments", opened_at=now, open_until=now, needs_person=True)

    answer = client.get("/metrics", headers={"Authorization": f"Token {staff}"})

    families = {family.name: family for family in parser.text_string_to_metric_families(answer.text)}
    told = {sample.labels["queue"]: sample.value for sample in families["sagas_circuit_needs_person"].samples}
    assert (told["payments"], told["shipping"]) == (1, 0)


def test_what_stands_in_a_line_is_a_metric_of_its_queue(client: Client) -> None:
    staff = _token(auth.User.objects.create_user("alice", is_staff=True), Scope.STAFF)
    for number in range(3):
        sagas.SagaInstance.objects.create(
            name="order-fulfilment",
            version=1,
            fingerprint="f",
            key=str(number),
            wake_at=sagas.database_now(),
            in_line_for="payments",
        )

    answer = client.get("/metrics", headers={"Authorization": f"Token {staff}"})

    families = {family.name: family for family in parser.text_string_to_metric_families(answer.text)}
    told = {sample.labels["queue"]: sample.value for sample in families["sagas_in_line"].samples}
    assert (told["payments"], told["shipping"]) == (3, 0)


@pytest.mark.parametrize(("longest", "says"), [(None, {}), (500, {"payments": 500})])
def test_how_long_a_line_may_become_is_a_metric_of_each_queue_in_which_sagas_begin(
    client: Client, settings: Any, longest: int | None, says: dict[str, float]
) -> None:
    settings.SAGAS_LONGEST_LINE = longest
    staff = _token(auth.User.objects.create_user("alice", is_staff=True), Scope.STAFF)

    answer = client.get("/metrics", headers={"Authorization": f"Token {staff}"})

    families = {family.name: family for family in parser.text_string_to_metric_families(answer.text)}
    told = {sample.labels["queue"]: sample.value for sample in families["sagas_longest_line"].samples}
    assert {queue: told[queue] for queue in told if queue in ("payments", "invoicing", "shipping")} == says


def test_a_queue_that_nobody_works_on_grows_in_the_metrics_and_one_with_a_backlog_is_told_apart(
    client: Client,
) -> None:
    now = sagas.database_now()
    five_minutes, a_second = datetime.timedelta(minutes=5), datetime.timedelta(seconds=1)
    since = {"probed_at": now - a_second, "unanswered_since": now - five_minutes}
    sagas.Queue.objects.create(name="payments", **since)
    sagas.Queue.objects.create(name="shipping", heard_at=now, **since)
    staff = _token(auth.User.objects.create_user("alice", is_staff=True), Scope.STAFF)

    answer = client.get("/metrics", headers={"Authorization": f"Token {staff}"})

    families = {family.name: family for family in parser.text_string_to_metric_families(answer.text)}
    told = {
        name: {sample.labels["queue"]: round(sample.value / 60) for sample in families[name].samples}
        for name in ("sagas_queue_lag_seconds", "sagas_queue_silent_seconds")
    }
    assert told == {
        "sagas_queue_lag_seconds": {"payments": 5, "shipping": 5},
        "sagas_queue_silent_seconds": {"payments": 5, "shipping": 0},
    }


def test_families_are_metrics_of_their_own_and_counted_among_all_sagas(client: Client) -> None:
    staff = _token(auth.User.objects.create_user("alice", is_staff=True), Scope.STAFF)
    parent = _saga("order", position=0)
    sagas.StepInstance.objects.create(saga=parent, position=0, name="deliver", state="waiting")
    done = _saga("parcel", parent_id=parent.pk, parent_step="deliver", parent_item=0, position=1)
    begun = _saga("parcel", parent_id=parent.pk, parent_step="deliver", parent_item=1, position=0)
    stuck = _saga(
        "parcel", parent_id=parent.pk, parent_step="deliver", parent_item=2, state="needs_attention"
    )
    for child in (done, begun, stuck):
        sagas.StepInstance.objects.create(saga=child, position=0, name="send")

    answer = client.get("/metrics", headers={"Authorization": f"Token {staff}"})

    families = {family.name: family for family in parser.text_string_to_metric_families(answer.text)}
    told = {
        name: {tuple(sample.labels.values()): sample.value for sample in families[name].samples}
        for name in ("sagas_live", "sagas_live_children", "sagas_children_waiting", "sagas_parents_waiting")
    }
    assert told == {
        "sagas_live": {("running",): 3, ("compensating",): 0, ("needs_attention",): 1},
        "sagas_live_children": {("parcel", "running"): 2, ("parcel", "needs_attention"): 1},
        "sagas_children_waiting": {("parcel",): 1},
        "sagas_parents_waiting": {("order", "deliver"): 1},
    }


def _saga(name: str, **columns: Any) -> sagas.SagaInstance:
    number = sagas.SagaInstance.objects.count()
    return sagas.SagaInstance.objects.create(
        name=name, version=1, fingerprint="f", key=str(number), wake_at=sagas.database_now(), **columns
    )


def _token(user: auth.User, scope: Scope) -> str:
    _, secret = tokens.create(user=user, scope=scope, name=f"of {user}")
    return secret
