"""What was received is on hand, reserved or shipped, and every order has moved just what it should (I2)."""

import collections
from collections.abc import Iterator

from saga_project.local.checker import books, fates, world
from saga_project.local.checker.rules.rule import Rule, Violation, declare

RULES: list[Rule] = []


@declare(RULES, "balance", "Of each product, what came in is what is on hand, reserved and shipped (I2).")
def stock_adds_up(campaign: world.World) -> Iterator[Violation]:
    """And none of the three is negative."""
    booked = _booked(campaign)
    for product in campaign.rows.products:
        sku, three = product["sku"], ("available", "reserved", "shipped")
        there = {name: product[name] for name in three}
        if sum(there.values()) != booked[sku, "received"]:
            yield Violation(about=sku, told=f"{booked[sku, 'received']} came in, and there is {there}")
        if min(there.values()) < 0:
            yield Violation(about=sku, told=f"negative: {there}")


@declare(RULES, "balance", "Every product's numbers are what its movements add up to.")
def movements_add_up(campaign: world.World) -> Iterator[Violation]:
    """From available to reserved, and from there to shipped or back."""
    booked = _booked(campaign)
    for product in campaign.rows.products:
        sku = product["sku"]
        came, held, back, gone = (
            booked[sku, kind] for kind in ("received", "reserved", "released", "shipped")
        )
        right = {"available": came - held + back, "reserved": held - back - gone, "shipped": gone}
        for name, amount in right.items():
            if product[name] != amount:
                yield Violation(about=sku, told=f"{product[name]} {name}, by its movements {amount}")


@declare(RULES, "balance", "Every fulfilled order's goods have gone, line by line, and no others.")
def goods_of_orders(campaign: world.World) -> Iterator[Violation]:
    """Those of a cancelled order are back."""
    moved: dict[str, collections.Counter[tuple[str, str]]] = collections.defaultdict(collections.Counter)
    for movement in campaign.rows.movements:
        if movement["reservation"] is not None:
            saga_id = books.saga_of(movement["reservation"])
            moved[saga_id][movement["sku"], movement["kind"]] += movement["quantity"]
    for saga_id in sorted(moved.keys() - campaign.order_of_saga.keys()):
        yield Violation(about=saga_id, told="goods were moved for no order of ours")
    for order in campaign.rows.orders:
        end, mine = campaign.end(order), moved[order["saga_id"]]
        if end not in (fates.FULFILLED, fates.CANCELLED):
            continue
        wanted = {line["sku"]: line["quantity"] for line in campaign.lines.get(order["id"], ())}
        for sku in sorted({*wanted, *(sku for sku, _ in mine)}):
            held, back, gone = (mine[sku, kind] for kind in ("reserved", "released", "shipped"))
            should = wanted.get(sku, 0) if end == fates.FULFILLED else 0
            if gone != should or held - back - gone:
                told = f"{sku}: {held} reserved, {back} released, {gone} shipped, {should} should have gone"
                yield Violation(about=order["number"], told=told)


@declare(RULES, "balance", "Every reservation is what its order came to.")
def reservations_agree(campaign: world.World) -> Iterator[Violation]:
    """Shipped for a fulfilled one; released, or none, for a cancelled one."""
    status = {books.saga_of(row["key"]): row["status"] for row in campaign.rows.reservations}
    for order in campaign.rows.orders:
        end, found = campaign.end(order), status.get(order["saga_id"])
        right = {fates.FULFILLED: ("shipped",), fates.CANCELLED: ("released", None)}.get(end)
        if right is not None and found not in right:
            yield Violation(
                about=order["number"], told=f"it is {end}, its reservation {found or 'not there'}"
            )


def _booked(campaign: world.World) -> collections.Counter[tuple[str, str]]:
    booked: collections.Counter[tuple[str, str]] = collections.Counter()
    for movement in campaign.rows.movements:
        booked[movement["sku"], movement["kind"]] += movement["quantity"]
    return booked
