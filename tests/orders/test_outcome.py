"""Whoever looks on reads in the log how each order ended, and why: in words that name nobody."""

import io
import json
import re
from typing import Any

import pytest
from django.core import management

from inventory import services as inventory
from orders import models, outcome
from saga_project.local import runfile, terminal
from sagas.testing import memory_transport
from tests.orders.conftest import Api, order
from tests.sandbox.running import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Any:
    """The lines so far."""
    caplog.set_level("INFO", outcome.logger.name)
    return lambda: [record.getMessage() for record in caplog.records if record.name == outcome.logger.name]


def test_an_order_that_is_fulfilled_is_a_line(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox, told: Any
) -> None:
    price = {"amount": 2990, "currency": "BRL"}
    inventory.introduce(sku="EBOOK-TEA", name="Tea, e-book", price=price, quantity=10, ships=False)

    placed = ana.order(order(lines=[{"sku": "EBOOK-TEA", "quantity": 1}])).json()
    assert told() == []
    broker.deliver_all()

    (line,) = told()
    assert re.fullmatch(rf"{placed['number']} fulfilled in \d+\.\d s", line)


def test_an_order_that_is_turned_back_is_a_line_with_the_reason(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox, told: Any
) -> None:
    placed = ana.order(order(payment={"method": "card", "token": "tok_declined"})).json()
    broker.deliver_all()

    (line,) = told()
    assert re.fullmatch(
        rf"{placed['number']} cancelled in \d+\.\d s: The payment was declined, or not made in time\.", line
    )


def test_an_order_that_needs_a_person_is_a_line_with_its_number(
    ana: Api,
    broker: memory_transport.MemoryTransport,
    sandbox: Sandbox,
    told: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hurt = order(payment={"method": "card", "token": "tok_refund_refused"})
    hurt["customer"]["tax_id"] = "00000000191"
    placed = ana.order(hurt).json()
    broker.deliver_all()

    why = "take-payment cannot be undone: POST charges: 409 refund_refused"
    assert told() == [f"{placed['number']} needs a person: {why}"]
    # What the engine says of the same is two sentences, and the terminal of `make up` knows it again.
    (alert,) = [r.getMessage() for r in caplog.records if r.name == "sagas" and r.levelname == "ERROR"]
    assert f"{why}. Settle it with the provider" in alert
    assert terminal.TOLD_AS_AN_ORDER.match(alert)


def test_what_the_customer_wrote_is_not_in_the_line(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox, told: Any
) -> None:
    placed = ana.order(order(payment={"method": "pix"})).json()
    broker.deliver_all()
    ana.post(f"/orders/{placed['id']}/cancel", {"reason": "My neighbour Bob has one"})
    broker.deliver_all()

    assert models.Order.objects.get().cancel_reason
    (line,) = told()
    assert line.endswith(": The order was cancelled on request.")


def test_the_readme_prints_what_the_shell_shows_of_such_an_order(
    ana: Api, broker: memory_transport.MemoryTransport, sandbox: Sandbox
) -> None:
    rejected = {"name": "Ana", "email": "ana@example.com", "tax_id": "00000000191"}
    number = ana.order(order(customer=rejected)).json()["number"]
    broker.deliver_all()
    said, listed, data = io.StringIO(), io.StringIO(), io.StringIO()
    management.call_command("saga", "show", number, stdout=said)
    management.call_command("saga", "list", stdout=listed)
    management.call_command("saga", "list", "--json", stdout=data)

    readme = (runfile.ROOT / "README.md").read_text()
    (shown,) = re.findall(r"^```console\n\$ \S+ manage\.py saga show \S+\n(.*?)^```", readme, re.M | re.S)
    assert steady(said.getvalue()) == steady(shown)
    # The list calls it as people do.
    assert number in listed.getvalue().splitlines()[1]
    assert json.loads(data.getvalue())["number"] == number


def steady(text: str) -> list[str]:
    """Without what differs from run to run: ids, times, and the bars made of them."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text)
    return [re.sub(r"\|.*|\d[\d.]* m?s$", "", line).rstrip() for line in text.splitlines()]
