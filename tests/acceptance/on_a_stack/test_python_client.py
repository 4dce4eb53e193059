"""The Python client against the whole stack: its README as it stands, and messages that reach a developer."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from typing import Any

import httpx
import pytest

import saga_orders
from saga_orders import Address, Card, Client, Customer, Line, OrderEvent, Pix, StepEvent
from saga_project.local import supervisor
from tests.support import waiting
from tests.webhooks import receiver
from tests.webhooks.listener import listener

ROOT = pathlib.Path(__file__).resolve().parents[3]
README = (ROOT / "clients/python/README.md").read_text()

pytestmark = pytest.mark.timeout(300)

WISH: dict[str, Any] = {
    "customer": Customer(name="Ana Souza", email="ana@example.com", tax_id="529.982.247-25"),
    "shipping_address": Address(
        recipient="Ana Souza", street="Rua das Flores", number="12-A", city="São Paulo", state="SP",
        postal_code="01310-100",
    ),
}  # fmt: skip

USES = """
import json

import httpx

WISH = dict(
    customer=Customer(name="Ana Souza", email="ana@example.com", tax_id="529.982.247-25"),
    lines=[Line(sku=product.sku, quantity=1)],
    shipping_address=Address(recipient="Ana Souza", street="Rua das Flores", number="12-A", city="São Paulo",
                             state="SP", postal_code="01310-100"),
)
by_card = WISH | {"payment": Card(token="tok_ok"), "idempotency_key": "cart-7"}
codes = []


def pay(code):
    codes.append(code)
    waiting = [order.payment for order in client.orders(status="pending") if order.payment]
    (charge,) = [one.key for one in waiting if one.pix and one.pix.copy_paste == code]
    httpx.post(f"{os.environ['SANDBOX_URL']}/pix/{charge}/pay").raise_for_status()


with Client(os.environ["WEB_URL"], os.environ["API_TOKEN"]) as client:
    numbers = [place_surely(client, **by_card) for _ in range(2)]
    found = client.get(numbers[0])
    client.wait(found)
    said = {
        "numbers": numbers,
        "pix": pay_by_pix(client, pay, **WISH),
        "codes": codes,
        "cancelled": cancel(client, client.place(**WISH, payment=Pix())),
        "too late": cancel(client, found),
        "of today": found.number in of_today(client),
        "complaints": complaints(client, **WISH | {"lines": [Line(sku="NONE")]}, payment=Pix()),
    }
with Client(os.environ["WEB_URL"], os.environ["MERCHANT_TOKEN"]) as client:
    last = catch_up(client, None)
    logged = client.place(**WISH, payment=Pix(), idempotency_key="logged")
    # What was placed just before may come first; what is awaited comes, or the program is ended.
    placed = client.events(after=last, types="order.placed", every=0.2)
    said["placed"] = any(message.order.number == logged.number for message in placed)
print(json.dumps(said))
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", README, re.DOTALL | re.MULTILINE)


def run(stack: dict[str, str], code: str) -> list[str]:
    """What a program prints that has the client, and the stack's variables."""
    done = subprocess.run(
        [sys.executable, "-"],
        input=code,
        cwd=ROOT,
        env=stack | {"PYTHONPATH": str(ROOT / "clients/python/src")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_the_first_example_of_its_readme_runs_and_prints_what_it_shows(stack: dict[str, str]) -> None:
    (shown,) = blocks("text")

    printed = run(stack, blocks("python")[0])

    figures = re.compile(r"\d{4,}|(?<=ORD-)\w{8}")
    assert [figures.sub("#", line) for line in printed] == [
        figures.sub("#", line) for line in shown.splitlines()
    ]


def test_all_else_of_its_readme_runs(stack: dict[str, str]) -> None:
    made = subprocess.run(
        [sys.executable, "manage.py", "token", "create", "local-customer", "--scope", "merchant"],
        cwd=ROOT, env=stack, capture_output=True, text=True, check=True,
    )  # fmt: skip
    merchant = {"MERCHANT_TOKEN": made.stdout.strip()}
    printed = run(stack | merchant, "\n\n".join([*blocks("python"), USES]))

    said = json.loads(printed[-1])
    assert "take-payment" in "".join(printed), "the asynchronous client followed the order"
    assert len(set(said["numbers"])) == 1
    assert said["pix"] == "fulfilled"
    assert len(said["codes"]) == 1
    assert said["cancelled"].startswith("undoing")
    assert said["too late"] == "it is fulfilled"
    assert said["of today"] is True
    assert said["placed"] is True
    assert said["complaints"] == ["/lines/0/sku: There is no such product; GET /api/v1/products lists them."]


def test_a_web_server_that_is_killed_costs_time_only(stack: dict[str, str]) -> None:
    with Client(stack["WEB_URL"], stack["API_TOKEN"], retries=30) as client:
        lines = [Line(sku=next(client.products()).sku)]
        order = client.place(**WISH, lines=lines, payment=Pix())
        events = client.follow(order)
        seen = []
        for event in events:
            seen.append(event)
            if isinstance(event, StepEvent) and event.to == "waiting":
                break

        os.kill(supervisor.processes(pathlib.Path(stack["RUN_DIR"]))["web"], signal.SIGKILL)
        meanwhile = client.place(**WISH, lines=lines, payment=Card(token="tok_ok"), reference="meanwhile")
        paid = httpx.post(f"{stack['SANDBOX_URL']}/pix/{client.get(order).payment.key}/pay")
        assert paid.is_success
        seen += events

        assert isinstance(seen[-1], OrderEvent)
        assert seen[-1].status == "fulfilled"
        ids = [int(event.id) for event in seen]
        assert ids == sorted(set(ids))
        assert client.wait(meanwhile).status == "fulfilled"
        assert [one.id for one in client.orders(reference="meanwhile")] == [meanwhile.id]


def test_what_the_stack_delivers_comes_to_a_terminal_and_is_forwarded_with_its_signature(
    stack: dict[str, str], tmp_path: pathlib.Path
) -> None:
    with (
        receiver.receiving() as shop,
        listener(tmp_path, "local-customer", "--forward-to", shop.url, environment=stack) as listening,
        Client(stack["WEB_URL"], stack["API_TOKEN"]) as client,
    ):
        lines = [Line(sku=next(client.products()).sku)]
        order = client.place(**WISH, lines=lines, payment=Card(token="tok_ok"))
        waiting.until(
            lambda: [line for line in listening.lines if "order.fulfilled" in line and order.number in line],
            "the end of the order is printed",
        )

    assert all(line.endswith("-> 204") for line in listening.lines)
    told = [saga_orders.verify(body, headers, listening.secret) for headers, body in shop.heard]
    assert told[-1].type == "order.fulfilled"
    assert told[-1].order is not None
    assert told[-1].order.id == order.id
    assert [message.step.name for message in told if message.step and message.step.status == "done"] == [
        "take-payment", "reserve-stock", "issue-invoice", "deliver-order",
    ]  # fmt: skip
