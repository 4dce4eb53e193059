"""An order at a marketplace: a parcel from each seller. What can be sent is sent, and only that is charged.

After the order whose parcels explain the "Map" state in the Amazon States Language; the payment and the ways
back are added.
"""

from typing import Any

from django.db import IntegrityError, models, transaction

from sagas import ForEach, Retry, Saga, Step, engine
from sagas.models import SagaInstance


class Refused(Exception):
    """The bank, a seller or the carrier says no. Asking again will not change that."""


def place_order(*, number: str, card: str, address: str, parcels: list[dict[str, Any]]) -> SagaInstance:
    """Begin an order.

    Arguments:
        number: the order's number.
        card: the token of the buyer's card.
        address: where the parcels go.
        parcels: of each its `seller`, `article`, `grams` and `price`: `amount` in minor units, `currency`.

    Raises:
        ValueError: there is no parcel, or the prices are in several currencies.
    """
    inputs = {"card": card, "address": address, "parcels": parcels, "total": _sum(parcels)}
    with transaction.atomic():
        return engine.begin(MARKETPLACE_ORDER, key=number, inputs=inputs)


def authorize(*, key: str, card: str, total: dict[str, Any]) -> dict[str, str]:
    """Have the bank hold the total. Nobody is charged yet."""
    if card == "card-without-money":
        raise Refused("The card is declined.")
    _record(key, f"hold {key}", **total)
    return {"payment": key}


def reserve(*, key: str, seller: str, article: str, price: dict[str, Any]) -> None:
    """Have the seller put the article aside, of which there is one, for that price."""
    _record(key, f"{article} of {seller}", **price)


def hand_over(*, key: str, address: str, grams: int) -> dict[str, str]:
    """Have the carrier fetch the parcel from the seller."""
    if grams > 30_000:
        raise Refused("The carrier takes no more than 30 kg.")
    _record(key, f"{key} to {address}")
    return {"tracking": key}


def capture(*, key: str, payment: str, shipped: list[Any]) -> dict[str, Any]:
    """Charge the buyer for what was sent; the bank lets go of the rest."""
    charged = _sum([each["element"] for each in shipped if each["done"]])
    _record(key, f"charge {payment}", **charged)
    return {"charged": charged}


def take_back(*, key: str) -> None:
    """Void, release, recall. Where there is nothing, the row refuses an action that comes too late."""
    Record.objects.update_or_create(key=key, defaults={"taken_back": True})


def find_charge(*, key: str) -> dict[str, Any] | None:
    """What was charged, if anything was: for a reply that was lost."""
    found = Record.objects.filter(key=key, taken_back=False).first()
    return {"charged": {"amount": found.amount, "currency": found.currency}} if found else None


PARCEL = Saga(
    name="marketplace-parcel",
    inputs=["address", "seller", "article", "grams", "price"],
    personal=["address"],
    steps=[
        Step("reserve", reserve, undo=take_back, inputs=["seller", "article", "price"],
             remote=True, queue="sellers"),
        Step("hand-over", hand_over, undo=take_back, inputs=["address", "grams"],
             outputs=["tracking"], reference="tracking", remote=True, queue="carriers"),
    ],
    retry=Retry(on=[ConnectionRefusedError]),
    refused=[Refused],
    unknown=[TimeoutError, ConnectionResetError],
)  # fmt: skip

MARKETPLACE_ORDER = Saga(
    name="marketplace-order",
    inputs=["card", "address", "parcels", "total"],
    personal=["address"],
    steps=[
        Step("authorize", authorize, undo=take_back, inputs=["card", "total"], secrets=["card"],
             outputs=["payment"], remote=True, queue="banks"),
        ForEach("send-parcels", of="parcels", saga=PARCEL, inputs=["address"],
                outputs=["shipped"], limit=10, need=1, rest="finish"),
        Step("capture", capture, ask=find_charge, kind="pivot", inputs=["payment", "shipped"],
             outputs=["charged"], remote=True, queue="banks"),
    ],
    retry=Retry(on=[ConnectionRefusedError]),
    refused=[Refused],
    unknown=[TimeoutError, ConnectionResetError],
)  # fmt: skip


class Record(models.Model):
    """The world: the books of the bank, the sellers and the carrier. In life each has its own."""

    key = models.CharField(primary_key=True, max_length=100)
    what = models.CharField(max_length=150)
    amount = models.BigIntegerField(default=0)
    currency = models.CharField(max_length=3)
    taken_back = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["what"], condition=models.Q(taken_back=False), name="examples_record_once"
            ),
        ]


def _sum(parcels: list[dict[str, Any]]) -> dict[str, Any]:
    currencies = {parcel["price"]["currency"] for parcel in parcels}
    if len(currencies) != 1:
        raise ValueError(f"An order has one currency, and not {sorted(currencies)}.")
    return {"amount": sum(parcel["price"]["amount"] for parcel in parcels), "currency": currencies.pop()}


def _record(key: str, what: str, **money: Any) -> None:
    """Write it down, once for each key.

    Raises:
        Refused: another has it, or it was taken back before it was done.
    """
    try:
        record, _ = Record.objects.get_or_create(key=key, defaults={"what": what, **money})
    except IntegrityError:
        raise Refused(f"There is no {what} any more.") from None
    if record.taken_back:
        raise Refused(f"{what} was taken back before it was done.")
