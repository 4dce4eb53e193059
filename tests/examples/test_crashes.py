"""Each example, with a process that dies at a commit, each in turn: it ends as if nothing was."""

import contextlib

import pytest
from django.db import DatabaseError

from examples import create_order, marketplace, money_transfer, onboarding, trip_booking
from sagas import engine, errors, models
from sagas.engine import transport
from sagas.testing import clocks, crashes, memory_transport
from tests.examples.conftest import clear, told
from tests.sagas import harness


def begin_trip():
    trip_booking.book_trip(number="1", hotel="Aurora 17", flight="LA3054 12A", car="Uno 4")


def begin_order():
    create_order.create_order(customer="Alice", total={"amount": 95_00, "currency": "BRL"})


def begin_transfer():
    money_transfer.transfer(number="1", source="a", target="b", money={"amount": 5, "currency": "BRL"})


def begin_onboarding():
    onboarding.onboard(number="E-1", login="ada", engineer=True)


def begin_marketplace():
    price = {"amount": 80_00, "currency": "BRL"}
    parcels = [
        {"seller": "lumen", "article": "lamp", "grams": 900, "price": price},
        {"seller": "tasto", "article": "piano", "grams": 240_000, "price": price},
    ]
    marketplace.place_order(number="1", card="card-of-alice", address="1 Elm Street", parcels=parcels)


def agree(saga):
    """What a person says who is asked."""
    for step in saga.steps.filter(state="waiting"):
        facts = dict.fromkeys(saga.definition.step(step.name).outputs, "B-17")
        engine.approve(saga.pk, step.name, actor="carol", facts=facts)


def refuse(saga):
    for step in saga.steps.filter(state="waiting"):
        engine.refuse(saga.pk, step.name, actor="carol", reason="no")


def booked():
    return sorted(trip_booking.Booking.objects.filter(cancelled=False).values_list("what", flat=True))


def credit():
    return sum(create_order.Credit.objects.filter(released=False).values_list("amount", flat=True))


def balances():
    rows = money_transfer.Account.objects.order_by("number")
    return [account.balance_amount for account in rows]


def open_at():
    return sorted(onboarding.Access.objects.filter(closed=False).values_list("system", flat=True))


def records():
    return sorted(marketplace.Record.objects.filter(taken_back=False).values_list("amount", flat=True))


EVERYWHERE = ["chat", "doors", "mail", "payroll", "repository"]

SCENARIOS = {
    "a trip is booked": (begin_trip, {}, agree, "completed", booked, ["Aurora 17", "LA3054 12A", "Uno 4"]),
    "the car is taken": (begin_trip, {"what": "Uno 4"}, agree, "compensated", booked, ["Uno 4"]),
    "an order is approved": (begin_order, {}, agree, "completed", credit, 95_00),
    "an order is refused": (begin_order, {}, refuse, "compensated", credit, 0),
    "a parcel is sent": (begin_marketplace, {}, agree, "completed", records, [0, 80_00, 80_00, 160_00]),
    "no parcel can be sent": (
        begin_marketplace, {"article": "lamp of lumen"}, agree, "compensated", records, [1],
    ),
    "money arrives": (begin_transfer, {}, agree, "completed", balances, [0, 5]),
    "money goes back": (begin_transfer, {"closed": True}, agree, "compensated", balances, [5, 0]),
    "an employee comes": (begin_onboarding, {}, agree, "completed", open_at, EVERYWHERE),
    "the repository refuses": (
        begin_onboarding, {"system": "repository"}, agree, "compensated", open_at, ["repository"],
    ),
}  # fmt: skip
"""How it begins, what is different in its world, what people say, its end, and what is then on the books."""


def furnish(different):
    """The world before it begins."""
    create_order.Customer.objects.create(name="Alice", limit_amount=100_00, currency="BRL")
    money_transfer.Account.objects.create(number="a", currency="BRL", balance_amount=5)
    money_transfer.Account.objects.create(number="b", currency="BRL", closed="closed" in different)
    if "what" in different:
        trip_booking.Booking.objects.create(key="of another", **different)
    if "article" in different:
        marketplace.Record.objects.create(key="of another", what=different["article"], amount=1)
    if "system" in different:
        onboarding.Access.objects.create(key="of another", login="ada", **different)


@pytest.mark.parametrize(
    "redeliver",
    [pytest.param(False, marks=pytest.mark.thorough), True],
    ids=["before it", "after it, and its message comes again"],
)
@harness.every_commit_in_full
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_process_that_dies_at_any_commit_costs_nothing_but_time(
    transactional_db, scenario, redeliver, every
):
    commits = harness.commits(f"{scenario}, {redeliver}", every)
    commit = next(n for n in commits if not run(*SCENARIOS[scenario], commit=n, redeliver=redeliver))
    assert commit > 3, "there are more commits than that: it was never tried"


def run(begin, different, say, ends, books, right, *, commit, redeliver):
    """One run that dies at that commit; whether it came that far."""
    try:
        return played(begin, different, say, ends, books, right, commit=commit, redeliver=redeliver)
    finally:
        clear()


def played(begin, different, say, ends, books, right, *, commit, redeliver):
    furnish(different)
    messages = memory_transport.MemoryTransport(redeliver=redeliver)
    with transport.use(messages), crashes.crash_at(commit, before=not redeliver) as plan:
        with survived():
            begin()
        saga = models.SagaInstance.objects.first()
        if saga is None:
            assert not redeliver, "its commit went well, and it is not there"
            return plan.met
        for _ in range(300):
            saga.refresh_from_db()
            if saga.is_final and not messages.waiting:
                break
            with survived():
                if not messages.waiting and memory_transport.rests(saga):
                    say(saga)
                elif not messages.deliver():
                    clocks.skip()
                    engine.sweep()
        where = f"it died at commit {commit}: {told(saga)}"
        assert saga.state == ends, where
        assert books() == right, where
        assert messages.bugs == [], where
        return plan.met


@contextlib.contextmanager
def survived():
    """The process is started anew, or goes on with the next message."""
    with contextlib.suppress(crashes.Crash, DatabaseError, errors.NotAllowed):
        yield
