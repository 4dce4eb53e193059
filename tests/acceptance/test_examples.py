"""Each example on a real worker over a real broker: once it goes well, once it turns back."""

import pytest
from django.db import connection

from examples import create_order, marketplace, money_transfer, onboarding, trip_booking
from sagas import engine
from sagas.models import SagaInstance
from tests.acceptance import processes
from tests.examples.conftest import clear, told
from tests.support import waiting


@pytest.fixture(scope="module")
def worker(django_db_setup, django_db_blocker, tmp_path_factory):
    place = tmp_path_factory.mktemp("worker")
    with django_db_blocker.unblock():
        with processes.worker(place, queues=processes.examples()):
            yield
        clear()


@pytest.fixture(autouse=True)
def transactional_db(worker, django_db_blocker):
    """The rows are cleared when the worker is gone, and not under its feet."""
    with django_db_blocker.unblock():
        yield
        connection.close()


def ends(saga):
    """The state in which the saga ends."""
    return comes_to(saga, lambda: saga.is_final and saga.state)


def answers(saga, step, answer=engine.approve, **what):
    """A person answers once the saga asks for it."""
    comes_to(saga, lambda: saga.steps.filter(name=step, state="waiting").exists())
    answer(saga.pk, step, actor="carol", **what)


def comes_to(saga, what):
    def look():
        saga.refresh_from_db()
        return what()

    try:
        return waiting.until(look, "the saga")
    except AssertionError as error:
        raise AssertionError(f"{saga}: {told(saga)}") from error


def test_a_trip_is_booked_and_one_that_wants_the_same_car_is_not():
    trip = trip_booking.book_trip(number="1", hotel="Aurora 17", flight="LA3054 12A", car="Uno 4")
    assert ends(trip) == "completed"

    other = trip_booking.book_trip(number="2", hotel="Aurora 18", flight="LA3054 12B", car="Uno 4")
    assert ends(other) == "compensated"

    booked = trip_booking.Booking.objects.filter(cancelled=False)
    assert {booking.key.partition(".")[0] for booking in booked} == {str(trip.pk)}
    assert booked.count() == 3


def test_an_order_is_approved_by_a_person_and_the_next_has_no_credit_left():
    create_order.Customer.objects.create(name="Alice", limit_amount=100_00, currency="BRL")

    order, its = place(95_00)
    answers(its, "review-order", reason="pays in time")
    assert ends(its) == "completed"
    order.refresh_from_db()
    assert order.status == "approved"

    order, its = place(10_00)
    assert ends(its) == "compensated"
    order.refresh_from_db()
    assert (order.status, order.reason) == ("rejected", "The credit limit is exceeded.")


def place(amount):
    order = create_order.create_order(customer="Alice", total={"amount": amount, "currency": "BRL"})
    return order, SagaInstance.objects.get(name="create-order", key=str(order.pk))


def test_an_order_that_a_person_refuses_gives_its_credit_back():
    create_order.Customer.objects.create(name="Bob", limit_amount=100_00, currency="BRL")
    order = create_order.create_order(customer="Bob", total={"amount": 95_00, "currency": "BRL"})
    its = SagaInstance.objects.get(name="create-order", key=str(order.pk))

    answers(its, "review-order", engine.refuse, reason="pays late")

    assert ends(its) == "compensated"
    assert not create_order.Credit.objects.filter(customer="Bob", released=False).exists()


@pytest.mark.parametrize(
    ("number", "articles", "end", "sent"),
    [
        ("all", {"lamp": 900, "shade": 300}, "completed", ["lamp", "shade"]),
        ("some", {"clock": 900, "piano": 240_000, "bulb": 30}, "completed", ["clock", "bulb"]),
        ("none", {"organ": 900_000, "harp": 36_000}, "compensated", []),
    ],
)
def test_of_a_marketplace_order_what_can_be_sent_is_sent_and_charged(number, articles, end, sent):
    price = {"amount": 80_00, "currency": "BRL"}
    parcels = [
        {"seller": "lumen", "article": article, "grams": grams, "price": price}
        for article, grams in articles.items()
    ]
    order = marketplace.place_order(
        number=number, card="card-of-alice", address="1 Elm Street", parcels=parcels
    )
    assert ends(order) == end

    rows = SagaInstance.objects.filter(parent_id=order.pk).order_by("parent_item")
    assert [row.facts["article"] for row in rows if row.state == "completed"] == sent
    assert {row.state for row in rows} <= {"completed", "compensated"}
    charge = marketplace.Record.objects.filter(key=f"{order.pk}.capture", taken_back=False).first()
    assert (charge.amount if charge else 0) == 80_00 * len(sent)
    kept = marketplace.Record.objects.filter(what__in=[f"{article} of lumen" for article in articles])
    assert sorted(record.what.split()[0] for record in kept.filter(taken_back=False)) == sorted(sent)


def test_money_arrives_and_where_it_cannot_it_goes_back():
    for number, amount, closed in [("alice", 100_00, False), ("bob", 0, False), ("closed", 0, True)]:
        money_transfer.Account.objects.create(
            number=number, currency="BRL", balance_amount=amount, closed=closed
        )
    money = {"amount": 30_00, "currency": "BRL"}

    went = money_transfer.transfer(number="1", source="alice", target="bob", money=money)
    came_back = money_transfer.transfer(number="2", source="alice", target="closed", money=money)

    assert (ends(went), ends(came_back)) == ("completed", "compensated")
    rows = money_transfer.Account.objects.values_list("number", "balance_amount")
    assert dict(rows) == {"alice": 70_00, "bob": 30_00, "closed": 0}


def test_an_employee_comes():
    saga = onboarding.onboard(number="E-1", login="ada", engineer=True)

    answers(saga, "approve-hire")
    answers(saga, "confirm-arrival", facts={"badge": "B-17"})

    assert ends(saga) == "completed"
    accounts = onboarding.Access.objects.filter(key__startswith=f"{saga.pk}.", closed=False)
    assert set(accounts.values_list("system", flat=True)) == {
        "mail", "payroll", "chat", "repository", "doors",
    }  # fmt: skip


def test_an_employee_whose_name_is_taken_in_one_system_has_no_account_in_any():
    onboarding.open_account(key="of another", login="bea", system="chat")
    saga = onboarding.onboard(number="E-2", login="bea", engineer=True)

    answers(saga, "approve-hire")

    assert ends(saga) == "compensated"
    assert not onboarding.Access.objects.filter(key__startswith=f"{saga.pk}.", closed=False).exists()
