"""All that is known of a campaign, put together for the rules to look at."""

import functools
from typing import Any

from saga_project.local.checker import books, fates, history, rows

Row = rows.Row
Json = dict[str, Any]

OF_SAGA = {
    "running": "pending",
    "completed": fates.FULFILLED,
    "compensating": "cancelling",
    "compensated": fates.CANCELLED,
    "needs_attention": fates.ATTENTION,
}
"""What an order is called when its saga stands so; closed, once somebody has put it aside."""

ENDS = (fates.FULFILLED, fates.CANCELLED, "closed")

PASSING = ("transient", "unknown", "outage", "timeout")
"""An order that failed so was given up because a provider, or the shop, was away for too long. That costs a
sale, and is no fault in the books."""


class World:
    """What the clients know, what the database says, what the providers hold.

    Arguments:
        wanted: the orders that the clients wanted, by their key.
        found: the database's rows.
        held: the providers' books.
    """

    def __init__(self, wanted: dict[str, history.Wanted], found: rows.Rows, held: books.Books) -> None:
        self.wanted = wanted
        self.rows = found
        self.books = held
        self.orders = {order["id"]: order for order in found.orders}
        self.by_number = {order["number"]: order for order in found.orders}
        self.sagas = {saga["id"]: saga for saga in found.sagas}
        self.order_of_saga = {order["saga_id"]: order for order in found.orders}
        self.lines = rows.grouped(found.lines, "order_id")
        self.steps = rows.grouped(found.steps, "saga_id")
        self.events = rows.grouped(found.events, "saga_id")
        self.charges = held.of_sagas("charges")
        self.invoices = held.of_sagas("invoices")
        self.shipments = held.of_sagas("shipments")
        self.ids = rows.grouped(found.keys, "key")
        self.keys = {row["order_id"]: row["key"] for row in found.keys}

    @functools.cached_property
    def ours(self) -> list[tuple[history.Wanted, Row]]:
        """Every order in the database that a client of this campaign wanted, with what it wanted."""
        keyed = ((self.wanted.get(self.keys.get(order["id"], "")), order) for order in self.rows.orders)
        return [(wanted, order) for wanted, order in keyed if wanted is not None]

    def end(self, order: Row) -> str:
        """What the order is called, as it stands now."""
        saga = self.sagas.get(order["saga_id"])
        if saga is None:
            return "lost"
        return "closed" if saga["closed_at"] is not None else OF_SAGA[saga["state"]]

    def ships(self, order: Row) -> bool:
        """Whether anything of it goes in a parcel."""
        return any(line["ships"] for line in self.lines.get(order["id"], ()))

    def fate(self, wanted: history.Wanted, order: Row) -> frozenset[str]:
        """In which states it may end."""
        circumstances = fates.Circumstances(
            ships=self.ships(order),
            cancelled=wanted.cancelled,
            reviewed=any(
                event["kind"] in ("step.waiting", "approval.given", "approval.refused")
                and event["subject"] == "review-order"
                for event in self.events.get(order["saga_id"], ())
            ),
        )
        return fates.foretell(wanted.body, circumstances)

    def name(self, key: str) -> str:
        """How people call what a key of a step, a saga's or an order's id is about: the order's number."""
        saga_id = books.saga_of(key)
        order = self.order_of_saga.get(saga_id) or self.orders.get(saga_id)
        return str(order["number"]) if order else key

    def gave_up(self, order: Row) -> bool:
        """Whether its saga failed because somebody was away for too long."""
        saga = self.sagas.get(order["saga_id"])
        return bool(saga and saga["failure"] and saga["failure"].get("kind") in PASSING)

    def sold_out(self, order: Row) -> bool:
        """Whether there was ever too little of something that it wanted, by the stock's own book."""
        least = self._least
        return any(least.get(line["sku"], 0) < line["quantity"] for line in self.lines.get(order["id"], ()))

    @functools.cached_property
    def _least(self) -> dict[str, int]:
        """Of each product, how few were ever free once goods had come in."""
        free: dict[str, int] = {}
        least: dict[str, int] = {}
        signs = {"received": 1, "reserved": -1, "released": 1}
        for movement in self.rows.movements:
            sku = movement["sku"]
            free[sku] = free.get(sku, 0) + signs.get(movement["kind"], 0) * movement["quantity"]
            least[sku] = min(least.get(sku, free[sku]), free[sku])
        return least
