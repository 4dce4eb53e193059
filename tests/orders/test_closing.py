"""An order whose saga is put aside has ended: for its customer, its merchant, the audit and the bank."""

import concurrent.futures
import io
import json
from typing import Any

import pytest
from django.core import management
from django.db import IntegrityError, connection, transaction

from api.models import Scope
from orders import audit, models
from payments import models as payments
from sagas import engine, errors
from sagas import models as sagas
from sagas.testing import clocks, memory_transport
from tests.orders.conftest import Api, member, order
from tests.orders.test_events import bank
from tests.orders.test_schema import is_described
from tests.orders.web_server import Web, messages
from tests.sandbox.running import Sandbox
from tests.support import waiting
from tests.webhooks.receiver import receiving
from webhooks import deliveries

pytestmark = pytest.mark.django_db(transaction=True)

EVIDENCE = "Paid back by bank transfer, receipt 8841."


def hurt(**changes: Any) -> dict[str, Any]:
    """An order whose invoice is rejected, and whose refund is refused for good."""
    body = order(payment={"method": "card", "token": "tok_refund_refused"}, **changes)
    body["customer"]["tax_id"] = "00000000191"
    return body


def stuck(api: Api, broker: memory_transport.MemoryTransport, key: str = "key-1") -> dict[str, Any]:
    shown = api.order(hurt(), key=key).json()
    broker.deliver_all()
    shown = api.get(f"/orders/{shown['id']}").json()
    assert shown["status"] == "attention"
    return dict(shown)


def close(shown: dict[str, Any]) -> None:
    engine.close(shown["saga"]["id"], seen=engine.look(shown["saga"]["id"]), actor="olga", reason=EVIDENCE)


