"""What the services' functions cost at most, and placing an order: transactions and statements."""

import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from inventory import services as inventory
from invoicing import services as invoicing
from payments import services as payments
from sagas.testing import memory_transport
from shipping import services as shipping
from tests.inventory import examples as stock
from tests.invoicing import examples as invoices
from tests.orders.conftest import Api, deliver
from tests.payments import examples as charges
from tests.sandbox.running import Sandbox
from tests.shipping import examples as parcels

pytestmark = pytest.mark.django_db

KEY = "a.step"

CALLS: dict[str, Callable[[], Any]] = {
    "charge": functools.partial(charges.charge, KEY),
    "charge PIX": functools.partial(charges.charge, KEY, charges.PIX),
    "be declined": functools.partial(charges.charge, KEY, charges.card("tok_declined")),
    "ask the bank": functools.partial(payments.ask, key=KEY),
    "refund": functools.partial(payments.refund, key=KEY),
    "issue": functools.partial(invoices.issue, KEY),
    "ask the authority": functools.partial(invoicing.ask, key=KEY),
    "cancel": functools.partial(invoicing.cancel, key=KEY),
    "dispatch": functools.partial(parcels.dispatch, KEY),
    "ask the carrier": functools.partial(shipping.ask, key=KEY),
    "recall": functools.partial(shipping.recall, key=KEY),
    "reserve": functools.partial(stock.reserve, KEY, lamp=1, map=2, mug=3),
    "release": functools.partial(inventory.release, key=KEY),
    "ship": functools.partial(inventory.ship, key=KEY),
}

REMOTE = [
    # The intent; what came of it.
    ("charge", 2, 2),
    ("charge PIX", 2, 2),
    ("be declined", 2, 2),
    ("dispatch", 2, 2),
    # A number and the document that has it are one transaction.
    ("issue", 2, 3),
    # Found to be done.
    ("charge, charge", 2, 2),
    ("issue, issue", 2, 2),
    ("dispatch, dispatch", 2, 2),
    ("charge, ask the bank", 1, 2),
    ("issue, ask the authority", 1, 1),
    ("dispatch, ask the carrier", 1, 3),
    # The tombstone; the row's lock, the line in the ledger, the row.
    ("charge, refund", 2, 4),
    ("charge, refund, refund", 1, 1),
    ("dispatch, recall", 2, 4),
    # The tombstone; two answers of the authority; what the law says.
    ("issue, cancel", 6, 7),
]


@pytest.mark.parametrize(("words", "transactions", "statements"), REMOTE)
def test_the_last_of_these_calls_costs_no_more(
    sandbox: Sandbox, words: str, transactions: int, statements: int
) -> None:
    spent = cost_of_last(words)

    assert spent[0] <= transactions
    assert spent[1] <= statements


@pytest.mark.parametrize(
    ("words", "statements"), [("reserve", 2), ("reserve, release", 3), ("reserve, ship", 3)]
)
def test_three_lines_cost_a_local_function_no_more_than_one(words: str, statements: int) -> None:
    stock.stock(lamp=10, map=10, mug=10)

    assert cost_of_last(words)[1] <= statements


def test_placing_an_order_costs_no_more(ana: Api) -> None:
    ana.order(key="the first of a token")
    with CaptureQueriesContext(connection) as captured:
        assert ana.order(key="another").status_code == 202

    transactions, statements = cost(query["sql"] for query in captured.captured_queries)
    # Whose token it is; whether they ask too often; the rest: the key, the products, the saga, the order, its
    # lines, the two reads of the answer, and the answer with its key. Whether the customer is flagged.
    assert transactions <= 3
    assert statements <= 11


@pytest.mark.django_db(transaction=True)
def test_a_callback_that_ends_an_order_costs_no_more(
    broker: memory_transport.MemoryTransport, sandbox: Sandbox, ana: Api
) -> None:
    shown = ana.order().json()
    broker.deliver_all()
    with CaptureQueriesContext(connection) as captured:
        deliver(ana, shown)
        statements = [query["sql"] for query in captured.captured_queries]

    assert ana.get(f"/orders/{shown['id']}").json()["status"] == "fulfilled"
    # The test asks for the tracking code. Of the savepoints one is for a bug in the hook of the order.
    assert 0 < len(statements) <= 21, "\n".join(one[:150] for one in statements)


def cost_of_last(words: str) -> tuple[int, int]:
    """What the last of these calls costs, after the others."""
    *before, last = (CALLS[word] for word in words.split(", "))
    for call in before:
        call()
    with CaptureQueriesContext(connection) as captured, contextlib.suppress(payments.Refused):
        last()
    return cost(query["sql"] for query in captured.captured_queries)


def cost(captured: Iterable[str]) -> tuple[int, int]:
    """Transactions, and statements without those that begin and end one.

    The test runs in a transaction, so one of the code's own is a savepoint, and what is outside of these is
    one by itself. One that has no statement is none: nothing is sent for it.
    """
    transactions = statements = depth = 0
    begun = False
    for sql in captured:
        begins, ends = sql.startswith("SAVEPOINT"), sql.startswith("RELEASE")
        ends_or_fails = ends or sql.startswith("ROLLBACK TO")
        if not (begins and depth == 0) and not (ends_or_fails and depth == 1):
            statements += 1
            transactions += not begun
            begun = depth > 0
        depth += begins - ends
        begun = begun and depth > 0
    return transactions, statements
