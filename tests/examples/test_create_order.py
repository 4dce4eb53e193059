"""An order takes credit, a person may have to agree, and the order says how it ended."""

import datetime

import pytest

from examples import create_order as orders
from sagas import engine, errors, testing
from sagas.models import SagaInstance
from sagas.testing import clocks
from tests.examples.conftest import states


@pytest.fixture
def alice(transactional_db):
    return orders.Customer.objects.create(name="Alice", limit_amount=100_00, currency="BRL")


@pytest.fixture
def place(world, alice):
    """Places an order of Alice's, and plays it until it rests: the order and its saga."""

    def place(amount, *, currency="BRL", customer="Alice"):
        order = orders.create_order(customer=customer, total={"amount": amount, "currency": currency})
        saga = world.play(SagaInstance.objects.get(name="create-order", key=str(order.pk)))
        order.refresh_from_db()
        return order, saga

    return place


@pytest.mark.parametrize(
    ("script", "facts"),
    [
        ("do reserve-credit, completed", {}),
        ("fail reserve-credit, compensated", {}),
        ("do reserve-credit, approve review-order, completed", {"strained": True}),
        ("do reserve-credit, refuse review-order, undo reserve-credit, compensated", {"strained": True}),
        ("do reserve-credit, outwait review-order, undo reserve-credit, compensated", {"strained": True}),
        ("do reserve-credit, cancel, undo reserve-credit, compensated", {"strained": True}),
    ],
)
def test_as_declared(script, facts):
    assert testing.rehearse(orders.CREATE_ORDER, script, facts) == testing.lines(script)


def test_an_order_within_the_credit_is_approved(place):
    order, saga = place(40_00)

    assert order.status == "approved"
    assert states(saga) == {"reserve-credit": "done", "review-order": "skipped"}
    assert taken() == 40_00


def test_an_order_beyond_the_credit_is_rejected_and_says_why(place):
    place(60_00)
    order, saga = place(50_00)

    assert (order.status, saga.state) == ("rejected", "compensated")
    assert order.reason == "The credit limit is exceeded."
    assert taken() == 60_00


@pytest.mark.parametrize("who", [{"customer": "Bob"}, {"currency": "EUR"}])
def test_who_has_no_credit_is_rejected(place, who):
    order, _ = place(1, **who)

    assert order.status == "rejected"
    assert "There is no credit in" in order.reason


def test_what_strains_the_credit_is_approved_by_a_person(place, world):
    order, saga = place(95_00)
    assert (order.status, states(saga)["review-order"]) == ("pending", "waiting")

    engine.approve(saga.pk, "review-order", actor="carol", reason="pays in time")
    world.play(saga)

    order.refresh_from_db()
    assert order.status == "approved"
    assert taken() == 95_00
    with pytest.raises(errors.NotAllowed):
        engine.refuse(saga.pk, "review-order", actor="dave", reason="too late")


def test_what_a_person_refuses_gives_its_credit_back(place, world):
    order, saga = place(95_00)

    engine.refuse(saga.pk, "review-order", actor="carol", reason="pays late")
    world.play(saga)

    order.refresh_from_db()
    assert (order.status, order.reason) == ("rejected", "pays late")
    assert taken() == 0


def test_whom_nobody_answers_is_reminded_of_and_then_rejected(place, world):
    order, saga = place(95_00)

    clocks.pass_time(datetime.timedelta(hours=4), saga.pk)
    engine.sweep()
    assert saga.events.filter(kind="step.reminded").count() == 1
    order.refresh_from_db()
    assert order.status == "pending"

    clocks.pass_time(datetime.timedelta(days=2), saga.pk)
    engine.sweep()
    world.play(saga)

    order.refresh_from_db()
    assert order.status == "rejected"
    assert taken() == 0


def taken():
    return sum(orders.Credit.objects.filter(released=False).values_list("amount", flat=True))
