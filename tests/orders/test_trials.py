"""The shop's own order, tried as any saga: whatever goes wrong, all is done once, or nothing is left."""

import pytest

from inventory import models as inventory
from orders.saga import ORDER_FULFILMENT
from sagas.engine import transport
from sagas.testing import trials
from tests.support import sample_orders, tried

SHOP = {}
"""The providers of this test, which is made before they are."""


@pytest.fixture(autouse=True)
def providers(sandbox):
    SHOP["sandbox"] = sandbox


def furnish():
    SHOP["sandbox"].post("/reset")
    SHOP["orders"] = sample_orders.SampleOrders(SHOP["sandbox"])


def place():
    SHOP["orders"].broker = transport.current()
    return SHOP["orders"].place()


def books():
    """What the providers have on their books, and what is in stock."""
    told = SHOP["sandbox"].books()
    return {
        "kept by the bank": sum(each["captured"] - each["refunded"] for each in told["charges"]),
        "invoices": sum(each["status"] == "authorized" for each in told["invoices"]),
        "parcels": sum(each["status"] not in ("recalled", "returned") for each in told["shipments"]),
        "stock": list(inventory.Product.objects.order_by("sku").values_list("sku", "available", "reserved")),
    }


ORDER = {"begin": place, "furnish": furnish, "world": books}


@trials.of(ORDER_FULFILMENT, **ORDER, **tried.SAGA)
def test_an_order(trial):
    trial.run()


@trials.verbs(ORDER_FULFILMENT, **ORDER, **tried.VERBS)
def test_what_an_orders_functions_promise(trial):
    trial.run()
