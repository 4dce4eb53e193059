"""Money is in one account or in the other; none is made, and none is lost."""

import pytest
from django.db.models import Sum

from examples import money_transfer as bank
from sagas import testing
from sagas.models import SagaInstance


@pytest.fixture
def accounts(transactional_db):
    open_account("alice", 100_00)
    open_account("bob", 50_00)
    open_account("closed", 0, closed=True)
    open_account("dollars", 0, currency="USD")


@pytest.fixture
def world(world, accounts):
    return world


def open_account(number, amount, *, currency="BRL", closed=False):
    account = bank.Account.objects.create(
        number=number, currency=currency, balance_amount=amount, closed=closed
    )
    bank.Entry.objects.create(key=f"opening {number}", account=account, amount=amount)


def send(amount, *, source="alice", target="bob", currency="BRL", number="1"):
    money = {"amount": amount, "currency": currency}
    return bank.transfer(number=number, source=source, target=target, money=money)


def balances():
    """What each account has, once it is proven that it is the sum of its entries."""
    found = bank.Account.objects.annotate(sum=Sum("entries__amount"))
    assert [account.number for account in found if account.balance_amount != account.sum] == []
    return {account.number: account.balance_amount for account in found}


@pytest.mark.parametrize(
    "script",
    [
        "do withdraw, do deposit, completed",
        "fail withdraw, compensated",
        "do withdraw, fail deposit, undo withdraw, compensated",
        # A local step's outcome is never unknown: a bug in it took its changes with it.
        "do withdraw, break deposit, undo withdraw, compensated",
    ],
)
def test_as_declared(script):
    assert testing.rehearse(bank.MONEY_TRANSFER, script) == testing.lines(script)


def test_money_is_transferred(world):
    saga = world.play(send(30_00))

    assert saga.state == "completed"
    assert balances() == {"alice": 70_00, "bob": 80_00, "closed": 0, "dollars": 0}


@pytest.mark.parametrize("target", ["closed", "dollars", "nobody"])
def test_what_cannot_arrive_goes_back(world, target):
    saga = world.play(send(30_00, target=target))

    assert saga.state == "compensated"
    assert saga.failure["step"] == "deposit"
    assert balances() == {"alice": 100_00, "bob": 50_00, "closed": 0, "dollars": 0}


@pytest.mark.parametrize(
    "how", [{"amount": 100_01}, {"amount": 1, "source": "closed"}, {"amount": 1, "currency": "USD"}]
)
def test_what_cannot_leave_moves_nothing(world, how):
    saga = world.play(send(**how))

    assert saga.state == "compensated"
    assert saga.failure["step"] == "withdraw"
    assert balances() == {"alice": 100_00, "bob": 50_00, "closed": 0, "dollars": 0}


def test_money_goes_back_to_an_account_that_was_closed_meanwhile(accounts):
    bank.withdraw(key="1.withdraw", source="alice", money={"amount": 30_00, "currency": "BRL"})
    bank.Account.objects.filter(number="alice").update(closed=True)

    bank.put_back(key="1.withdraw")

    assert balances()["alice"] == 100_00


def test_an_undo_is_content_to_find_nothing(accounts):
    bank.put_back(key="1.withdraw")

    assert balances()["alice"] == 100_00


def test_of_transfers_that_want_more_than_there_is_as_many_go_through_as_can(world):
    sagas = [send(40_00, number=str(number)) for number in range(4)]

    ends = [world.play(saga).state for saga in sagas]

    assert sorted(ends) == ["compensated", "compensated", "completed", "completed"]
    assert balances()["alice"] == 20_00


@pytest.mark.parametrize("amount", [0, -5, 1.5, "5"])
def test_what_is_no_amount_is_not_even_begun(transactional_db, amount):
    with pytest.raises(ValueError, match="cannot be transferred"):
        send(amount)
    assert not SagaInstance.objects.exists()
