"""Shipments can be looked at, not touched, and quickly however many there are."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from shipping import models
from tests.shipping import examples


@pytest.fixture
def shipment(db, sandbox):
    examples.dispatch("a.key")
    return models.Shipment.objects.get()


def test_it_is_shown_whole(admin_client, shipment):
    page = admin_client.get(f"/admin/shipping/shipment/{shipment.pk}/change/")

    assert page.status_code == 200
    assert b"booked" in page.content.lower()
    assert b'name="_save"' not in page.content


def test_nobody_adds_changes_or_deletes(admin_client, shipment):
    assert admin_client.get("/admin/shipping/shipment/add/").status_code == 403
    assert admin_client.post(f"/admin/shipping/shipment/{shipment.pk}/change/", {}).status_code == 403
    assert admin_client.get(f"/admin/shipping/shipment/{shipment.pk}/delete/").status_code == 403


def test_the_list_asks_no_more_for_twenty_than_for_one(admin_client, shipment):
    with CaptureQueriesContext(connection) as for_one:
        admin_client.get("/admin/shipping/shipment/")
    for n in range(20):
        examples.dispatch(f"{n}.key")
    with CaptureQueriesContext(connection) as for_twenty:
        page = admin_client.get("/admin/shipping/shipment/")

    assert page.status_code == 200
    assert len(for_twenty) == len(for_one)
