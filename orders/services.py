"""What may be asked of orders: place, cancel, and look at them. No HTTP here, and no Celery."""

import dataclasses
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import models as auth
from django.db import IntegrityError, transaction

from inventory import services as inventory
from orders import errors, models, saga
from sagas import engine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Customer:
    """Who pays, and to whom the invoice is made out."""

    name: str
    email: str
    tax_id: str
    """CPF or CNPJ without punctuation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """Where it goes, in Brazil."""

    recipient: str
    street: str
    number: str
    city: str
    state: str
    postal_code: str
    complement: str = ""
    district: str = ""
    country: str = "BR"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Payment:
    """How it is paid; the card's token goes to the bank and is not kept with the order."""

    method: str
    token: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """So many of one product."""

    sku: str
    quantity: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Money:
    """An amount in minor units, and its currency."""

    amount: int
    currency: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewOrder:
    """An order to be placed."""

    customer: Customer
    wishes: Sequence[Wish]
    payment: Payment
    address: Address | None = None
    """None of one of which nothing ships."""
    reference: str = ""
    total: Money | None = None
    """What the caller expects it to cost; None where they take the price as it is."""


def place(
    *,
    owner: auth.User,
    customer: Customer,
    wishes: Sequence[Wish],
    payment: Payment,
    address: Address | None = None,
    reference: str = "",
    total: Money | None = None,
) -> models.Order:
    """Take an order: its rows, its saga and the intent to work on it are one transaction (D1).

    Arguments:
        owner: whose order it is.
        customer: who pays.
        wishes: what is ordered.
        payment: how it is paid.
        address: where it goes; None of one of which nothing ships.
        reference: the owner's own word for it.
        total: what the owner expects it to cost; None where they take the price as it is.

    Raises:
        UnknownProduct: a line names a product that there is not.
        MixedCurrencies: the products are not all priced in one currency.
        NoAddress: something of it ships, and nobody said where to.
        TotalDiffers: it costs something else than is expected.
        NumberTaken: chance gave it another order's number; the transaction is lost, begin again.
        LineFull: so many orders wait that no more are taken just now.
    """
    new = NewOrder(
        customer=customer, wishes=wishes, payment=payment, address=address, reference=reference, total=total
    )
    (order,) = place_many(owner=owner, orders=[new])
    return order


@transaction.atomic(savepoint=False)
def place_many(*, owner: auth.User, orders: Sequence[NewOrder]) -> list[models.Order]:
    """Take many orders, all of them or none, in as many statements as one takes.

    A caller's transaction must not be committed when it raises, and Django sees to it.

    1. Look the products up; what they cost now is what they cost.
    2. Begin the sagas, which are given all that their steps will need, and what decides which are done:
       whether anything of the order ships, and whether a person is to look at it before it is paid.
    3. Write the orders and their lines.

    Raises:
        UnknownProduct: a line names a product that there is not.
        MixedCurrencies: the products of one order are not all priced in one currency.
        NoAddress: something of one ships, and nobody said where to.
        TotalDiffers: one costs something else than is expected.
        NumberTaken: chance gave one another order's number; the transaction is lost, begin again.
        LineFull: so many orders wait that no more are taken just now.
    """
    products = _products(orders)
    drafts = [_draft(owner, new, products) for new in orders]
    flagged = _flagged(orders)
    sagas = engine.begin_many(
        saga.ORDER_FULFILMENT,
        [
            (str(order.pk), _inputs(new, order, lines, flagged))
            for new, (order, lines) in zip(orders, drafts, strict=True)
        ],
        actor=owner.get_username(),
    )
    rows = [order for order, _ in drafts]
    for order, begun in zip(rows, sagas, strict=True):
        order.saga = begun
    try:
        models.Order.objects.bulk_create(rows)
    except IntegrityError as error:
        if "orders_order_number" in str(error):
            raise errors.NumberTaken from error
        raise
    models.OrderLine.objects.bulk_create(line for _, lines in drafts for line in lines)
    return rows


def faults(*, orders: Sequence[NewOrder]) -> dict[int, errors.OrderError]:
    """What would be refused if these were placed now, by their index. Nothing is placed."""
    products = _products(orders)
    found: dict[int, errors.OrderError] = {}
    for index, new in enumerate(orders):
        try:
            _total(new, _priced(models.Order(), new.wishes, products))
        except errors.OrderError as error:
            found[index] = error
    return found


