"""Everybody who intervenes in a saga goes through `sagas.console.interventions`, where two may be needed.

Those who answer an approval go through `sagas.console.approving`.
"""

import pathlib
import re

from sagas.console import interventions

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = (
    "saga_project",
    "sagas",
    "api",
    "orders",
    "webhooks",
    "payments",
    "inventory",
    "invoicing",
    "shipping",
    "backoffice",
)
OPERATIONS = "cancel|compensate|retry|resume|ask|resolve|hold|release|extend|skip|close|approve|refuse"
ANSWERS = {"approve", "refuse"}

TABLE = "sagas/console/interventions.py"
CALLERS = (
    {(TABLE, operation) for operation in OPERATIONS.split("|") if operation not in {"cancel", *ANSWERS}}
    | {("orders/services.py", "cancel")}
    | {("sagas/console/approving.py", answer) for answer in ANSWERS}
)
"""Who may call the engine's operations: the table of interventions, an order's owner, who cancels it, and
what takes answers to approvals."""


def test_nobody_calls_an_operation_of_the_engine_past_the_table_of_moves():
    found = {
        (str(path.relative_to(ROOT)), operation)
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        # Trials play persons in tests.
        if (ROOT / "sagas" / "testing") not in path.parents
        for operation in re.findall(rf"\b(?:engine|operations)\.({OPERATIONS})\b", path.read_text())
    }

    assert found == CALLERS


def test_every_intervention_that_cannot_be_taken_back_needs_two_where_two_are_asked_for(settings):
    settings.SAGAS_FOUR_EYES = True
    alone = {
        name
        for name, intervention in interventions.INTERVENTIONS.items()
        if not interventions.needs_two(intervention)
    }

    # They carry on with what was decided, under the same key, or say when: see docs/operations.md.
    assert alone == {"resume", "retry", "ask", "hold", "release", "extend"}
