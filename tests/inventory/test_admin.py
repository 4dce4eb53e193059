"""The stock can be looked at, not touched, and quickly however much there is."""

import pytest
from django import urls
from django.db import connection
from django.test.utils import CaptureQueriesContext

from inventory import models, services
from tests.inventory import examples


@pytest.fixture
def reservation(db):
    examples.stock(mug=10_000)
    examples.reserve("a.reserve-stock", mug=3)
    return models.Reservation.objects.get()


@pytest.mark.parametrize("model", ["product", "reservation", "movement"])
def test_every_list_opens(admin_client, reservation, model):
    assert admin_client.get(f"/admin/inventory/{model}/").status_code == 200
    assert admin_client.get(f"/admin/inventory/{model}/add/").status_code == 403


def test_a_reservation_shows_its_movements(admin_client, reservation):
    services.release(key=reservation.key)
    page = admin_client.get(urls.reverse("admin:inventory_reservation_change", args=[reservation.key]))

    assert page.status_code == 200
    assert page.content.count(b"mug") >= 2
    assert b'name="_save"' not in page.content


def test_a_reservation_of_many_products_asks_no_more_than_one_of_one(admin_client, reservation):
    examples.stock(**{f"p{number}": 5 for number in range(20)})
    examples.reserve("b.reserve-stock", **{f"p{number}": 1 for number in range(20)})
    counts = []
    for key in ("a.reserve-stock", "b.reserve-stock"):
        with CaptureQueriesContext(connection) as asked:
            admin_client.get(urls.reverse("admin:inventory_reservation_change", args=[key]))
        counts.append(len(asked))

    assert counts[0] == counts[1]


@pytest.mark.parametrize("model", ["reservation", "movement"])
def test_the_list_asks_no_more_for_fifty_than_for_one(admin_client, reservation, model):
    with CaptureQueriesContext(connection) as for_one:
        admin_client.get(f"/admin/inventory/{model}/")
    for n in range(50):
        examples.reserve(f"{n}.reserve-stock", mug=1)
    with CaptureQueriesContext(connection) as for_fifty:
        admin_client.get(f"/admin/inventory/{model}/")

    assert len(for_fifty) == len(for_one)
