"""One invoice for each fulfilled order, none for a cancelled one, and every number accounted for (M4)."""

import collections
from collections.abc import Iterator

from saga_project.local.checker import books, fates, world
from saga_project.local.checker.rules.rule import Rule, Violation, declare

RULES: list[Rule] = []

AT_THE_AUTHORITY = {"authorized": "authorized", "returned": "authorized", "cancelled": "cancelled"}
"""What the authority says of an invoice that stands so here; of any other, that there is none."""


@declare(RULES, "balance", "Every fulfilled order has one invoice that stands, over its total.")
def one_invoice(campaign: world.World) -> Iterator[Violation]:
    """Authorised at the authority, and not returned."""
    for order in campaign.rows.orders:
        if campaign.end(order) != fates.FULFILLED:
            continue
        standing = _standing(campaign, order)
        totals = [(invoice["total"], invoice["currency"]) for invoice in standing]
        if totals != [(order["total_amount"], order["currency"])]:
            told = f"invoices over {[total for total, _ in totals]}, the total is {order['total_amount']}"
            yield Violation(about=order["number"], told=told)


@declare(RULES, "balance", "No cancelled order has an invoice that stands.")
def invoice_taken_back(campaign: world.World) -> Iterator[Violation]:
    """It was cancelled, or a return note takes all of it back."""
    for order in campaign.rows.orders:
        if campaign.end(order) == fates.CANCELLED and (standing := _standing(campaign, order)):
            numbers = ", ".join(f"{one['series']}/{one['number']}" for one in standing)
            yield Violation(about=order["number"], told=f"it is cancelled, and {numbers} stands")


@declare(RULES, "balance", "The invoices' rows say what the authority says.")
def invoices_equal_the_authority(campaign: world.World) -> Iterator[Violation]:
    """Status, series, number, total, access key."""
    theirs = {invoice["key"]: invoice for invoice in campaign.books.invoices}
    for row in campaign.rows.invoices:
        told = theirs.get(row["key"])
        status = told["status"] if told else "not there"
        if status != AT_THE_AUTHORITY.get(row["status"], "not there"):
            yield Violation(
                about=campaign.name(row["key"]), told=f"{row['status']} here, {status} at the authority"
            )
        elif told and not row["mismatch"]:
            here = (
                row["series"],
                row["number"],
                row["access_key"],
                row["amount"],
                row["currency"],
                row["kind"],
            )
            names = ("series", "number", "access_key", "total", "currency", "kind")
            if here != (there := tuple(told[name] for name in names)):
                yield Violation(
                    about=campaign.name(row["key"]), told=f"{here} here, {there} at the authority"
                )


@declare(RULES, "doubled", "The authority has no invoice that nobody asked for.")
def no_strange_invoice(campaign: world.World) -> Iterator[Violation]:
    """Each is of an order of ours, and there is a document for it."""
    ours = {invoice["key"] for invoice in campaign.rows.invoices}
    for invoice in campaign.books.invoices:
        if invoice["key"] not in ours or books.saga_of(invoice["key"]) not in campaign.order_of_saga:
            yield Violation(about=invoice["key"], told=f"{invoice['series']}/{invoice['number']}")


@declare(RULES, "doubled", "No invoice number was used twice (M4).")
def numbers_once(campaign: world.World) -> Iterator[Violation]:
    """In its series: by our documents, by the authority's, and none was used and declared void."""
    for whose, documents in (("here", campaign.rows.invoices), ("at the authority", campaign.books.invoices)):
        used = collections.Counter((one["series"], one["number"]) for one in documents if one["number"])
        for (series, number), times in sorted(used.items()):
            if times > 1:
                yield Violation(about=f"{series}/{number}", told=f"used {times} times {whose}")
    for invoice in campaign.books.invoices:
        if (invoice["series"], invoice["number"]) in campaign.books.voided:
            number = f"{invoice['series']}/{invoice['number']}"
            yield Violation(about=number, told="used, and declared void")


@declare(RULES, "balance", "Every invoice number that was given out is accounted for (M4).")
def no_gap(campaign: world.World) -> Iterator[Violation]:
    """A document has it; and the authority has the invoice, or was told that the number is void.

    One that a person is to look at, or that has not ended, may still be on its way there.
    """
    documents = {(one["series"], one["number"]): one for one in campaign.rows.invoices}
    theirs = {(one["series"], one["number"]) for one in campaign.books.invoices} | campaign.books.voided
    given_out = {
        (series["number"], number)
        for series in campaign.rows.series
        for number in range(1, series["next_number"])
    }
    for series, number in sorted(given_out | theirs):
        document = documents.get((series, number))
        if document is None:
            yield Violation(about=f"{series}/{number}", told="no document has this number")
        elif (series, number) not in given_out:
            yield Violation(about=f"{series}/{number}", told="used, and the series has not come to it")
        elif (series, number) not in theirs and _has_ended(campaign, document):
            told = f"{document['status']} here, and the authority knows nothing of the number"
            yield Violation(about=f"{series}/{number}", told=told)


def _standing(campaign: world.World, order: world.Row) -> list[world.Json]:
    """Of the order's sales, those that are authorised and not taken back in full."""
    invoices = [one for one in campaign.invoices.get(order["saga_id"], ()) if one["status"] == "authorized"]
    returned: collections.Counter[str] = collections.Counter()
    for note in invoices:
        if note["kind"] == "return":
            returned[note["references"]] += note["total"]
    return [one for one in invoices if one["kind"] == "sale" and returned[one["access_key"]] < one["total"]]


def _has_ended(campaign: world.World, document: world.Row) -> bool:
    order = campaign.order_of_saga.get(books.saga_of(document["key"]))
    return order is None or campaign.end(order) in world.ENDS
