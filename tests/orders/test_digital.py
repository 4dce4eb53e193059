"""What is digital goes to nobody in a parcel: an order of nothing else has no delivery."""

from typing import Any

import pytest

from inventory import services as inventory
from orders import audit, erasure, models
from sagas import models as saga_models
from sagas.testing import memory_transport
from shipping import models as shipping
from tests.orders.conftest import Api, deliver, order
from tests.orders.test_schema import is_described
from tests.sandbox.running import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def ebook(catalogue: None) -> None:
    price = {"amount": 2990, "currency": "BRL"}
    inventory.introduce(sku="EBOOK-TEA", name="Tea, e-book", price=price, quantity=10, ships=False)


def of(*skus: str) -> dict[str, Any]:
    return order(lines=[{"sku": sku, "quantity": 2} for sku in skus])


def test_a_product_says_whether_it_ships(ana: Api) -> None:
    ships = {row["sku"]: row["ships"] for row in ana.get("/products").json()["results"]}

    assert ships == {"EBOOK-TEA": False, "MUG-BLUE": True, "POSTER-MAP": True}


def test_a_digital_order_is_fulfilled_without_a_delivery_and_never_speaks_of_one(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    placed = ana.order(of("EBOOK-TEA")).json()
    path = f"/orders/{placed['id']}"
    told = [placed]
    while broker.deliver():
        told.append(ana.get(path).json())
    done = told[-1]

    assert done["status"] == "fulfilled"
    assert [step["status"] for step in done["saga"]["steps"]] == [
        "skipped",
        "done",
        "done",
        "done",
        "skipped",
    ]
    assert done["lines"][0]["ships"] is False
    assert {one["shipment"] for one in told} == {None}
    assert not [one for one in told if "carrier" in one["next"]["message"]]
    assert done["next"]["message"] == (
        "Nothing: the order is paid and invoiced, and has nothing to be delivered."
    )
    is_described("Order", done)
    assert "deliver" not in ana.stream(f"{path}/events")

    # It was sold, taxed, and booked with no carrier.
    assert models.Order.objects.get().fulfilled_at is not None
    assert (done["payment"]["status"], done["invoice"]["status"]) == ("paid", "issued")
    assert not shipping.Shipment.objects.exists()
    assert sandbox.books()["shipments"] == []
    assert audit.run().discrepancies == []


def without_address(*skus: str) -> dict[str, Any]:
    body = of(*skus)
    del body["shipping_address"]
    return body


def test_a_digital_order_needs_no_address(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    answer = ana.order(without_address("EBOOK-TEA"))

    assert answer.status_code == 202, answer.content
    broker.deliver_all()
    assert ana.get(f"/orders/{answer.json()['id']}").json()["status"] == "fulfilled"
    row = models.Order.objects.get()
    assert (row.recipient, row.street, row.city, row.state, row.country) == ("", "", "", "", "")
    assert saga_models.SagaInstance.objects.get().facts["address"] is None
    assert audit.run().discrepancies == []


def test_what_ships_needs_one(ana: Api) -> None:
    answer = ana.order(without_address("EBOOK-TEA", "MUG-BLUE"))

    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert (fault["pointer"], fault["code"]) == ("/shipping_address", "required")
    assert "Line 1 of the order ships" in fault["detail"]
    assert not models.Order.objects.exists()


def test_an_order_without_an_address_can_be_erased(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    ana.order(without_address("EBOOK-TEA"))
    broker.deliver_all()
    row = models.Order.objects.get()

    asked = erasure.ask(
        customer=erasure.of_same_customer(models.Order.objects.all())[0],
        orders=[row],
        actor="olga",
        reason="8841",
    )
    erasure.agree(asked.pk, actor="rita")
    erasure.drive()

    row.refresh_from_db()
    assert row.erased_at is not None
    assert "Ana" not in row.customer_name


def test_a_mixed_order_ships_what_ships_and_is_invoiced_whole(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    placed = ana.order(of("EBOOK-TEA", "MUG-BLUE", "POSTER-MAP")).json()
    assert placed["shipment"]["status"] == "pending"
    broker.deliver_all()

    on_its_way = ana.get(f"/orders/{placed['id']}").json()
    assert on_its_way["shipment"]["status"] == "in_transit"
    assert shipping.Shipment.objects.get().parcels == 2
    (invoice,) = sandbox.books()["invoices"]
    assert invoice["total"] == placed["total"]["amount"]

    deliver(ana, placed)
    broker.deliver_all()
    assert ana.get(f"/orders/{placed['id']}").json()["status"] == "fulfilled"
    assert [finding for finding in audit.run().discrepancies if finding.room != "shipping"] == []


def test_a_digital_order_that_fails_is_undone_without_a_recall(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    body = of("EBOOK-TEA")
    body["customer"]["tax_id"] = "00000000191"
    placed = ana.order(body).json()
    broker.deliver_all()

    told = ana.get(f"/orders/{placed['id']}").json()
    assert (told["status"], told["shipment"]) == ("cancelled", None)
    assert audit.run().discrepancies == []


def test_what_an_order_has_is_decided_when_it_is_placed(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    from inventory.models import Product

    placed = ana.order(of("EBOOK-TEA")).json()
    Product.objects.filter(sku="EBOOK-TEA").update(ships=True)
    broker.deliver_all()

    assert ana.get(f"/orders/{placed['id']}").json()["status"] == "fulfilled"
    assert saga_models.SagaInstance.objects.get().facts["ships"] is False


def test_the_audit_finds_a_shipment_of_an_order_that_has_none(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    placed = ana.order(of("EBOOK-TEA")).json()
    broker.deliver_all()
    shipping.Shipment.objects.create(key=f"{placed['saga']['id']}.deliver-order", status="delivered")

    findings = [str(finding) for finding in audit.run().discrepancies]
    assert any("Nothing of the order ships, and this is delivered." in finding for finding in findings)
