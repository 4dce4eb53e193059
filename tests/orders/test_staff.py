"""Sagas over HTTP: who may look, who may act, and what the losers of a race are told (I3)."""

import concurrent.futures
import datetime
import io
from typing import Any

import pytest
from django.contrib.auth import models as auth
from django.core import management
from django.db import connection

from api.models import Scope
from orders import models
from sagas import engine
from sagas import models as saga_models
from sagas.console.api import views
from sagas.testing import clocks, memory_transport
from tests.orders.conftest import Api, member, order
from tests.sandbox.running import Sandbox

WHY = {"reason": "the bank called"}
SEEN = "take-payment:forward:pending:0"
ON_SOMETHING = {"seen": SEEN, **WHY}
NOBODY = "0190a0a0-0000-7000-8000-000000000000"


@pytest.fixture
def olga(catalogue: None) -> Api:
    """Of the staff, with every permission."""
    return member("olga", Scope.STAFF, is_staff=True, is_superuser=True)


def on(saga_id: str, **more: Any) -> dict[str, Any]:
    """The body of a move that is decided on how the saga stands now."""
    return {"seen": str(engine.look(saga_id)), **WHY, **more}


def stuck(ana: Api, broker: memory_transport.MemoryTransport) -> dict[str, Any]:
    """An order whose money the bank will not give back."""
    body = order(payment={"method": "card", "token": "tok_refund_refused"})
    body["customer"]["tax_id"] = "00000000191"
    placed: dict[str, Any] = ana.order(body).json()
    broker.deliver_all()
    return placed


