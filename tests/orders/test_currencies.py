"""An order, its lines, its payment, its refund and its invoice are in one currency."""

import pytest
from django.db import IntegrityError, connection, transaction

from inventory import services as inventory
from invoicing import models as invoicing
from orders import models
from payments import models as payments
from sagas import models as sagas
from sagas.testing import memory_transport
from tests.orders.conftest import Api, order
from tests.sandbox.running import Sandbox


@pytest.fixture
def stickers(catalogue: None) -> None:
    price = {"amount": 500, "currency": "USD"}
    inventory.introduce(sku="STICKERS", name="Stickers", price=price, quantity=1000)


def lines(*skus: str) -> list[dict[str, object]]:
    return [{"sku": sku, "quantity": 1} for sku in skus]


@pytest.mark.django_db
@pytest.mark.usefixtures("stickers")
def test_products_of_two_currencies_are_not_added_up(ana: Api) -> None:
    answer = ana.order(order(lines=lines("MUG-BLUE", "STICKERS", "POSTER-MAP")))

    assert answer.status_code == 422
    document = answer.json()
    assert document["type"] == "/api/problems/invalid-body"
    assert "one currency" in document["detail"]
    assert document["errors"] == [
        {
            "pointer": "/lines/1/sku",
            "detail": "This is priced in USD, the first line in BRL; an order is paid in one currency.",
            "code": "currency",
        }
    ]
    assert not models.Order.objects.exists()
    assert not sagas.SagaInstance.objects.exists()


@pytest.mark.django_db
def test_the_database_refuses_a_line_in_another_currency(ana: Api) -> None:
    ana.order()

    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    with pytest.raises(IntegrityError, match="orders_orderline_currency_of_its_order"), transaction.atomic():
        models.OrderLine.objects.filter(sku="MUG-BLUE").update(currency="USD")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("stickers")
def test_an_order_is_paid_invoiced_and_refunded_in_its_own_currency(
    ana: Api, sandbox: Sandbox, broker: memory_transport.MemoryTransport
) -> None:
    placed = ana.order(order(lines=lines("STICKERS"))).json()
    broker.deliver_all()
    ana.post(f"/orders/{placed['id']}/cancel", {"reason": "changed my mind"})
    broker.deliver_all()

    assert placed["total"] == {"amount": 500, "currency": "USD"}
    payment = payments.Payment.objects.get()
    assert (payment.currency, payment.held_in, payment.captured, payment.refunded) == ("USD", "USD", 500, 500)
    assert invoicing.Invoice.objects.get().currency == "USD"
    assert {charge["currency"] for charge in sandbox.books()["charges"]} == {"USD"}