def cancel(*, order_id: UUID, owner: auth.User, reason: str) -> None:
    """Ask, as its owner, for an order to be undone; asking twice is asking once.

    Nobody else may: what the staff decides about another's order is an operator's intervention, and goes
    through `sagas.console.interventions`.

    Raises:
        Order.DoesNotExist: the owner has no such order.
        TooLate: it has ended, or is past its point of no return.
    """
    with transaction.atomic():
        order = models.Order.objects.only("saga_id", "cancel_reason").get(pk=order_id, owner=owner)
        engine.cancel(order.saga_id, actor=owner.get_username(), reason=reason)
        models.Order.objects.filter(pk=order_id, cancel_reason="").update(cancel_reason=reason)


def _products(orders: Sequence[NewOrder]) -> Mapping[str, Any]:
    return inventory.quote(skus=[wish.sku for new in orders for wish in new.wishes])


def _draft(
    owner: auth.User, new: NewOrder, products: Mapping[str, Any]
) -> tuple[models.Order, list[models.OrderLine]]:
    """The rows of an order, not yet written, and without its saga."""
    order = models.Order(owner=owner, reference=new.reference, payment_method=new.payment.method)
    lines = _priced(order, new.wishes, products)
    total = _total(new, lines)
    order.currency, order.total_amount = total.currency, total.amount
    _address(order, new.customer, new.address)
    return order, lines


def _total(new: NewOrder, lines: Sequence[models.OrderLine]) -> Money:
    """What an order comes to, if it can be taken as it is."""
    currency = _one_currency(lines)
    ships = [line.position for line in lines if line.ships]
    if ships and new.address is None:
        raise errors.NoAddress(ships)
    total = Money(amount=sum(line.quantity * line.unit_amount for line in lines), currency=currency)
    if new.total not in (None, total):
        raise errors.TotalDiffers(expected=dataclasses.asdict(new.total), total=dataclasses.asdict(total))
    return total


def _flagged(orders: Sequence[NewOrder]) -> AbstractSet[str]:
    """Those of their customers' tax ids that are flagged."""
    tax_ids = {new.customer.tax_id for new in orders}
    flagged = models.FlaggedCustomer.objects.filter(tax_id__in=tax_ids)
    return set(flagged.values_list("tax_id", flat=True))


def _is_above_limit(order: models.Order) -> bool:
    limit = settings.ORDER_REVIEW_ABOVE.get(order.currency)
    return limit is not None and order.total_amount > limit


def _inputs(
    new: NewOrder, order: models.Order, lines: Sequence[models.OrderLine], flagged: AbstractSet[str]
) -> dict[str, Any]:
    """What its saga is given."""
    token = {"token": new.payment.token} if new.payment.token else {}
    return {
        "customer": dataclasses.asdict(new.customer),
        "payment": {"method": new.payment.method} | token,
        "total": {"amount": order.total_amount, "currency": order.currency},
        "lines": [_line(line) for line in lines],
        "address": dataclasses.asdict(new.address) if new.address is not None else None,
        "ships": any(line.ships for line in lines),
        "risky": _is_above_limit(order) or order.customer_tax_id in flagged,
    }


def _priced(
    order: models.Order, wishes: Sequence[Wish], products: Mapping[str, Any]
) -> list[models.OrderLine]:
    unknown = {position: wish.sku for position, wish in enumerate(wishes) if wish.sku not in products}
    if unknown:
        raise errors.UnknownProduct(unknown)
    return [
        models.OrderLine(
            order=order,
            position=position,
            sku=wish.sku,
            name=products[wish.sku].name,
            quantity=wish.quantity,
            unit_amount=products[wish.sku].price_amount,
            currency=products[wish.sku].currency,
            ships=products[wish.sku].ships,
        )
        for position, wish in enumerate(wishes)
    ]


def _one_currency(lines: Sequence[models.OrderLine]) -> str:
    """The currency of all of them: amounts of several add up to nothing."""
    currency = lines[0].currency
    others = {line.position: line.currency for line in lines if line.currency != currency}
    if others:
        raise errors.MixedCurrencies(currency, others)
    return currency


def _address(order: models.Order, customer: Customer, address: Address | None) -> None:
    order.customer_name = customer.name
    order.customer_email = customer.email
    order.customer_tax_id = customer.tax_id
    if address is None:
        order.country = ""
        return
    order.recipient = address.recipient
    order.street = address.street
    order.street_number = address.number
    order.complement = address.complement
    order.district = address.district
    order.city = address.city
    order.state = address.state
    order.postal_code = address.postal_code
    order.country = address.country


def _line(line: models.OrderLine) -> dict[str, Any]:
    return {
        "sku": line.sku,
        "name": line.name,
        "quantity": line.quantity,
        "unit_price": {"amount": line.unit_amount, "currency": line.currency},
        "ships": line.ships,
    }
