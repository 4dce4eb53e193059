"""What the drill found: for each fault how long it was felt, and whether anything is lost, doubled or wrong.

It knows no process and no network: it reads what the customers wrote down, the shop's list of orders, the
providers' books and the audit's report.
"""

import collections
import dataclasses
import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from saga_project.local import ledger

Json = dict[str, Any]

FINAL = ("fulfilled", "cancelled", "attention")

SLOW_S = 2.0
"""An answer that takes longer counts as none, while it is awaited."""

LULL_S = 3.0
"""Failures that are not further apart than this are one outage: between two of them nobody relied on it."""

LATE_S = 10.0
"""An order that takes longer from its first request to its end was delayed. Undisturbed, the slowest fate
takes five seconds."""

CALM = "no fault"
"""The name of what was before the first fault."""

HEADERS = (
    "Fault", "API answers again", "A new order ends", "Orders on time again", "Orders", "Delayed", "Longest",
    "Lost", "Doubled", "Out of balance",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One fault, from its strike until the next one's; and the orders that were wanted in that time."""

    fault: str
    told: str
    bar_s: float | None
    """How soon the API must answer again; None where nothing was struck."""
    answers_again_s: float
    """The longest stretch in which requests failed or were slow."""
    ends_again_s: float | None
    """Until an order that was wanted after the strike had ended; None if none did before the next one."""
    on_time_again_s: float
    """Until the last order was wanted that was delayed."""
    orders: int
    delayed: int
    longest_s: float
    """How long the slowest order took."""
    lost: int
    doubled: int
    out_of_balance: int

    @property
    def is_clean(self) -> bool:
        """Whether every order is what it should be, however long that took."""
        return not (self.lost or self.doubled or self.out_of_balance)

    @property
    def holds(self) -> bool:
        """Whether no bar is missed."""
        return (
            self.is_clean
            and (self.bar_s is None or self.answers_again_s <= self.bar_s)
            and (self.ends_again_s is not None or not self.orders)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """All faults, and what is wrong, in words."""

    rows: list[Row]
    wrong: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether every order is what it should be, however long that took."""
        return all(row.is_clean for row in self.rows)

    @property
    def holds(self) -> bool:
        """Whether the drill is passed."""
        return not self.wrong and all(row.holds for row in self.rows)


def judge(
    book: ledger.Ledger,
    *,
    orders: Sequence[Json],
    books: Mapping[str, Any],
    audit: Mapping[str, Any],
    until: float,
) -> Verdict:
    """Hold what the customers were told against what is there.

    Args:
        book: what was seen and done.
        orders: all orders, as the API lists them, when all was quiet.
        books: the providers', as the sandbox shows them.
        audit: the report of `manage.py audit --json`.
        until: when all was quiet.
    """
    placed = collections.defaultdict(list)
    for order in orders:
        placed[order["reference"]].append(order)
    faults = _faults(book.wanted, placed, books)
    about = {order["number"]: order["reference"] for order in orders}
    for discrepancy in audit["discrepancies"]:
        key = about.get(discrepancy["about"], "")
        told = f"{discrepancy['about']}: {discrepancy['room']}: {discrepancy['finding']}"
        faults["out of balance"][key].append(f"the audit: {told}")
    wrong = [told for kind in faults.values() for tolds in kind.values() for told in tolds]
    known = {wanted.key for wanted in book.wanted}
    strangers = {key: len(found) for key, found in placed.items() if key not in known}
    wrong += [
        f"{count} orders that nobody wanted: {key or 'without a reference'}"
        for key, count in strangers.items()
    ]
    rows = [
        _row(strike, began, ended, book, placed, faults) for strike, began, ended in _windows(book, until)
    ]
    for row in rows:
        if row.bar_s is not None and row.answers_again_s > row.bar_s:
            wrong.append(
                f"{row.fault}: the API answered again after {row.answers_again_s:.1f} s,"
                f" not within {row.bar_s:g} s"
            )
        if row.orders and row.ends_again_s is None:
            wrong.append(f"{row.fault}: no order that was placed after it ended before the next fault")
    return Verdict(rows=rows, wrong=wrong)


def _windows(book: ledger.Ledger, until: float) -> Iterable[tuple[ledger.Strike | None, float, float]]:
    began = min((wanted.wanted_at for wanted in book.wanted), default=until)
    starts = [strike.struck_at for strike in book.strikes]
    ends = [*starts[1:], until]
    yield None, began, starts[0] if starts else until
    yield from zip(book.strikes, starts, ends, strict=True)


def _row(
    strike: ledger.Strike | None,
    began: float,
    ended: float,
    book: ledger.Ledger,
    placed: Mapping[str, Sequence[Json]],
    faults: Mapping[str, Mapping[str, Sequence[str]]],
) -> Row:
    mine = [wanted for wanted in book.wanted if began <= wanted.wanted_at < ended]
    ends = {wanted.key: _ended_at(wanted, placed) for wanted in mine}
    took = {wanted.key: end - wanted.wanted_at for wanted in mine if (end := ends[wanted.key]) is not None}
    delayed = [wanted for wanted in mine if took.get(wanted.key, LATE_S + 1) > LATE_S]
    first = min((end for end in ends.values() if end is not None and end < ended), default=None)
    counts = {kind: sum(len(found.get(wanted.key, ())) for wanted in mine) for kind, found in faults.items()}
    # What the audit finds about no order of a customer's stands with the calm, so that no sum leaves it out.
    if strike is None:
        counts["out of balance"] += len(faults["out of balance"].get("", ()))
    return Row(
        fault=strike.name if strike else CALM,
        told=strike.told if strike else "",
        bar_s=strike.bar_s if strike else None,
        answers_again_s=longest_outage(book.requests, began, ended),
        ends_again_s=None if first is None else first - began,
        on_time_again_s=max((wanted.wanted_at - began for wanted in delayed), default=0.0),
        orders=len(mine),
        delayed=len(delayed),
        longest_s=max(took.values(), default=0.0),
        lost=counts["lost"],
        doubled=counts["doubled"],
        out_of_balance=counts["out of balance"],
    )


def longest_outage(requests: Iterable[ledger.Request], began: float, ended: float) -> float:
    """The longest stretch of these times in which requests failed or were slow, in seconds."""
    bad = sorted(
        (max(request.sent_at, began), min(request.ended_at, ended))
        for request in requests
        if (request.failure or request.seconds > SLOW_S)
        and request.ended_at > began
        and request.sent_at < ended
    )
    longest, start, end = 0.0, 0.0, float("-inf")
    for sent_at, ended_at in bad:
        if sent_at > end + LULL_S:
            start = sent_at
        end = max(end, ended_at)
        longest = max(longest, end - start)
    return longest


def _faults(
    wanted: Sequence[ledger.Wanted], placed: Mapping[str, Sequence[Json]], books: Mapping[str, Any]
) -> dict[str, dict[str, list[str]]]:
    """By kind and by key: what is wrong with an order, in words."""
    found: dict[str, dict[str, list[str]]] = {
        kind: collections.defaultdict(list) for kind in ("lost", "doubled", "out of balance")
    }
    standing = _standing(books)
    charges = {charge["key"]: charge for charge in books["charges"]}
    for one in wanted:
        orders = placed.get(one.key, [])
        there = {order["id"] for order in orders}
        lost, doubled, unbalanced = (found[kind][one.key] for kind in ("lost", "doubled", "out of balance"))
        if one.refused:
            lost.append(f"{one.key}: refused: {one.refused}")
        elif one.acknowledged_at is None:
            lost.append(f"{one.key}: never acknowledged, in {one.requests} requests")
        elif not one.ids <= there:
            lost.append(f"{one.key}: acknowledged, and not to be found")
        if len(one.ids | there) > 1:
            doubled.append(f"{one.key}: {len(one.ids | there)} orders")
        for order in orders:
            if order["status"] not in FINAL:
                lost.append(f"{order['number']}: has not ended; it is {order['status']}")
            elif order["status"] not in one.fate.ends:
                ends = " or ".join(one.fate.ends)
                unbalanced.append(f"{order['number']} ({one.fate.name}): {order['status']}, not {ends}")
            for kind in ("charges", "invoices", "shipments"):
                if (count := standing[kind][order["saga"]["id"]]) > 1:
                    doubled.append(f"{order['number']}: {count} {kind}")
            if told := _money(order, charges.get(order["payment"]["key"])):
                unbalanced.append(f"{order['number']}: {told}")
    return found


def _standing(books: Mapping[str, Any]) -> dict[str, collections.Counter[str]]:
    """Of each saga, what its providers have of it and was not taken back."""
    stands: dict[str, Callable[[Json], bool]] = {
        "charges": lambda charge: charge["captured"] > charge["refunded"],
        "invoices": lambda invoice: invoice["kind"] == "sale" and invoice["status"] == "authorized",
        "shipments": lambda shipment: shipment["status"] in ("booked", "handed_over", "delivered"),
    }
    return {
        kind: collections.Counter(entry["key"].partition(".")[0] for entry in books[kind] if stands_(entry))
        for kind, stands_ in stands.items()
    }


def _money(order: Json, charge: Json | None) -> str:
    """What the bank holds must be the total of what was fulfilled, and nothing of what was cancelled."""
    kept = charge["captured"] - charge["refunded"] if charge else 0
    due = {"fulfilled": order["total"]["amount"], "cancelled": 0}.get(order["status"], kept)
    return "" if kept == due else f"the bank holds {kept}, it should hold {due}"


def _ended_at(wanted: ledger.Wanted, placed: Mapping[str, Sequence[Json]]) -> float | None:
    """When its order ended, by the database's clock."""
    ends = [_seconds(order["updated_at"]) for order in placed.get(wanted.key, []) if order["status"] in FINAL]
    return min(ends, default=None)


def _seconds(instant: str) -> float:
    return datetime.datetime.fromisoformat(instant).timestamp()


def cells(row: Row) -> tuple[str, ...]:
    """As the table shows it, in the order of `HEADERS`."""
    return (
        row.fault,
        "" if row.bar_s is None else f"{row.answers_again_s:.1f} s",
        "" if row.bar_s is None else _or_never(row.ends_again_s),
        "" if row.bar_s is None else f"{row.on_time_again_s:.0f} s",
        str(row.orders),
        str(row.delayed),
        f"{row.longest_s:.1f} s",
        str(row.lost),
        str(row.doubled),
        str(row.out_of_balance),
    )


def _or_never(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


def markdown(rows: Sequence[Row]) -> str:
    """The table for the documentation."""
    lines = [HEADERS, ("---", *["---:"] * (len(HEADERS) - 1)), *(cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
