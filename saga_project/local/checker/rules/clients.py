"""What clients were told of their orders is so."""

from collections.abc import Iterator

from saga_project.local.checker import fates, world
from saga_project.local.checker.rules.rule import Rule, Violation, declare

RULES: list[Rule] = []

ADDRESS = {
    "recipient": "recipient", "street": "street", "number": "street_number", "complement": "complement",
    "district": "district", "city": "city", "state": "state", "country": "country",
}  # fmt: skip
"""Names of the address in an order's body, and the columns that keep them."""


@declare(RULES, "lost", "Every order that a client wanted was acknowledged in the end, or turned away.")
def acknowledged(campaign: world.World) -> Iterator[Violation]:
    """A client asks again until it is told yes or no, and its orders are such that no would be wrong.

    But for those that the shop turned away because too many waited: `turned_away`.
    """
    for wanted in campaign.wanted.values():
        if not wanted.answers and wanted.bodies and not wanted.turned_away:
            told = f"refused with {wanted.refusals[-1]}" if wanted.refusals else "never answered"
            yield Violation(about=wanted.key, told=f"{told}, in {len(wanted.bodies)} requests")


@declare(RULES, "doubled", "No order exists whose client the shop turned away.")
def turned_away(campaign: world.World) -> Iterator[Violation]:
    """Who is told each time that nothing was placed orders elsewhere, and would have it twice."""
    for order in campaign.rows.orders:
        wanted = campaign.wanted.get(campaign.keys.get(order["id"]) or "")
        if wanted is not None and wanted.turned_away:
            yield Violation(about=order["number"], told=f"it was placed under {wanted.key}")


@declare(RULES, "lost", "Every order that was acknowledged exists.")
def exists(campaign: world.World) -> Iterator[Violation]:
    """By its id, under the number that the client was told."""
    for wanted in campaign.wanted.values():
        for number, pk in sorted({(answer.number, answer.id) for answer in wanted.answers}):
            order = campaign.orders.get(pk)
            if order is None:
                yield Violation(about=number, told=f"acknowledged under {wanted.key}, and not to be found")
            elif order["number"] != number:
                yield Violation(about=number, told=f"it is {order['number']} in the database")


@declare(RULES, "doubled", "No key was acknowledged with two orders.")
def one_number(campaign: world.World) -> Iterator[Violation]:
    """Whatever a client asked again for, it was told of one order."""
    for wanted in campaign.wanted.values():
        told = {(answer.id, answer.number) for answer in wanted.answers}
        if len(told) > 1:
            numbers = ", ".join(sorted(number for _, number in told))
            yield Violation(about=wanted.key, told=f"acknowledged as {numbers}")


@declare(RULES, "doubled", "The same request got the same answer, whenever it was sent again (D8).")
def same_answer(campaign: world.World) -> Iterator[Violation]:
    """An answer that was kept is given again as it was."""
    for wanted in campaign.wanted.values():
        first = wanted.answers[:1]
        for answer in wanted.answers[1:]:
            if answer.body != first[0].body:
                yield Violation(about=answer.number, told=f"two different answers to {wanted.key}")
                break


@declare(RULES, "doubled", "The database has one order for each key.")
def once_per_key(campaign: world.World) -> Iterator[Violation]:
    """By the keys that the shop keeps; and by the reference, where a client sent its key as that, too."""
    references: dict[str, set[str]] = {}
    for order in campaign.rows.orders:
        references.setdefault(order["reference"], set()).add(order["id"])
    for wanted in campaign.wanted.values():
        found = {row["order_id"] for row in campaign.ids.get(wanted.key, ())}
        found |= references.get(wanted.key, set())
        if len(found) > 1:
            numbers = sorted(campaign.name(pk) for pk in found)
            yield Violation(about=wanted.key, told=f"{len(found)} orders: {', '.join(numbers)}")


@declare(RULES, "doubled", "Every order was wanted by a client.")
def asked_for(campaign: world.World) -> Iterator[Violation]:
    """Nobody but the clients orders during a campaign."""
    for order in campaign.rows.orders:
        if campaign.keys.get(order["id"]) not in campaign.wanted:
            yield Violation(about=order["number"], told="no client wanted it")


@declare(RULES, "balance", "Every order is what its client asked for, and costs what its client was told.")
def as_asked(campaign: world.World) -> Iterator[Violation]:
    """Lines, customer, address, payment, and the total."""
    for wanted, order in campaign.ours:
        for told in _differences(campaign, wanted.body, order):
            yield Violation(about=order["number"], told=told)
        total = {"amount": order["total_amount"], "currency": order["currency"]}
        for answer in wanted.answers[:1]:
            if answer.body.get("total", total) != total:
                yield Violation(
                    about=order["number"], told=f"the client was told {answer.body['total']}, it is {total}"
                )
        if any(body != wanted.body for body in wanted.bodies):
            yield Violation(about=wanted.key, told="the client sent another body under its key")


def _differences(campaign: world.World, body: world.Json, order: world.Row) -> Iterator[str]:
    lines = campaign.lines.get(order["id"], [])
    if sorted((line["sku"], line["quantity"]) for line in lines) != sorted(
        (line["sku"], line["quantity"]) for line in body.get("lines", ())
    ):
        yield "its lines are not those that were asked for"
    if sum(line["quantity"] * line["unit_amount"] for line in lines) != order["total_amount"]:
        yield f"its lines do not add up to its total, {order['total_amount']}"
    customer = body.get("customer", {})
    for name in ("name", "email"):
        if customer.get(name) != order[f"customer_{name}"]:
            yield f"the customer's {name} is another"
    if fates.digits(customer.get("tax_id", "")) != order["customer_tax_id"]:
        yield "the customer's tax id is another"
    address = body.get("shipping_address", {})
    for name, column in ADDRESS.items():
        if address.get(name, order[column] if name == "country" else "") != order[column]:
            yield f"the address's {name} is another"
    if fates.digits(address.get("postal_code", "")) != fates.digits(order["postal_code"]):
        yield "the postal code is another"
    if body.get("payment", {}).get("method") != order["payment_method"]:
        yield f"it is paid by {order['payment_method']}"
    if body.get("reference", "") != order["reference"]:
        yield "its reference is another"