@pytest.mark.django_db(transaction=True)
def test_a_saga_is_shown_with_why_it_needs_a_person_and_without_what_is_personal(
    ana: Api, olga: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = stuck(ana, broker)

    answer = olga.get(f"/sagas/{placed['saga']['id']}")
    shown = answer.json()

    assert shown["state"] == "needs_attention"
    assert shown["direction"] == "backward"
    assert shown["step"] == "take-payment"
    assert shown["order"] == {"id": placed["id"], "number": placed["number"]}
    assert shown["failure"]["step"] == "issue-invoice"
    assert shown["attention"]["why"]
    assert shown["attention"]["advice"]
    states = [step["state"] for step in shown["steps"]]
    assert states == ["skipped", "undo_failed", "undone", "undone", "pending"]
    for personal in ("Ana Souza", "ana@example.com", "00000000191", "tok_refund_refused", "Flores"):
        assert personal not in answer.content.decode()
    assert olga.get(f"/sagas/{placed['saga']['id']}", **{"If-None-Match": answer["ETag"]}).status_code == 304


@pytest.mark.django_db(transaction=True)
def test_its_events_are_its_history_page_by_page(
    ana: Api, olga: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = stuck(ana, broker)
    path = f"/sagas/{placed['saga']['id']}/events"

    whole = olga.get(path).json()["results"]
    assert whole[0]["kind"] == "saga.begun"
    assert whole[0]["actor"] == "ana"
    assert whole[-1]["to"] == "needs_attention"
    assert [event["id"] for event in whole] == sorted(event["id"] for event in whole)

    pages = [olga.get(f"{path}?limit=4").json()]
    while link := pages[-1]["next"]:
        pages.append(olga.client.get(link.removeprefix("http://testserver")).json())
    assert [event for page in pages for event in page["results"]] == whole


@pytest.mark.django_db(transaction=True)
def test_sagas_are_found_by_state_step_error_age_and_key(
    ana: Api, olga: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    hurt = stuck(ana, broker)
    fine = ana.order(key="key-2").json()
    hurt_id, fine_id = hurt["saga"]["id"], fine["saga"]["id"]

    def found(query: str) -> list[str]:
        answer = olga.get(f"/sagas?{query}")
        assert answer.status_code == 200, answer.content
        return [row["id"] for row in answer.json()["results"]]

    assert found("") == [fine_id, hurt_id]
    assert found("state=needs_attention") == [hurt_id]
    assert found("state=completed") == []
    assert found("step=take-payment") == [fine_id, hurt_id]
    assert found("step=issue-invoice") == []
    assert found("error=Refused") == [hurt_id]
    assert found(f"key={fine['id']}") == [fine_id]
    assert found(f"key={hurt['number'].lower()}") == [hurt_id]
    assert found("younger_than=1h") == [fine_id, hurt_id]
    assert found("older_than=1h") == []
    clocks.pass_time(datetime.timedelta(hours=2), hurt_id)
    assert found("older_than=1h") == [hurt_id]
    assert found("younger_than=90m&state=running") == [fine_id]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query",
    [
        "state=lost",
        "older_than=soon",
        "older_than=1y",
        "step=",
        "colour=blue",
        "limit=501",
        "older_than=2h&younger_than=1h",
    ],
)
def test_a_senseless_query_is_refused(olga: Api, query: str) -> None:
    answer = olga.get(f"/sagas?{query}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


# --- Acting --------------------------------------------------------------------------------------


def many_that_have_ended(owner: Any) -> None:
    now = saga_models.database_now()
    sagas = [
        saga_models.SagaInstance(
            name="order-fulfilment",
            version=1,
            fingerprint="",
            key=str(number),
            state="completed",
            finished_at=now,
        )
        for number in range(1000)
    ]
    saga_models.SagaInstance.objects.bulk_create(sagas)
    models.Order.objects.bulk_create(
        models.Order(owner=owner, saga=saga, total_amount=100, payment_method="card", state="SP")
        for saga in sagas
    )


@pytest.mark.django_db
def test_a_saga_is_found_by_its_key_without_reading_the_others(ana: Api) -> None:
    many_that_have_ended(ana.user)
    rows = views.chosen({"key": "ORD-7K3QX9ZD"}).order_by("-id")[:21]
    with connection.cursor() as cursor:
        # The planner's choice is for these rows, whatever other tests had the statistics say.
        cursor.execute("ANALYZE sagas_saga, orders_order")
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = rows.explain()

    assert "saga_by_key" in plan
    assert "orders_order_number" in plan
    assert "Filter: " not in plan


@pytest.mark.django_db(transaction=True)
def test_a_saga_is_tried_again(
    ana: Api, olga: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    saga_id = stuck(ana, broker)["saga"]["id"]

    answer = olga.post(f"/sagas/{saga_id}/retry", on(saga_id))

    assert answer.status_code == 202
    assert answer.json()["state"] == "compensating"
    event = saga_models.Event.objects.get(saga_id=saga_id, kind="operator.retry")
    assert (event.actor, event.reason) == ("olga", "the bank called")


@pytest.mark.django_db(transaction=True)
def test_a_doubt_is_settled(
    ana: Api, olga: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = stuck(ana, broker)
    body = on(placed["saga"]["id"], happened=True)

    answer = olga.post(f"/sagas/{placed['saga']['id']}/resolve", body)
    broker.deliver_all()

    assert answer.status_code == 202
    assert ana.get(f"/orders/{placed['id']}").json()["status"] == "cancelled"


@pytest.mark.django_db(transaction=True)
def test_a_saga_is_undone_by_an_operator(
    ana: Api, olga: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = ana.order().json()
    broker.deliver_all()

    answer = olga.post(f"/sagas/{placed['saga']['id']}/compensate", on(placed["saga"]["id"]))
    broker.deliver_all()

    assert answer.status_code == 202
    assert answer.json()["waits_for_approval"] is False
    assert ana.get(f"/orders/{placed['id']}").json()["status"] == "cancelled"


@pytest.mark.django_db(transaction=True)
def test_where_two_must_agree_one_only_asks(
    ana: Api, olga: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport, settings: Any
) -> None:
    settings.SAGAS_FOUR_EYES = True
    placed = stuck(ana, broker)
    fine = ana.order(key="key-2").json()
    broker.deliver_all()

    asked = olga.post(f"/sagas/{fine['saga']['id']}/compensate", on(fine["saga"]["id"]))
    assert asked.status_code == 202
    assert asked.json()["waits_for_approval"] is True
    assert asked.json()["state"] == "running"

    body = on(placed["saga"]["id"], happened=True)
    assert olga.post(f"/sagas/{placed['saga']['id']}/resolve", body).json()["waits_for_approval"] is True
    # Trying again moves no money that was not to be moved, and needs nobody else.
    again = olga.post(f"/sagas/{placed['saga']['id']}/retry", on(placed["saga"]["id"]))
    assert again.json()["waits_for_approval"] is False


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("move", ["retry", "compensate", "resolve"])
def test_what_does_not_apply_is_refused_with_the_state(
    ana: Api, olga: Api, broker: memory_transport.MemoryTransport, move: str
) -> None:
    placed = ana.order().json()
    ana.post(f"/orders/{placed['id']}/cancel", {"reason": "so"})
    more = {"happened": True} if move == "resolve" else {}

    answer = olga.post(f"/sagas/{placed['saga']['id']}/{move}", on(placed["saga"]["id"], **more))

    assert answer.status_code == 409
    assert answer.json()["type"] == "/api/problems/move-not-allowed"
    assert answer.json()["saga"] == {"id": placed["saga"]["id"], "state": "compensated"}


@pytest.mark.django_db(transaction=True)
def test_of_operators_at_the_same_time_one_wins(
    ana: Api, olga: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    saga_id = stuck(ana, broker)["saga"]["id"]
    body = on(saga_id, happened=True)

    def settle(_: int) -> int:
        try:
            return int(olga.post(f"/sagas/{saga_id}/resolve", body).status_code)
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(settle, range(6)))

    assert statuses == [202] + [409] * 5
    assert saga_models.Event.objects.filter(kind="operator.resolve").count() == 1


@pytest.mark.django_db(transaction=True)
def test_what_was_said_of_an_unpaid_order_does_not_deliver_it_once_it_is_paid(
    ana: Api, olga: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = ana.order(order(payment={"method": "pix"})).json()
    broker.deliver_all()
    path = f"/sagas/{placed['saga']['id']}"
    shown = olga.get(path).json()
    assert shown["seen"] == "take-payment:forward:waiting:1"
    sandbox.post(f"/pix/{placed['payment']['key']}/pay")
    clocks.skip()
    engine.sweep()
    broker.deliver_all()
    stands = olga.get(path).json()
    assert stands["seen"] == "deliver-order:forward:waiting:1"

    for move, more in (("resolve", {"happened": True}), ("compensate", {}), ("retry", {})):
        late = olga.post(f"{path}/{move}", {"seen": shown["seen"], **WHY, **more})

        assert late.status_code == 409
        assert late.json()["type"] == "/api/problems/moved-on"
        assert late.json()["saga"] == {"id": placed["saga"]["id"], "state": "running"}
    broker.deliver_all()
    assert olga.get(path).json() == stands
    assert ana.get(f"/orders/{placed['id']}").json()["status"] == "pending"


@pytest.mark.django_db(transaction=True)
def test_what_was_said_of_a_charge_does_not_count_as_its_refund(
    ana: Api, olga: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = ana.order(order(payment={"method": "pix"})).json()
    broker.deliver_all()
    path = f"/sagas/{placed['saga']['id']}"
    seen = olga.get(path).json()["seen"]
    ana.post(f"/orders/{placed['id']}/cancel", {"reason": "changed my mind"})

    late = olga.post(f"{path}/resolve", {"seen": seen, **WHY, "happened": True})

    assert late.status_code == 409
    assert late.json()["type"] == "/api/problems/moved-on"
    assert olga.get(path).json()["state"] == "compensating"
    broker.deliver_all()
    charge = sandbox.charge(placed["payment"]["key"])
    assert charge is not None
    assert charge["status"] == "cancelled", "nobody's word stood in for the undo"


@pytest.mark.django_db
def test_who_does_not_say_what_was_seen_is_told_where_to_find_it(ana: Api, olga: Api) -> None:
    saga_id = ana.order().json()["saga"]["id"]

    for move in ("retry", "compensate", "resolve"):
        more = {"happened": True} if move == "resolve" else {}
        answer = olga.post(f"/sagas/{saga_id}/{move}", WHY | more)

        assert answer.status_code == 422
        (fault,) = answer.json()["errors"]
        assert fault["pointer"] == "/seen"
        assert "GET /api/v1/sagas/{id} shows it" in fault["detail"]


@pytest.mark.django_db(transaction=True)
def test_what_is_personal_in_an_operators_facts_is_struck_out_of_the_history_as_everywhere(
    ana: Api, olga: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    shown = ana.order(order(payment={"method": "pix"})).json()
    broker.deliver_all()
    said = {
        "paid": True,
        "provider_ref": "ch_8841",
        "pix": {"copy_paste": "00020126", "payer": {"email": "ana@example.com"}},
        "proof": {"customer": ["Ana Souza", 52998224725], "seen_at": "the bank's own console"},
    }
    path = f"/sagas/{shown['saga']['id']}"
    body = {
        "seen": olga.get(path).json()["seen"],
        "happened": True,
        "facts": said,
        "reason": "Seen at the bank.",
    }
    assert olga.post(f"{path}/resolve", body).status_code == 202

    history = olga.get(f"{path}/events")
    (event,) = [one for one in history.json()["results"] if one["kind"] == "operator.resolve"]
    assert event["data"]["facts"] == {
        "paid": True,
        "provider_ref": "ch_8841",
        "pix": "•••",
        "proof": {"customer": "•••", "seen_at": "the bank's own console"},
    }
    told = io.StringIO()
    management.call_command("saga", "show", shown["saga"]["id"], "--events", "--json", stdout=told)
    for text in (history.content.decode(), olga.get(path).content.decode(), told.getvalue()):
        for personal in ("Ana Souza", "52998224725", "ana@example.com", "00020126"):
            assert personal not in text


# --- Who may -------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("move", "permission"),
    [("retry", "operate_saga"), ("compensate", "compensate_saga"), ("resolve", "resolve_saga")],
)
def test_each_move_needs_its_permission(ana: Api, move: str, permission: str) -> None:
    saga_id = ana.order().json()["saga"]["id"]
    path = f"/sagas/{saga_id}/{move}"
    clerk = member("clerk", Scope.STAFF, is_staff=True)
    body = on(saga_id, **({"happened": False} if move == "resolve" else {}))

    refused = clerk.post(path, body)
    assert refused.status_code == 403
    assert permission in refused.json()["detail"]

    clerk.user.user_permissions.add(auth.Permission.objects.get(codename=permission))
    assert clerk.post(path, body).status_code in (202, 409)


@pytest.mark.django_db
def test_a_staff_token_of_somebody_who_has_left_the_staff_shows_nothing(ana: Api) -> None:
    clerk = member("clerk", Scope.STAFF, is_staff=True)
    assert clerk.get("/sagas").status_code == 200

    auth.User.objects.filter(pk=clerk.user.pk).update(is_staff=False)
    assert clerk.get("/sagas").status_code == 401
    # Nor anybody's orders.
    path = f"/orders/{ana.order().json()['id']}"
    assert clerk.get(path).status_code == 401


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["", f"/{NOBODY}", f"/{NOBODY}/events"])
def test_customers_see_no_sagas(ana: Api, path: str) -> None:
    assert ana.get(f"/sagas{path}").status_code == 403


@pytest.mark.django_db
def test_a_saga_that_there_is_not_is_not_there(olga: Api) -> None:
    assert olga.get(f"/sagas/{NOBODY}").status_code == 404
    assert olga.get(f"/sagas/{NOBODY}/events").status_code == 404
    for move in ("retry", "compensate"):
        assert olga.post(f"/sagas/{NOBODY}/{move}", ON_SOMETHING).status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"seen": SEEN, "happened": True}, "/reason"),
        (WHY | {"happened": True}, "/seen"),
        (ON_SOMETHING, "/happened"),
        (ON_SOMETHING | {"happened": "yes"}, "/happened"),
        (ON_SOMETHING | {"happened": 1}, "/happened"),
        (ON_SOMETHING | {"happened": True, "facts": []}, "/facts"),
        (ON_SOMETHING | {"happened": True, "facts": {"a": "x" * 5000}}, "/facts"),
        (ON_SOMETHING | {"happened": True, "facts": {"a": "\u0000"}}, "/facts"),
    ],
)
def test_a_senseless_resolution_is_refused(ana: Api, olga: Api, body: dict[str, Any], pointer: str) -> None:
    answer = olga.post(f"/sagas/{ana.order().json()['saga']['id']}/resolve", body)

    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


@pytest.mark.django_db
@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_fact_that_is_no_number_is_refused_in_words(ana: Api, olga: Api, number: str) -> None:
    body = f'{{"reason": "so", "step": "take-payment", "happened": true, "facts": {{"number": {number}}}}}'
    answer = olga.post(f"/sagas/{ana.order().json()['saga']['id']}/resolve", body)

    assert answer.status_code == 400
    assert answer.json()["type"] == "/api/problems/malformed-body"
