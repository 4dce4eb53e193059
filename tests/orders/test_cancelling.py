"""Asking for an order not to be: at once, in flight, too late, twice, and against everything else (I3)."""

import concurrent.futures
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from api.models import Scope
from orders import models
from sagas import engine
from sagas import models as saga_models
from sagas.testing import clocks, memory_transport
from tests.orders import web_server
from tests.orders.conftest import Api, deliver, member, order
from tests.sandbox.running import Sandbox

REASON = {"reason": "changed my mind"}


@pytest.mark.django_db(transaction=True)
def test_before_anything_is_done_it_is_cancelled_at_once(
    ana: Api, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/orders/{ana.order().json()['id']}"

    answer = ana.post(f"{path}/cancel", REASON)

    assert answer.status_code == 202
    assert answer.json()["status"] == "cancelled"
    broker.deliver_all()
    assert ana.get(path).json()["status"] == "cancelled"
    assert models.Order.objects.get().cancel_reason == "changed my mind"
    assert models.Order.objects.get().cancelled_at is not None


@pytest.mark.django_db(transaction=True)
def test_in_flight_what_was_done_is_undone(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/orders/{ana.order().json()['id']}"
    broker.deliver_all()

    answer = ana.post(f"{path}/cancel", REASON).json()

    assert answer["status"] == "cancelling"
    assert answer["undoing"] == ["deliver-order", "issue-invoice", "reserve-stock", "take-payment"]
    assert answer["next"]["message"] == "We call the goods back."
    broker.deliver_all()
    assert ana.get(path).json()["status"] == "cancelled"


@pytest.mark.django_db(transaction=True)
def test_asking_twice_is_asking_once(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    path = f"/orders/{ana.order().json()['id']}"
    broker.deliver_all()
    ana.post(f"{path}/cancel", REASON)

    again = ana.post(f"{path}/cancel", {"reason": "still do not want it"})

    assert again.status_code == 202
    assert models.Order.objects.get().cancel_reason == "changed my mind"
    assert saga_models.Event.objects.filter(kind="cancel.requested").count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ending", ["fulfilled", "cancelled"])
def test_what_has_ended_stays_as_it_is(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, ending: str
) -> None:
    shown = ana.order().json()
    path = f"/orders/{shown['id']}"
    if ending == "cancelled":
        ana.post(f"{path}/cancel", REASON)
    broker.deliver_all()
    if ending == "fulfilled":
        deliver(ana, shown)
        broker.deliver_all()

    answer = ana.post(f"{path}/cancel", REASON)

    assert answer.status_code == 409
    assert answer.json()["type"] == "/api/problems/too-late"
    assert answer.json()["order"] == {"id": shown["id"], "status": ending}


@pytest.mark.django_db
@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "x" * 201}, {"reason": 7}, {"why": "so"}])
def test_a_cancellation_needs_a_reason(ana: Api, body: dict[str, Any]) -> None:
    path = f"/orders/{ana.order().json()['id']}"

    answer = ana.post(f"{path}/cancel", body)

    assert answer.status_code == 422
    assert "/reason" in [fault["pointer"] for fault in answer.json()["errors"]]
    assert ana.get(path).json()["status"] == "pending"


@pytest.mark.django_db
def test_the_staff_is_sent_to_the_one_door_through_which_another_s_order_is_undone(ana: Api) -> None:
    shown = ana.order().json()
    path = f"/orders/{shown['id']}"
    olga = member("olga", Scope.STAFF, is_staff=True, is_superuser=True)

    refused = olga.post(f"{path}/cancel", REASON)

    assert refused.status_code == 403
    assert refused.json()["type"] == "/api/problems/operators-move"
    assert refused.json()["saga"] == {"id": shown["saga"]["id"]}
    assert ana.get(path).json()["status"] == "pending"
    seen = olga.get(f"/sagas/{shown['saga']['id']}").json()["seen"]
    assert olga.post(f"/sagas/{shown['saga']['id']}/compensate", {"seen": seen, **REASON}).status_code == 202
    assert ana.get(path).json()["status"] == "cancelled"


