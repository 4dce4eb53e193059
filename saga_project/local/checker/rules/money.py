"""The bank keeps the total of an order that was fulfilled, and nothing of one that was cancelled (M1)."""

import collections
from collections.abc import Iterator

from saga_project.local.checker import books, fates, world
from saga_project.local.checker.rules.rule import Rule, Violation, declare

RULES: list[Rule] = []


@declare(RULES, "doubled", "No order has two charges that stand.")
def one_charge(campaign: world.World) -> Iterator[Violation]:
    """Captured and not given back, under whatever key of its saga's."""
    for saga_id, charges in campaign.charges.items():
        standing = [charge for charge in charges if books.kept(charge)]
        if len(standing) > 1:
            keys = ", ".join(charge["key"] for charge in standing)
            yield Violation(about=campaign.name(saga_id), told=f"{len(standing)} charges stand: {keys}")


@declare(RULES, "balance", "The bank keeps exactly the total of each fulfilled order.")
def exact_charge(campaign: world.World) -> Iterator[Violation]:
    """In its currency."""
    for order in campaign.rows.orders:
        if campaign.end(order) == fates.FULFILLED:
            kept = _kept(campaign, order)
            if kept != {order["currency"]: order["total_amount"]}:
                yield Violation(
                    about=order["number"],
                    told=f"the bank keeps {_money(kept)}, the total is {order['total_amount']}",
                )


@declare(RULES, "balance", "The bank keeps nothing of a cancelled order.")
def nothing_kept(campaign: world.World) -> Iterator[Violation]:
    """All that was captured went back, however late it came (M3)."""
    for order in campaign.rows.orders:
        if campaign.end(order) == fates.CANCELLED and (kept := _kept(campaign, order)):
            yield Violation(about=order["number"], told=f"the bank keeps {_money(kept)}")


@declare(RULES, "balance", "No more was given back than was captured (M2).")
def refunds_within_captures(campaign: world.World) -> Iterator[Violation]:
    """At the bank, and in the payments' rows."""
    for charge in (*campaign.books.charges, *campaign.rows.payments):
        if charge["refunded"] > charge["captured"]:
            told = f"captured {charge['captured']}, given back {charge['refunded']}"
            yield Violation(about=campaign.name(charge["key"]), told=told)


@declare(RULES, "balance", "The payments' rows say what the bank says.")
def payments_equal_the_bank(campaign: world.World) -> Iterator[Violation]:
    """Captured and given back, key by key; what nobody asked for is a rule of its own."""
    theirs = {charge["key"]: charge for charge in campaign.books.charges}
    for payment in campaign.rows.payments:
        charge = theirs.get(payment["key"])
        said = (charge["captured"], charge["refunded"]) if charge else (0, 0)
        if said != (payment["captured"], payment["refunded"]):
            told = "captured {} and refunded {} here, {} and {} at the bank".format(
                payment["captured"], payment["refunded"], *said
            )
            yield Violation(about=campaign.name(payment["key"]), told=told)


@declare(RULES, "doubled", "The bank has no charge that nobody asked for.")
def no_strange_charge(campaign: world.World) -> Iterator[Violation]:
    """Each is of an order of ours, and there is a payment for it."""
    ours = {payment["key"] for payment in campaign.rows.payments}
    for charge in campaign.books.charges:
        if charge["key"] not in ours or books.saga_of(charge["key"]) not in campaign.order_of_saga:
            yield Violation(about=charge["key"], told=f"the bank has it, {charge['status']}")


@declare(RULES, "balance", "Every payment's ledger adds up to its row, line by line (M1).")
def ledger_adds_up(campaign: world.World) -> Iterator[Violation]:
    """What was captured and what was given back."""
    booked: collections.Counter[tuple[int, str]] = collections.Counter()
    for line in campaign.rows.operations:
        booked[line["payment_id"], line["kind"]] += line["amount"]
    for payment in campaign.rows.payments:
        sums = (booked[payment["id"], "capture"], booked[payment["id"], "refund"])
        if sums != (payment["captured"], payment["refunded"]):
            told = "captured {} and refunded {} by the row, {} and {} by the ledger".format(
                payment["captured"], payment["refunded"], *sums
            )
            yield Violation(about=campaign.name(payment["key"]), told=told)


@declare(RULES, "balance", "The bank's balance is the sum of all fulfilled orders.")
def bank_balance(campaign: world.World) -> Iterator[Violation]:
    """And of what it still keeps of orders that a person is to look at."""
    due: collections.Counter[str] = collections.Counter()
    kept: collections.Counter[str] = collections.Counter()
    for order in campaign.rows.orders:
        end = campaign.end(order)
        if end == fates.FULFILLED:
            due[order["currency"]] += order["total_amount"]
        elif end != fates.CANCELLED:
            due.update(_kept(campaign, order))
    for charge in campaign.books.charges:
        kept[charge["currency"]] += books.kept(charge)
    for currency in sorted({*due, *kept}):
        if due[currency] != kept[currency]:
            told = f"the bank keeps {kept[currency]}, the orders come to {due[currency]}"
            yield Violation(about=currency, told=told)


def _kept(campaign: world.World, order: world.Row) -> dict[str, int]:
    kept: collections.Counter[str] = collections.Counter()
    for charge in campaign.charges.get(order["saga_id"], ()):
        kept[charge["currency"]] += books.kept(charge)
    return {currency: amount for currency, amount in kept.items() if amount}


def _money(kept: dict[str, int]) -> str:
    return " and ".join(f"{amount} {currency}" for currency, amount in kept.items()) or "nothing"
