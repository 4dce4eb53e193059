"""One parcel for each order that was fulfilled and ships, none for any other."""

from collections.abc import Iterator

from saga_project.local.checker import books, fates, world
from saga_project.local.checker.rules.rule import Rule, Violation, declare

RULES: list[Rule] = []

NOT_AT_THE_CARRIER = ("requested", "refused", "recalled")
"""What a shipment may be of which the carrier has nothing; one that was recalled too early is such."""


@declare(RULES, "balance", "Every fulfilled order that ships was delivered once, with its own invoice.")
def one_parcel(campaign: world.World) -> Iterator[Violation]:
    """As many parcels as lines ship; the invoice's access key travels with them."""
    for order in campaign.rows.orders:
        if campaign.end(order) != fates.FULFILLED or not campaign.ships(order):
            continue
        standing = _standing(campaign, order)
        if len(standing) != 1:
            yield Violation(about=order["number"], told=f"{len(standing)} shipments stand, not one")
            continue
        (shipment,) = standing
        lines = sum(line["ships"] for line in campaign.lines.get(order["id"], ()))
        if shipment["status"] != "delivered":
            yield Violation(
                about=order["number"], told=f"it is fulfilled, its parcel is {shipment['status']}"
            )
        if shipment["parcels"] != lines:
            yield Violation(about=order["number"], told=f"{shipment['parcels']} parcels, {lines} lines ship")
        sales = campaign.invoices.get(order["saga_id"], ())
        if shipment["reference"] not in {invoice["access_key"] for invoice in sales}:
            yield Violation(about=order["number"], told="another invoice travels with its parcel")


@declare(RULES, "balance", "No order that was cancelled, or does not ship, has a parcel.")
def no_parcel(campaign: world.World) -> Iterator[Violation]:
    """It was recalled, or came back."""
    for order in campaign.rows.orders:
        if campaign.end(order) == fates.CANCELLED or not campaign.ships(order):
            for shipment in _standing(campaign, order):
                told = f"{campaign.end(order)}, and its parcel is {shipment['status']}"
                yield Violation(about=order["number"], told=told)


@declare(RULES, "balance", "The shipments' rows say what the carrier says.")
def shipments_equal_the_carrier(campaign: world.World) -> Iterator[Violation]:
    """Key by key; what was never booked is not in the carrier's books."""
    theirs = {shipment["key"]: shipment["status"] for shipment in campaign.books.shipments}
    for row in campaign.rows.shipments:
        said = theirs.get(row["key"])
        if said != row["status"] and not (said is None and row["status"] in NOT_AT_THE_CARRIER):
            told = f"{row['status']} here, {said or 'not there'} at the carrier"
            yield Violation(about=campaign.name(row["key"]), told=told)


@declare(RULES, "doubled", "The carrier has no parcel that nobody booked.")
def no_strange_parcel(campaign: world.World) -> Iterator[Violation]:
    """Each is of an order of ours, and there is a shipment for it."""
    ours = {shipment["key"] for shipment in campaign.rows.shipments}
    for shipment in campaign.books.shipments:
        if shipment["key"] not in ours or books.saga_of(shipment["key"]) not in campaign.order_of_saga:
            yield Violation(about=shipment["key"], told=f"the carrier has it, {shipment['status']}")


def _standing(campaign: world.World, order: world.Row) -> list[world.Json]:
    shipments = campaign.shipments.get(order["saga_id"], ())
    return [shipment for shipment in shipments if shipment["status"] in books.STANDING_PARCELS]
