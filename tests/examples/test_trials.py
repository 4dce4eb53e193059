"""The examples, tried as their users would: whatever goes wrong, all is done once, or nothing is left."""

from examples import create_order, marketplace, money_transfer, onboarding, trip_booking
from sagas.testing import trials
from tests.support import tried

TRIP = {
    "inputs": {"hotel": "Aurora 17", "flight": "LA3054 12A", "car": "Uno 4"},
    "world": [trip_booking.Booking.objects.filter(cancelled=False)],
}


@trials.of(trip_booking.TRIP_BOOKING, **TRIP, **tried.SAGA)
def test_a_trip(trial):
    trial.run()


@trials.verbs(trip_booking.TRIP_BOOKING, **TRIP, **tried.VERBS)
def test_what_a_trips_functions_promise(trial):
    trial.run()


def open_accounts():
    money_transfer.Account.objects.create(number="a", currency="BRL", balance_amount=5)
    money_transfer.Account.objects.create(number="b", currency="BRL")


TRANSFER = {
    "inputs": {"source": "a", "target": "b", "money": {"amount": 5, "currency": "BRL"}},
    "furnish": open_accounts,
    "world": [money_transfer.Account],
}


@trials.of(money_transfer.MONEY_TRANSFER, **TRANSFER, **tried.SAGA)
def test_a_transfer(trial):
    trial.run()


@trials.verbs(money_transfer.MONEY_TRANSFER, **TRANSFER, **tried.VERBS)
def test_what_a_transfers_functions_promise(trial):
    trial.run()


def alice():
    create_order.Customer.objects.create(name="Alice", limit_amount=100_00, currency="BRL")


def orders_stand_as_their_sagas(saga):
    status = create_order.Order.objects.get(pk=saga.key).status
    assert status == {"completed": "approved", "compensated": "rejected"}[saga.state]


ORDER = {
    "begin": lambda: create_order.create_order(customer="Alice", total={"amount": 95_00, "currency": "BRL"}),
    "furnish": alice,
    "world": [create_order.Credit.objects.filter(released=False)],
}


@trials.of(create_order.CREATE_ORDER, **ORDER, **tried.SAGA, check=orders_stand_as_their_sagas)
def test_an_order(trial):
    trial.run()


@trials.verbs(create_order.CREATE_ORDER, **ORDER, **tried.VERBS)
def test_what_an_orders_functions_promise(trial):
    trial.run()


EMPLOYEE = {
    "inputs": {"login": "ada", "engineer": True, "contractor": False},
    "world": [onboarding.Access.objects.filter(closed=False)],
    "told": {"confirm-arrival": {"badge": "B-17"}},
}


@trials.of(onboarding.ONBOARDING, **EMPLOYEE, **tried.SAGA)
def test_an_employee(trial):
    trial.run()


@trials.verbs(onboarding.ONBOARDING, **EMPLOYEE, **tried.VERBS)
def test_what_an_onboardings_functions_promise(trial):
    trial.run()


def place_order():
    price = {"amount": 80_00, "currency": "BRL"}
    parcels = [
        {"seller": "lumen", "article": "lamp", "grams": 900, "price": price},
        {"seller": "folio", "article": "book", "grams": 300, "price": price},
    ]
    marketplace.place_order(number="1", card="card-of-alice", address="1 Elm Street", parcels=parcels)


MARKET = {"begin": place_order, "world": [marketplace.Record.objects.filter(taken_back=False)]}


@trials.of(marketplace.MARKETPLACE_ORDER, **MARKET, **tried.SAGA)
def test_a_marketplace(trial):
    trial.run()


@trials.verbs(marketplace.MARKETPLACE_ORDER, **MARKET, **tried.VERBS)
def test_what_a_marketplaces_functions_promise(trial):
    trial.run()