@pytest.mark.django_db
def test_who_belongs_to_the_staff_cancels_an_order_of_his_own_like_anybody(catalogue: None) -> None:
    olga = member("olga", Scope.STAFF, is_staff=True)

    assert olga.post(f"/orders/{olga.order().json()['id']}/cancel", REASON).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_where_two_must_agree_nobody_of_the_staff_returns_money_alone(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, settings: Any
) -> None:
    settings.SAGAS_FOUR_EYES = True
    shown = ana.order().json()
    broker.deliver_all()
    olga = member("olga", Scope.STAFF, is_staff=True, is_superuser=True)

    assert olga.post(f"/orders/{shown['id']}/cancel", REASON).status_code == 403
    seen = olga.get(f"/sagas/{shown['saga']['id']}").json()["seen"]
    asked = olga.post(f"/sagas/{shown['saga']['id']}/compensate", {"seen": seen, **REASON})
    broker.deliver_all()

    assert (asked.status_code, asked.json()["waits_for_approval"]) == (202, True)
    charge = sandbox.charge(shown["payment"]["key"])
    assert charge is not None
    assert charge["refunded"] == 0
    # Who ordered it asks for what is his own, and waits for nobody.
    assert ana.post(f"/orders/{shown['id']}/cancel", REASON).status_code == 202


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("rival", ["delivery", "deadline", "operator", "customer"])
def test_of_a_cancellation_and_its_rival_one_wins(
    web: web_server.Web,
    sandbox: Sandbox,
    broker: memory_transport.MemoryTransport,
    rival: str,
    catalogue: None,
) -> None:
    ana = member("ana")
    with web.client(ana) as client:
        for attempt in range(5):
            shown = ana.order(order(reference=f"{rival}-{attempt}"), key=f"{rival}-{attempt}").json()
            broker.deliver_all()
            saga_id = shown["saga"]["id"]
            if rival == "deadline":
                saga_models.SagaInstance.objects.filter(pk=saga_id).update(
                    deadline_at=timezone.now(), wake_at=timezone.now()
                )

            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                theirs = pool.submit(_rival, rival, ana, shown)
                ours = pool.submit(client.post, f"/orders/{shown['id']}/cancel", json=REASON)
                theirs.result()
                answer = ours.result()
            broker.deliver_all()
            while clocks.until_due() is not None and ana.get(f"/orders/{shown['id']}").json()["status"] in (
                "pending",
                "cancelling",
            ):
                clocks.skip()
                engine.sweep()
                broker.deliver_all()

            # Whoever won, the loser was told, and the end is one of the two, whole.
            after = ana.get(f"/orders/{shown['id']}").json()
            if answer.status_code == 202:
                assert after["status"] == "cancelled"
            else:
                assert answer.status_code == 409, answer.text
                assert after["status"] == answer.json()["order"]["status"] == "fulfilled"
            charge = sandbox.charge(shown["payment"]["key"])
            assert charge is not None
            kept = charge["captured"] - charge["refunded"]
            assert kept == (shown["total"]["amount"] if after["status"] == "fulfilled" else 0)


def _rival(rival: str, ana: Api, shown: dict[str, Any]) -> None:
    try:
        match rival:
            case "delivery":
                deliver(ana, shown)
            case "deadline":
                engine.sweep()
            case "operator":
                _operator(shown["saga"]["id"])
            case "customer":
                ana.post(f"/orders/{shown['id']}/cancel", {"reason": "I said so too"})
    finally:
        connection.close()


def _operator(saga_id: str) -> None:
    from sagas import errors

    try:
        engine.compensate(saga_id, seen=engine.look(saga_id), actor="olga", reason="fraud")
    except errors.NotAllowed:
        return  # The customer was first.
