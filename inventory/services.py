"""The stock: the functions that other packages may call.

Every function takes its caller's `key` and may be called any number of times with it, in any order: the first
call acts, the others find it done (E1). A release may come before its reservation, which is then refused
(E4, E5). They run in the caller's transaction, which must not be committed when one of them refuses:
without a savepoint of their own they cost two statements less, and Django sees to it. They lock products
in the order of the SKUs, so that no two of them wait for each other (I4).
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import F, QuerySet, functions

from inventory import models
from inventory.errors import Refused
from inventory.models import Kind, Status

__all__ = ["Refused", "catalogue", "introduce", "quote", "receive", "release", "reserve", "ship"]

_TRANSFERS = {
    Kind.RESERVED: ("available", "reserved"),
    Kind.RELEASED: ("reserved", "available"),
    Kind.SHIPPED: ("reserved", "shipped"),
}
"""From where to where a movement takes goods; what leaves one arrives in the other, so none is lost (I2)."""


@transaction.atomic(savepoint=False)
def reserve(*, key: str, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Set the goods of all lines aside, or none of them.

    Raises:
        Refused: there is too little of something, or the key was released.
    """
    wanted = _added_up(lines)
    if not _enter(key, Status.HELD):
        return _still_held(key)
    _move(key, Kind.RESERVED, wanted)
    return {"reserved": _units(wanted)}


@transaction.atomic(savepoint=False)
def release(*, key: str) -> dict[str, Any]:
    """Make available again what is held; content to find nothing, or to come too early (E4).

    Raises:
        Refused: the goods are gone; a person must get them back.
    """
    if not _enter(key, Status.RELEASED, instead_of=Status.HELD):
        if models.Reservation.objects.filter(key=key, status=Status.SHIPPED).exists():
            raise Refused(f"The goods of {key} have been shipped.")
        return {"released": 0}
    held = _lines(key)
    _move(key, Kind.RELEASED, held)
    return {"released": _units(held)}


@transaction.atomic(savepoint=False)
def ship(*, key: str) -> dict[str, Any]:
    """Book what is held as shipped, for it has left the warehouse.

    Raises:
        Refused: nothing is held under the key.
    """
    held = models.Reservation.objects.filter(key=key, status=Status.HELD)
    if not held.update(status=Status.SHIPPED, updated_at=functions.Now()):
        # Shipped before, or there is nothing to ship.
        if models.Reservation.objects.filter(key=key, status=Status.SHIPPED).exists():
            return {"shipped": 0}
        raise Refused(f"Nothing is held under {key}.")
    lines = _lines(key)
    _move(key, Kind.SHIPPED, lines)
    return {"shipped": _units(lines)}


def catalogue() -> QuerySet[models.Product]:
    """What is sold, in the order of the SKUs."""
    return models.Product.objects.order_by("sku")


def quote(*, skus: Iterable[str]) -> dict[str, models.Product]:
    """The products with these SKUs, by SKU; those that there are not are missing."""
    return models.Product.objects.in_bulk(set(skus), field_name="sku")


@transaction.atomic
def introduce(*, sku: str, name: str, price: Mapping[str, Any], quantity: int, ships: bool = True) -> bool:
    """Add a product with its first stock; False, and nothing is changed, if it is there already.

    `ships` is False for a digital product, which goes to nobody in a parcel.
    """
    values = {
        "name": name, "price_amount": price["amount"], "currency": price["currency"], "ships": ships,
    }  # fmt: skip
    _, is_new = models.Product.objects.get_or_create(sku=sku, defaults=values)
    if is_new and quantity:
        receive(sku=sku, quantity=quantity)
    return is_new


@transaction.atomic
def receive(*, sku: str, quantity: int) -> None:
    """Take goods into stock.

    Raises:
        Refused: there is no such product.
    """
    if not models.Product.objects.filter(sku=sku).update(available=F("available") + quantity):
        raise Refused(f"There is no product {sku}.")
    models.Movement.objects.create(product_id=sku, kind=Kind.RECEIVED, quantity=quantity)


def _added_up(lines: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """SKUs and quantities, each SKU once.

    Raises:
        ValueError: a quantity is not a whole number above zero; it would move goods the wrong way.
    """
    wanted: collections.Counter[str] = collections.Counter()
    for line in lines:
        if not isinstance(line["quantity"], int) or line["quantity"] < 1:
            raise ValueError(f"{line['quantity']!r} of {line['sku']} cannot be reserved.")
        wanted[line["sku"]] += line["quantity"]
    return list(wanted.items())


def _enter(key: str, status: Status, *, instead_of: Status | None = None) -> bool:
    """Whether the key has come to this status just now: from nothing, or from `instead_of`.

    One statement, because it decides who is first; the ORM's upsert does not say whether it wrote.
    A concurrent call with the same key waits here until we commit, and then finds our row.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO inventory_reservation (key, status) VALUES (%s, %s)
            ON CONFLICT (key) DO UPDATE SET status = excluded.status, updated_at = now()
            WHERE inventory_reservation.status = %s
            """,
            [key, status, instead_of],
        )
        return bool(cursor.rowcount == 1)


def _still_held(key: str) -> dict[str, Any]:
    if models.Reservation.objects.get(key=key).status == Status.RELEASED:
        raise Refused(f"{key} was released; a reservation that comes after its release is not made.")
    return {"reserved": _units(_lines(key))}


def _lines(key: str) -> list[tuple[str, int]]:
    lines = models.Movement.objects.filter(reservation_id=key, kind=Kind.RESERVED)
    return [(line.product_id, line.quantity) for line in lines]


def _units(lines: Iterable[tuple[str, int]]) -> int:
    return sum(quantity for _, quantity in lines)


def _move(key: str, kind: Kind, lines: Sequence[tuple[str, int]]) -> None:
    """Move the goods of all lines, and book it.

    One statement for all lines. It locks the products in the order of their SKUs' bytes, which no collation
    changes: else of two orders one might go the other way round (I4). A product that another transaction held
    is read again once it is free: one that is not moved has too little, whatever others took meanwhile (I2).

    Raises:
        Refused: there is too little of something.
    """
    source, target = _TRANSFERS[kind]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH wanted AS (
                SELECT product.id, line.quantity
                FROM inventory_product product
                JOIN unnest(%(skus)s::text[], %(quantities)s::bigint[]) AS line (sku, quantity) USING (sku)
                ORDER BY product.sku COLLATE "C"
                FOR NO KEY UPDATE OF product
            ), moved AS (
                UPDATE inventory_product product
                SET {source} = {source} - quantity, {target} = {target} + quantity
                FROM wanted
                WHERE product.id = wanted.id AND {source} >= quantity
                RETURNING sku, quantity
            )
            INSERT INTO inventory_movement (product_id, reservation_id, kind, quantity)
            SELECT sku, %(key)s, %(kind)s, quantity FROM moved
            RETURNING product_id
            """,  # noqa: S608 - names of our own
            {
                "skus": [sku for sku, _ in lines],
                "quantities": [quantity for _, quantity in lines],
                "key": key,
                "kind": kind,
            },
        )
        moved = {sku for (sku,) in cursor.fetchall()}
    for sku, quantity in lines:
        if sku not in moved:
            raise Refused(f"Fewer than {quantity} of {sku} are {source}.")
