"""Invoices can be looked at, not touched, and quickly however many there are."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from invoicing import models
from tests.invoicing import examples


@pytest.fixture
def invoice(db, sandbox):
    examples.issue("a.key")
    return models.Invoice.objects.get()


def test_it_is_shown_whole(admin_client, invoice):
    page = admin_client.get(f"/admin/invoicing/invoice/{invoice.pk}/change/")

    assert page.status_code == 200
    assert b"Authorised at:" in page.content
    # The one spelling of all labels: of the other are only names that are data.
    assert not re.search(r">[^<]*\bauthoriz", page.content.decode(), re.IGNORECASE)
    assert b'name="_save"' not in page.content


def test_nobody_adds_changes_or_deletes(admin_client, invoice):
    assert admin_client.get("/admin/invoicing/invoice/add/").status_code == 403
    assert admin_client.post(f"/admin/invoicing/invoice/{invoice.pk}/change/", {}).status_code == 403
    assert admin_client.get(f"/admin/invoicing/invoice/{invoice.pk}/delete/").status_code == 403


def test_the_list_asks_no_more_for_twenty_than_for_one(admin_client, invoice):
    with CaptureQueriesContext(connection) as for_one:
        admin_client.get("/admin/invoicing/invoice/")
    for n in range(20):
        examples.issue(f"{n}.key")
    with CaptureQueriesContext(connection) as for_twenty:
        page = admin_client.get("/admin/invoicing/invoice/")

    assert page.status_code == 200
    assert len(for_twenty) == len(for_one)


def test_whom_it_is_made_out_to_is_not_on_the_screen(admin_client, invoice):
    for path in ("", f"{invoice.pk}/change/"):
        page = admin_client.get(f"/admin/invoicing/invoice/{path}")

        assert invoice.tax_id.encode() not in page.content


def test_the_laws_windows_may_be_changed(admin_client, db):
    answer = admin_client.post(
        "/admin/invoicing/cancellationwindow/add/", {"state": "RS", "length": "7 00:00:00"}
    )

    assert answer.status_code == 302
    assert models.CancellationWindow.objects.get(pk="RS").length.days == 7
