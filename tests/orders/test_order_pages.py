"""The pages of an order, its payment, invoice and shipment tell its story, and lead to each other."""

import pytest
from django.contrib.auth import models as auth
from django.db import connection, transaction
from django.test import utils
from django.urls import reverse

from invoicing.models import Invoice
from orders import around
from orders.models import Order
from payments.models import Payment
from sagas.console import roles
from shipping.models import Shipment
from tests.sagas.console import admin_client

pytestmark = pytest.mark.django_db


def pages(saga):
    """The page of each row that an order has come to, by what it is of."""
    rows = {
        "order": Order.objects.get(saga=saga),
        "payment": Payment.objects.get(key=f"{saga.pk}.take-payment"),
        "invoice": Invoice.objects.get(key=f"{saga.pk}.issue-invoice"),
        "shipment": Shipment.objects.get(key=f"{saga.pk}.deliver-order"),
    }
    return {
        name: reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
        for name, row in rows.items()
    }


def test_each_leads_to_the_others_and_tells_the_story(samples):
    saga = samples.completed()
    viewer, links = admin_client.viewer(), pages(saga)
    number = Order.objects.get(saga=saga).number

    for name, page in links.items():
        response = viewer.get(page)
        body, text = response.content.decode(), admin_client.text(response)

        assert number in text, name
        assert "Take the payment" in text, name
        assert "R$ 274.70 with us" in text, name
        assert "steps were done" in text, name
        assert admin_client.page(saga) in body, name
        for other, link in links.items():
            assert other == name or link in body, (name, other)


def test_a_customers_other_orders_are_named_the_newest_first(samples):
    first, second = samples.completed(), samples.compensated()
    order, other = Order.objects.get(saga=first), Order.objects.get(saga=second)
    Order.objects.filter(pk=other.pk).update(customer_tax_id=order.customer_tax_id)

    response = admin_client.viewer().get(pages(first)["payment"])

    assert reverse("admin:orders_order_change", args=[other.pk]) in response.content.decode()
    text = admin_client.text(response)
    assert "Other orders of this customer" in text
    assert "Compensated" in text


def test_they_are_found_by_the_customers_index_and_bounded(samples, monkeypatch):
    monkeypatch.setattr(around, "OTHERS_SHOWN", 1)
    sagas = [samples.place() for _ in range(3)]

    found = around.of(sagas[0].pk, customer=True)

    assert [one.order.saga_id for one in found.others] == [sagas[2].pk]
    assert found.more
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        with utils.CaptureQueriesContext(connection) as captured:
            around.of(sagas[0].pk, customer=True)
        (sql,) = [one["sql"] for one in captured if 'customer_tax_id" = ' in one["sql"]]
        cursor.execute(f"EXPLAIN {sql}")
        plan = " ".join(row[0] for row in cursor)
    assert "orders_order_customer_tax_id" in plan


def test_a_page_costs_the_same_however_much_the_customer_ordered(samples):
    saga = samples.completed()
    samples.place()
    viewer, page, counts = admin_client.viewer(), pages(saga)["order"], []
    for _ in range(2):
        viewer.get(page)
        with utils.CaptureQueriesContext(connection) as captured:
            viewer.get(page)
        counts.append(len(captured))
        for _more in range(4):
            samples.place()

    assert counts[0] == counts[1]


def test_who_may_not_see_sagas_sees_the_row_alone(samples):
    saga = samples.completed()
    page = pages(saga)["payment"]
    person = admin_client.client(roles.VIEWER, "penny")
    person.user.groups.clear()
    person.user.user_permissions.set([auth.Permission.objects.get(codename="view_payment")])

    text = admin_client.text(person.get(page))

    assert "R$ 274.70" in text
    assert "Its story" not in text
    assert "Other orders" not in text


def test_what_was_erased_names_no_other_orders(samples):
    saga = samples.completed()
    samples.completed()
    Order.objects.filter(saga=saga).update(erased_at="2026-01-01T00:00:00Z")

    assert around.of(saga.pk, customer=True).others == []


def test_a_row_of_no_order_has_its_plain_page():
    payment = Payment.objects.create(key="by-hand", amount=100, currency="BRL")

    response = admin_client.viewer().get(reverse("admin:payments_payment_change", args=[payment.pk]))

    assert response.status_code == 200
    assert "Its story" not in admin_client.text(response)
