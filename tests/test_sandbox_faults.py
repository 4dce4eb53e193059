"""Services while their providers fail: errors and lost replies. At the end the books must agree."""

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from invoicing import audit as invoices
from invoicing import services as invoicing
from payments import audit as charges
from payments import services as payments
from shipping import audit as shipments
from shipping import services as shipping
from tests.invoicing import examples as invoicing_examples
from tests.payments import examples as payments_examples
from tests.shipping import examples as shipping_examples
from tests.support import step_functions

pytestmark = pytest.mark.django_db

ROUNDS = 15
SEED = int(os.environ.get("SEED", "20260314"))
FAULTS = {"error_rate": 0.25, "lost_reply_rate": 0.15, "latency_ms": [0, 5], "seed": SEED}

ROOMS: dict[str, tuple[Any, Any, str, Callable[[str], dict[str, Any]]]] = {
    "payments": (
        payments,
        charges,
        "charges",
        lambda key: payments_examples.functions(key, payments_examples.card()),
    ),
    "payments-pix": (
        payments,
        charges,
        "charges",
        lambda key: payments_examples.functions(key, payments_examples.PIX),
    ),
    "invoicing": (invoicing, invoices, "invoices", invoicing_examples.functions),
    "shipping": (shipping, shipments, "shipments", shipping_examples.functions),
}


@pytest.mark.parametrize("room", ROOMS)
def test_after_many_faults_the_books_agree(sandbox, room):
    services, audit, book, functions_of = ROOMS[room]
    dice = random.Random(f"{room} {SEED}")
    sandbox.post("/faults", FAULTS)
    stands = {}
    for number in range(ROUNDS):
        key = step_functions.key(number, room)
        calls = {**functions_of(key), "ask": lambda key=key: services.ask(key=key)}
        turns_back = dice.random() < 0.5
        for call in dice.choices(["do", "ask", "undo"], [4, 2, 2 * turns_back], k=dice.randint(1, 5)):
            step_functions.attempt(calls[call], services)
        # As the engine would: forward until it is done, or back until nothing is left.
        step_functions.settle(calls["undo" if turns_back else "do"], services)
        stands[key] = not turns_back

    positions = audit.positions(keys=stands)
    assert {key: position["in_effect"] for key, position in positions.items()} == stands, f"SEED={SEED}"
    assert list(audit.within()) == []
    assert list(audit.against(sandbox.books()[book], keys=stands)) == []
