"""Money leaves one account and arrives in another; where it cannot arrive, it goes back.

After "Run your first Temporal application", the money transfer of Temporal's project templates. Every step is
local: each runs in the transaction that records it, so each is done exactly once.
"""

from typing import Any

from django.db import models, transaction

from sagas import HOUR, Retry, Saga, Step, engine
from sagas.models import SagaInstance


class Refused(Exception):
    """The account does not take part in it. Asking again will not change that."""


def transfer(*, number: str, source: str, target: str, money: dict[str, Any]) -> SagaInstance:
    """Begin to transfer money.

    Arguments:
        number: the transfer's own number: one at a time has it.
        source: the account that it leaves.
        target: the account that it is for.
        money: `amount` in minor units, such as cents, and `currency`.

    Raises:
        ValueError: that is no amount.
    """
    if not isinstance(money["amount"], int) or money["amount"] < 1:
        raise ValueError(f"{money['amount']!r} cannot be transferred.")
    with transaction.atomic():
        inputs = {"source": source, "target": target, "money": money}
        return engine.begin(MONEY_TRANSFER, key=number, inputs=inputs)


def withdraw(*, key: str, source: str, money: dict[str, Any]) -> None:
    """Take the money out of its account.

    Raises:
        Refused: the account is closed, has another currency, or too little.
    """
    _book(key, source, money["currency"], -money["amount"])


def put_back(*, key: str) -> None:
    """Return what was taken, also to an account that was closed meanwhile; content to find nothing."""
    for entry in Entry.objects.filter(key=key).select_related("account"):
        _book(f"{key}.back", entry.account_id, entry.account.currency, -entry.amount, even_closed=True)


def deposit(*, key: str, target: str, money: dict[str, Any]) -> None:
    """Put the money into the account that it is for.

    Raises:
        Refused: the account is closed, or has another currency.
    """
    _book(key, target, money["currency"], money["amount"])


MONEY_TRANSFER = Saga(
    name="money-transfer",
    inputs=["source", "target", "money"],
    personal=["source", "target"],
    steps=[
        Step("withdraw", withdraw, undo=put_back, inputs=["source", "money"]),
        Step("deposit", deposit, kind="pivot", inputs=["target", "money"]),
    ],
    retry=Retry(on=[]),
    refused=[Refused],
    deadline=HOUR,
)


class Account(models.Model):
    """An account, in one currency."""

    number = models.CharField(primary_key=True, max_length=34)
    currency = models.CharField(max_length=3)
    balance_amount = models.BigIntegerField(default=0)
    closed = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(balance_amount__gte=0), name="examples_account_not_overdrawn"
            ),
        ]


class Entry(models.Model):
    """What was booked on an account: each key once, whatever calls it twice."""

    key = models.CharField(primary_key=True, max_length=105)
    account = models.ForeignKey(Account, models.PROTECT, related_name="entries")
    amount = models.BigIntegerField()


def _book(key: str, account: str, currency: str, amount: int, *, even_closed: bool = False) -> None:
    """Change a balance and say so, both or neither. One statement looks and books: nobody comes between."""
    takes_part = models.Q(number=account, currency=currency, balance_amount__gte=-amount)
    if not even_closed:
        takes_part &= models.Q(closed=False)
    new_balance = models.F("balance_amount") + amount
    if not Account.objects.filter(takes_part).update(balance_amount=new_balance):
        raise Refused(f"There is no open account in {currency} that has so much.")
    Entry.objects.create(key=key, account_id=account, amount=amount)
