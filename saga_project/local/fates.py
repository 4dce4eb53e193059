"""What may become of an order in the sandbox's world, and what must have come of it in the end.

The demo places one order for each, and the table below is what it holds them to.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

STEPS = ("payment", "stock", "invoice", "delivery")
"""What the table shows of each order."""

EBOOK = "EBOOK-COFFEE"
DEAR = "ARMCHAIR-OAK"
DEAR_QUANTITY = 8
"""Comes to more than an order may without a review."""

GOOD_TAX_ID = "529.982.247-25"
REJECTED_TAX_ID = "000.000.001-91"

Json = dict[str, Any]


def card(token: str) -> Json:
    """Paid at once, with a token that decides how the bank behaves."""
    return {"method": "card", "token": token}


PIX: Json = {"method": "pix"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fate:
    """An order, and its end: what each of the four steps became, and what the order became."""

    name: str
    payment: Json = dataclasses.field(default_factory=lambda: card("tok_ok"))
    tax_id: str = GOOD_TAX_ID
    postal_code: str = "01310-100"
    sku: str = ""
    """What is ordered; empty where that makes no difference."""
    quantity: int = 1

    steps: tuple[str, str, str, str] = ("done", "done", "done", "done")
    """`done`; `undone`: it happened and was undone; `failed`: it never happened; `stuck`: its undo was
    refused; `-`: its turn never came."""

    ends: tuple[str, ...] = ("fulfilled",)
    """The states in which it may end."""

    meddle: str = ""
    """What the customer does meanwhile: pays late, cancels ..."""

    review: str = ""
    """What the shop says of it before it is paid: yes or no; empty where nobody is asked."""

    takes_long: bool = False
    """Nobody waits for its end before the crowd comes."""


ALL_UNDONE = ("undone", "undone", "undone", "undone")

FATES = [
    Fate(name="card accepted"),
    Fate(name="PIX, paid late but in time", payment=PIX, meddle="pay late"),
    Fate(name="PIX, never paid", payment=PIX, steps=("undone", "-", "-", "-"), ends=("cancelled",)),
    Fate(
        name="PIX, paid after cancelling",
        payment=PIX,
        steps=("undone", "-", "-", "-"),
        ends=("cancelled",),
        meddle="cancel, then pay",
    ),
    Fate(
        name="card declined",
        payment=card("tok_declined"),
        steps=("failed", "-", "-", "-"),
        ends=("cancelled",),
    ),
    Fate(name="bank fails twice", payment=card("tok_flaky")),
    Fate(name="charged, but reply lost", payment=card("tok_lost_reply")),
    Fate(name="bank is down", payment=card("tok_down"), steps=("failed", "-", "-", "-"), ends=("cancelled",)),
    Fate(
        name="invoice rejected",
        tax_id=REJECTED_TAX_ID,
        steps=("undone", "undone", "failed", "-"),
        ends=("cancelled",),
    ),
    Fate(
        name="rejected, refund fails thrice",
        payment=card("tok_refund_flaky"),
        tax_id=REJECTED_TAX_ID,
        steps=("undone", "undone", "failed", "-"),
        ends=("cancelled",),
    ),
    Fate(
        name="rejected, refund refused",
        payment=card("tok_refund_refused"),
        tax_id=REJECTED_TAX_ID,
        steps=("stuck", "undone", "failed", "-"),
        ends=("attention",),
    ),
    Fate(
        name="booking refused",
        postal_code="99999-001",
        steps=("undone", "undone", "undone", "failed"),
        ends=("cancelled",),
    ),
    Fate(name="delivery fails", postal_code="99999-002", steps=ALL_UNDONE, ends=("cancelled",)),
    Fate(
        name="carrier never reports",
        postal_code="99999-003",
        steps=ALL_UNDONE,
        ends=("cancelled",),
        takes_long=True,
    ),
    Fate(
        name="customer cancels in flight",
        postal_code="99999-003",
        steps=ALL_UNDONE,
        ends=("cancelled",),
        meddle="cancel",
    ),
    Fate(name="same order sent twice at once", meddle="send twice"),
    Fate(name="digital goods", sku=EBOOK, steps=("done", "done", "done", "-")),
    Fate(name="dear, and accepted", sku=DEAR, quantity=DEAR_QUANTITY, review="yes"),
    Fate(
        name="dear, and not accepted",
        sku=DEAR,
        quantity=DEAR_QUANTITY,
        review="no",
        steps=("-", "-", "-", "-"),
        ends=("cancelled",),
    ),
]

CROWD = [
    # (of a hundred, fate)
    (55, Fate(name="card accepted")),
    # A worker that dies with the charge in its hands is missed for longer than a customer here has to pay.
    (10, Fate(name="PIX, in time or too late", payment=PIX, ends=("fulfilled", "cancelled"), meddle="pay")),
    # Two failures that are certain, and random faults on top: five attempts may not be enough.
    (8, Fate(name="bank fails twice", payment=card("tok_flaky"), ends=("fulfilled", "cancelled"))),
    (5, Fate(name="charged, but reply lost", payment=card("tok_lost_reply"))),
    (4, Fate(name="bank takes two seconds", payment=card("tok_slow"))),
    (5, Fate(name="card declined", payment=card("tok_declined"), ends=("cancelled",))),
    (5, Fate(name="invoice rejected", tax_id=REJECTED_TAX_ID, ends=("cancelled",))),
    (4, Fate(name="booking refused", postal_code="99999-001", ends=("cancelled",))),
    (4, Fate(name="delivery fails", postal_code="99999-002", ends=("cancelled",))),
]
assert sum(share for share, _ in CROWD) == 100


def crowd(size: int, seed: int, shares: Sequence[tuple[int, Fate]] = CROWD) -> list[Fate]:
    """A crowd with these shares, in an order that the seed decides."""
    people = [fate for share, fate in shares for _ in range(round(size * share / 100))]
    random.Random(seed).shuffle(people)  # noqa: S311 - Chance, not secrecy.
    return people


REVIEWS = {
    "yes": ("approve", "A customer of many years."),
    "no": ("refuse", "Nobody there answers."),
}
"""What the shop does who is asked whether it accepts an order, and why, by `Fate.review`."""


def body(fate: Fate, sku: str) -> Json:
    """The order as it goes over the wire; of this product, unless its fate asks for another."""
    order: Json = {
        "customer": {"name": "Alice Souza", "email": "alice@example.com", "tax_id": fate.tax_id},
        "lines": [{"sku": fate.sku or sku, "quantity": fate.quantity}],
        "payment": fate.payment,
        "shipping_address": {
            "recipient": "Alice Souza",
            "street": "Avenida Paulista",
            "number": "1578",
            "city": "São Paulo",
            "state": "SP",
            "postal_code": fate.postal_code,
            "country": "BR",
        },
        "reference": fate.name[:64],
    }
    if fate.sku == EBOOK:
        del order["shipping_address"]  # Nothing of it ships.
    return order


def became(order: Json) -> tuple[str, ...]:
    """What each step of an order became, in the words of `Fate.steps`.

    What failed is undone too, for nobody can be sure that it did not happen. Whether there was anything
    to undo shows in what it left behind: a reference, a number, a tracking code.
    """
    steps = order["saga"]["steps"][-len(STEPS) :]
    left_behind = {
        "payment": order["payment"]["provider_ref"],
        "stock": steps[1]["error"] is None,
        "invoice": order["invoice"]["number"],
        "delivery": order["shipment"] and order["shipment"]["tracking"],
    }
    words = {"pending": "-", "skipped": "-", "undo_failed": "stuck"}
    return tuple(
        "failed"
        if step["status"] == "undone" and not left_behind[name]
        else words.get(step["status"], step["status"])
        for name, step in zip(STEPS, steps, strict=True)
    )


def review(order: Json) -> str:
    """The name of the step at which the shop is asked whether it accepts the order; empty where it is not."""
    before = order["saga"]["steps"][: -len(STEPS)]
    return next((str(step["name"]) for step in before if step["status"] == "waiting"), "")
