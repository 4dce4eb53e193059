"""Payments can be looked at, not touched, and quickly however many there are."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from payments import models
from tests.payments import examples


@pytest.fixture
def payment(db, sandbox):
    examples.charge("a.take-payment")
    return models.Payment.objects.get()


def test_a_payment_shows_its_ledger(admin_client, payment):
    page = admin_client.get(f"/admin/payments/payment/{payment.pk}/change/")

    assert page.status_code == 200
    assert b"capture" in page.content
    assert b'name="_save"' not in page.content


def test_money_is_written_as_people_write_it(admin_client, payment):
    assert "R$ 182.90" in text_of(admin_client.get("/admin/payments/payment/"))
    portuguese = admin_client.get(
        f"/admin/payments/payment/{payment.pk}/change/", headers={"accept-language": "pt-br"}
    )

    assert text_of(portuguese).count("R$ 182,90") >= 4, "asked for, captured, with us, and in the ledger"
    assert "R$ 0,00" in text_of(portuguese), "refunded"


def test_a_long_ledger_asks_no_more_than_a_short_one(admin_client, payment):
    page = f"/admin/payments/payment/{payment.pk}/change/"
    admin_client.get(page)
    with CaptureQueriesContext(connection) as for_short:
        admin_client.get(page)
    for number in range(20):
        models.Operation.objects.create(
            payment=payment, kind=models.Kind.CHARGE, amount=1, source=f"test {number}"
        )
    with CaptureQueriesContext(connection) as for_long:
        admin_client.get(page)

    assert len(for_long) == len(for_short)


def text_of(page):
    return page.content.decode()


def test_a_payment_is_found_by_its_key_and_by_the_banks_reference_through_an_index(admin_client, payment):
    for word, found in ((payment.key, 1), (payment.provider_ref, 1), (payment.key[:3], 0)):
        page = admin_client.get("/admin/payments/payment/", {"q": word})

        assert page.context["cl"].result_count == found, word
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        plan = page.context["cl"].queryset.explain()
    assert "Seq Scan" not in plan


def test_nobody_adds_changes_or_deletes(admin_client, payment):
    assert admin_client.get("/admin/payments/payment/add/").status_code == 403
    assert admin_client.post(f"/admin/payments/payment/{payment.pk}/change/", {}).status_code == 403
    assert admin_client.get(f"/admin/payments/payment/{payment.pk}/delete/").status_code == 403


def test_the_list_asks_no_more_for_fifty_than_for_one(admin_client, payment):
    with CaptureQueriesContext(connection) as for_one:
        admin_client.get("/admin/payments/payment/")
    models.Payment.objects.bulk_create(models.Payment(key=f"{n}", method="card") for n in range(50))
    with CaptureQueriesContext(connection) as for_fifty:
        page = admin_client.get("/admin/payments/payment/")

    assert page.status_code == 200
    assert len(for_fifty) == len(for_one)