def test_who_follows_an_order_that_staff_closes_is_told_so_and_whom_to_ask(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    shown = stuck(ana, broker)
    close(shown)

    path = f"/orders/{shown['id']}"
    told = ana.get(path)
    assert told.json()["status"] == "closed"
    assert told.json()["failure"]["message"] == "The fiscal authority rejected the invoice."
    assert told.json()["payment"]["status"] == "refund_failed"
    assert f"Ask the shop about it, by its number {shown['number']}." in told.json()["next"]["message"]
    is_described("Order", told.json())
    # What staff wrote is not the customer's to read.
    assert EVIDENCE not in told.content.decode()
    assert b"olga" not in told.content

    stream = ana.stream(f"{path}/events")
    assert json.loads(stream.strip().splitlines()[-1].removeprefix("data: "))["status"] == "closed"
    assert EVIDENCE not in stream
    last = stream.rpartition("id: ")[2].split()[0]
    assert ana.get(f"{path}/events", **{"Last-Event-ID": last}).status_code == 204


def test_a_closed_order_is_listed_as_closed_and_no_longer_as_one_that_needs_attention(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    closed, other = stuck(ana, broker, "one"), stuck(ana, broker, "two")
    close(closed)

    def listed(status: str) -> list[str]:
        return [row["id"] for row in ana.get(f"/orders?status={status}").json()["results"]]

    assert (listed("closed"), listed("attention")) == ([closed["id"]], [other["id"]])


def test_streams_and_long_polls_end_when_the_order_is_closed(
    ana: Api, web: Web, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    shown = stuck(ana, broker)
    path = f"/orders/{shown['id']}"

    def follow() -> list[dict[str, Any]]:
        with web.client(ana) as client, client.stream("GET", f"{path}/events") as stream:
            return [message["data"] for message in messages(stream.iter_lines())]

    def wait() -> str:
        with web.client(ana) as client:
            return str(client.get(f"{path}?wait=25").json()["status"])

    with concurrent.futures.ThreadPoolExecutor() as both:
        followed, waited = both.submit(follow), both.submit(wait)
        waiting.until(models.Follower.objects.exists, "somebody follows")
        close(shown)
        assert followed.result(timeout=60)[-1]["status"] == "closed"
        assert waited.result(timeout=60) == "closed"


def test_a_merchant_is_told_that_the_order_is_closed(
    catalogue: None, broker: memory_transport.MemoryTransport, sandbox: Sandbox, settings: Any
) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    mia = member("mia", Scope.MERCHANT)
    with receiving() as receiver:
        wanted = {"url": receiver.url, "types": ["order.closed"]}
        assert mia.post("/webhook-endpoints", wanted).status_code == 201
        shown = stuck(mia, broker)
        close(shown)
        deliveries.run()

        (message,) = receiver.told
    is_described("Message", message)
    assert message["type"] == "order.closed"
    assert message["data"]["order"]["status"] == "closed"
    assert message["data"]["order"]["failure"]["step"] == "issue-invoice"
    assert EVIDENCE not in json.dumps(message)


def test_a_closed_order_cannot_be_cancelled_and_its_key_still_answers_as_it_did(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    first = ana.order(hurt())
    broker.deliver_all()
    close(first.json())

    answer = ana.post(f"/orders/{first.json()['id']}/cancel", {"reason": "so"})
    assert answer.status_code == 409
    assert answer.json()["type"].endswith("too-late")
    assert answer.json()["order"]["status"] == "closed"
    again = ana.order(hurt())
    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")


def test_an_order_ends_once_whoever_writes_it(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    shown = stuck(ana, broker)
    close(shown)
    with pytest.raises(errors.NotAllowed):
        close(shown)

    row = models.Order.objects.get(pk=shown["id"])
    assert row.closed_at is not None
    for other in ("fulfilled_at", "cancelled_at"):
        with pytest.raises(IntegrityError, match="orders_order_has_one_end"), transaction.atomic():
            models.Order.objects.filter(pk=row.pk).update(**{other: row.closed_at})


def test_a_closing_that_names_no_state_is_told_too(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    shown = stuck(ana, broker)
    close(shown)
    # As version 0.1.0 wrote it.
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE sagas_event SET from_state = '', to_state = '' WHERE kind = 'operator.close'")
        cursor.execute("SET session_replication_role = DEFAULT")

    assert ana.get(f"/orders/{shown['id']}").json()["status"] == "closed"
    stream = ana.stream(f"/orders/{shown['id']}/events")
    assert '"status":"closed"' in stream
    assert audit.run().discrepancies == []


def test_the_audit_names_who_answers_for_what_is_left_of_a_closed_order(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox, settings: Any
) -> None:
    settings.SANDBOX_URL = sandbox.url
    shown = stuck(ana, broker)
    close(shown)

    report = audit.run()
    assert report.discrepancies == []
    assert (report.ended, report.live) == (1, 0)
    (left,) = report.answered
    assert (left.about, left.room) == (shown["number"], "payments")
    assert left.finding == (
        f"The order is closed, and this is captured. olga closed it and answers for it: {EVIDENCE}"
    )

    # Nobody answers for books that contradict themselves.
    payments.Payment.objects.update(captured=1)
    assert audit.run().discrepancies
    payments.Payment.objects.update(captured=shown["total"]["amount"])
    models.Order.objects.update(closed_at=None)
    (wrong,) = audit.run().discrepancies
    assert (wrong.about, wrong.room) == (shown["number"], "orders")


def test_the_console_says_what_is_left_and_that_nobody_returns_it(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox, admin_client: Any
) -> None:
    shown = stuck(ana, broker)
    close(shown)

    page = admin_client.get(f"/admin/sagas/sagainstance/{shown['saga']['id']}/change/")
    assert "nobody returns it any more" in page.context["panels"][0].net
    assert page.context["summary"].advice.endswith("take-payment.")
    listed = admin_client.get("/admin/orders/order/", {"status": "closed"})
    assert [row.number for row in listed.context["cl"].result_list] == [shown["number"]]
    assert "Put aside" in listed.content.decode()
    assert not admin_client.get("/admin/orders/order/", {"status": "attention"}).context["cl"].result_list
    out = io.StringIO()
    management.call_command("saga", "show", shown["saga"]["id"], stdout=out)
    assert EVIDENCE in out.getvalue()


def test_a_pix_that_is_paid_after_its_order_was_closed_is_returned(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = ana.order(order(payment={"method": "pix"})).json()
    broker.deliver_all()
    # Its time runs out while the bank cannot be reached, for as long as anybody tries.
    saga = sagas.SagaInstance.objects.get(pk=shown["saga"]["id"])
    engine.cancel(saga.pk, actor="ana", reason="too slow")
    _fail_the_undo(saga, monkeypatch, broker)
    close(shown)

    key = shown["payment"]["key"]
    sandbox.post(f"/pix/{key}/pay")
    assert bank(ana, sandbox, shown, "pix.paid").status_code == 202
    engine.sweep()
    broker.deliver_all()

    charge = sandbox.charge(key)
    assert charge is not None
    assert charge["refunded"] == charge["captured"] == shown["total"]["amount"]
    assert ana.get(f"/orders/{shown['id']}").json()["status"] == "closed"
    assert audit.run(sandbox.books()).discrepancies == []


def _fail_the_undo(
    saga: sagas.SagaInstance, monkeypatch: pytest.MonkeyPatch, broker: memory_transport.MemoryTransport
) -> None:
    """The bank cannot be reached until a person is called."""
    from django.conf import settings

    url = settings.PAYMENTS_URL
    monkeypatch.setattr(settings, "PAYMENTS_URL", "http://127.0.0.1:9")
    for _ in range(2000):  # Each queue is probed meanwhile, and each probe is a message.
        saga.refresh_from_db()
        if saga.state == "needs_attention":
            break
        if not broker.deliver():
            clocks.skip()
            engine.sweep()
    assert saga.state == "needs_attention"
    monkeypatch.setattr(settings, "PAYMENTS_URL", url)
