"""What do real orders cost, through HTTP and with providers that are asked over HTTP?

The shop itself: payments, inventory, invoicing, shipping, and the sandbox as bank, fiscal authority and
carrier, without delay. *Floor*: the same functions of the same services in a plain Celery chain, on the same
queues and the same workers (`benchmarks/real_chain.py`). *Ours*: the order with its saga. An order counts as
done when the carrier has booked its parcel. Then how fast the API takes orders, from one client and from many
at once, while the workers stand still; and how soon such orders are done while they do not.
"""

import asyncio
import dataclasses
import itertools
import json
import os
import statistics
import time
import uuid
from typing import Any

from benchmarks import documents, measuring, teams, web

CLIENTS = (1, 10, 50)
SERVICES = ("payments", "inventory", "invoicing", "shipping")
SKU = "MUG-STONEWARE"
AWAY = "86400"
"""Parcels stay with the carrier for a day, so that nothing comes after the booking."""

BOOKED = "SELECT count(*) FROM shipping_shipment WHERE tracking <> ''"

BOOKED_AT = (
    "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float FROM shipping_shipment"
    " WHERE key = %s AND tracking <> ''"
)

FIGURES = (
    ("orders_per_s", "orders per second, a backlog", 1),
    ("cpu_ms", "CPU per order, ms (workers and servers)", 1),
    ("statements", "SQL statements per order", 1),
    ("transactions", "transactions per order", 1),
    ("broker_commands", "broker commands per order", 1),
    ("wal_kb", "write-ahead log per order, KB", 1),
    ("submit_ms", "submitting one, ms", 2),
)


@dataclasses.dataclass(frozen=True)
class Real:
    """How an order is submitted to one of the two."""

    name: str
    teams: tuple[str, ...]
    submit: Any
    """Submits an order and returns the key of its delivery."""


def run(*, rounds: int, orders: int, requests: int, followers: int, write: bool) -> None:
    """Measure, print, and write if asked."""
    from saga_project import connections

    connections.allow_many()
    with teams.field("saga_project.settings") as field:
        _sandbox(field)
        shop = web._shop()
        _workers(field)
        compared = _systems()
        answer = {
            "rounds": rounds,
            "orders": orders,
            "systems": _backlogs(field, compared, rounds, orders),
            "idle_ms": _one_at_a_time(field, compared, max(orders // 4, 10)),
            "through_http": asyncio.run(_through(field, shop, orders)),
            # Last, for nobody works off what the API has taken then.
            "api": asyncio.run(_api(field, shop, requests)),
            "streams": asyncio.run(web._streams(shop, followers)) if followers else None,
            "followers": followers,
            "machine": documents.machine(),
        }
    print(table(answer))
    if write:
        (teams.ROOT / "docs" / "benchmarks-orders.json").write_text(json.dumps(answer, indent=2) + "\n")
        documents.write(teams.ROOT / "docs" / "benchmarks.md", "orders", table(answer))


def _sandbox(field: teams.Field) -> None:
    """The outside world, before the settings are read that say where it is."""
    import sys

    from saga_project.local import servers

    url = f"http://127.0.0.1:{(port := servers.free_port())}"
    data = field.place / "sandbox"
    data.mkdir()
    field.enlist(
        "sandbox",
        [[sys.executable, "-m", "sandbox", "--port", str(port), "--data", str(data)]],
        CARRIER_PACE_S=AWAY,
    )
    os.environ.update(
        PAYMENTS_URL=f"{url}/bank",
        INVOICING_URL=f"{url}/fiscal",
        SHIPPING_URL=f"{url}/carrier",
        SANDBOX_URL=url,
    )


def _workers(field: teams.Field) -> None:
    """A worker with two processes for each service, one for all else; and a clock, a team of its own."""
    from saga_project import queues
    from saga_project.celery import app

    rest = [name for name in queues.everything() if name not in SERVICES]
    options = ("--include", "benchmarks.real_chain", "--without-gossip", "--without-mingle")
    commands = [teams.worker("saga_project", name, "-Q", name, *options) for name in SERVICES]
    commands.append(teams.worker("saga_project", "rest", "-Q", ",".join(rest), *options, children=1))
    field.enlist("workers", commands)
    beat = [*teams.CELERY, "-A", "saga_project", "beat", "-s", str(field.place / "beat"), "-l", "ERROR"]
    field.enlist("clock", [beat])
    teams.ready(field, [(app, len(SERVICES) * teams.CHILDREN + 1)])


def _systems() -> list[Real]:
    from django.contrib.auth import get_user_model

    from benchmarks import real_chain
    from orders import services

    owner = get_user_model().objects.get(username="bench")
    wishes = [services.Wish(sku=SKU, quantity=1)]
    customer = services.Customer(name="Alice Souza", email="alice@example.com", tax_id="52998224725")
    card = services.Payment(method="card", token="tok_ok")
    address = services.Address(
        recipient="Alice Souza", street="Avenida Paulista", number="1578", city="São Paulo", state="SP",
        postal_code="01310-100",
    )  # fmt: skip

    def ours() -> str:
        order = services.place(owner=owner, customer=customer, wishes=wishes, payment=card, address=address)
        return f"{order.saga_id}.deliver-order"

    def floor() -> str:
        # The order's own row is what any shop writes; its inputs travel in the messages.
        name = f"floor-{uuid.uuid4()}"
        real_chain.start(name, inputs)
        return f"{name}.deliver-order"

    inputs = _inputs(services, customer, card, address)
    return [Real("floor", ("workers", "sandbox"), floor), Real("ours", ("workers", "sandbox", "clock"), ours)]


def _inputs(services: Any, customer: Any, card: Any, address: Any) -> dict[str, Any]:
    """What the saga is given for such an order."""
    from inventory import services as inventory

    product = inventory.quote(skus=[SKU])[SKU]
    price = {"amount": product.price_amount, "currency": product.currency}
    return {
        "customer": dataclasses.asdict(customer),
        "payment": {"method": card.method, "token": card.token},
        "total": price,
        "lines": [{"sku": SKU, "name": product.name, "quantity": 1, "unit_price": price}],
        "address": dataclasses.asdict(address),
    }


def _backlogs(field: teams.Field, compared: list[Real], rounds: int, orders: int) -> dict[str, Any]:
    for system in compared:
        _backlog(field, system, max(orders // 4, 10))
    runs: dict[str, list[dict[str, float]]] = {system.name: [] for system in compared}
    for number in range(rounds):
        for system in compared if number % 2 == 0 else reversed(compared):
            runs[system.name].append(one := _backlog(field, system, orders))
            print(f"  round {number + 1} {system.name:6} {one['orders_per_s']:5.1f}/s", flush=True)
    pairs = list(zip(runs["floor"], runs["ours"], strict=True))
    return {
        **{
            name: {figure: statistics.median(one[figure] for one in ones) for figure, _, _ in FIGURES}
            for name, ones in runs.items()
        },
        "throughput_ratios": [round(o["orders_per_s"] / f["orders_per_s"], 3) for f, o in pairs],
        "cpu_ratios": [round(o["cpu_ms"] / f["cpu_ms"], 3) for f, o in pairs],
    }


def _backlog(field: teams.Field, system: Real, orders: int) -> dict[str, float]:
    before = field.looker.counters()
    wanted = field.looker.one(BOOKED) + orders
    field.still()
    began = time.perf_counter()
    for _ in range(orders):
        system.submit()
    submitted = time.perf_counter() - began
    counted = [name for name in system.teams if name != "sandbox"]
    cpu = field.cpu_s(*counted)
    with field.turn(*system.teams):
        began = time.perf_counter()
        measuring.wait(lambda: field.looker.one(BOOKED) >= wanted, "the parcels were not booked")
        took = time.perf_counter() - began
        _settle(field)
        cpu = field.cpu_s(*counted) - cpu
    spent = measuring.spent(before, field.looker.counters(), orders)
    return {
        "orders_per_s": orders / took,
        "cpu_ms": cpu * 1000 / orders,
        "statements": spent["statements"],
        "transactions": spent["transactions"],
        "broker_commands": spent["broker_commands"],
        "wal_kb": spent["wal"] / 1000,
        "submit_ms": submitted * 1000 / orders,
    }


def _settle(field: teams.Field) -> None:
    """Let what was booked be recorded."""
    measuring.wait(
        lambda: (
            not field.looker.one(
                "SELECT count(*) FROM sagas_step"
                " WHERE name = 'deliver-order' AND state IN ('pending', 'running')"
            )
        ),
        "bookings were not recorded",
    )


def _one_at_a_time(field: teams.Field, compared: list[Real], orders: int) -> dict[str, dict[str, float]]:
    """Milliseconds from the call to the commit of the booking."""
    took: dict[str, list[float]] = {system.name: [] for system in compared}
    for _, system in itertools.product(range(2), compared):
        with field.turn(*system.teams):
            for number in range(orders // 2 + 1):
                began = time.time()
                key = system.submit()
                measuring.wait(
                    lambda key=key: field.looker.rows(BOOKED_AT, [key]),
                    "a parcel was not booked",
                    pause_s=0.001,
                )
                if number:
                    # The first finds workers that have just been let go on.
                    took[system.name].append((field.looker.one(BOOKED_AT, [key]) - began) * 1000)
    return {name: measuring.quantiles(values) for name, values in took.items()}


async def _api(field: teams.Field, shop: web.Shop, requests: int) -> list[dict[str, float]]:
    """How many submissions a second the API takes, and how long each waits, by how many there are at once."""
    answers = []
    field.still()
    async with web._server(web.SERVERS["ours"]) as (port, processes):
        make = _requests(shop)
        await web._load(port, make, max(CLIENTS), max(CLIENTS))
        for clients in CLIENTS:
            cpu, began = web._cpu_s(processes), time.perf_counter()
            took = await web._load(port, make, max(requests // clients, 1) * clients, clients)
            elapsed, cpu = time.perf_counter() - began, web._cpu_s(processes) - cpu
            answers.append(
                {
                    "clients": clients,
                    "per_s": len(took) / elapsed,
                    "cpu_ms": cpu * 1000 / len(took),
                    **measuring.quantiles([one * 1000 for one in took]),
                }
            )
            print(f"  {clients} clients: {answers[-1]['per_s']:.0f} submissions a second", flush=True)
    return answers


async def _through(field: teams.Field, shop: web.Shop, orders: int) -> float:
    """Orders a second from the first request of ten clients up to the last booking, all on one machine."""
    with field.turn("workers", "sandbox", "clock"):
        async with web._server(web.SERVERS["ours"]) as (port, _):
            make = _requests(shop)
            await web._load(port, make, 10, 10)
            await asyncio.to_thread(_settle, field)
            wanted = field.looker.one(BOOKED) + orders // 10 * 10
            began = time.perf_counter()
            await web._load(port, make, orders, 10)
            await asyncio.to_thread(
                measuring.wait, lambda: field.looker.one(BOOKED) >= wanted, "the parcels were not booked"
            )
            return orders // 10 * 10 / (time.perf_counter() - began)


def _requests(shop: web.Shop) -> Any:
    keys = itertools.count()
    return lambda: shop.request("POST", "/api/v1/orders", shop.order, f"{uuid.uuid4()}-{next(keys)}")


def table(answer: dict[str, Any]) -> str:
    """The answer for people."""
    of = answer["systems"]
    lines = ["| | floor | ours |", "|---|---|---|"]
    for figure, title, digits in FIGURES:
        lines.append(f"| {title} | {of['floor'][figure]:.{digits}f} | {of['ours'][figure]:.{digits}f} |")
    idle = [
        " / ".join(f"{answer['idle_ms'][name][part]:.0f}" for part in ("p50", "p95", "p99"))
        for name in ("floor", "ours")
    ]
    lines += [
        f"| one at a time, p50 / p95 / p99 ms | {' | '.join(idle)} |",
        "",
        f"Ours to floor, median of {answer['rounds']} pairs: throughput {_ratio(of['throughput_ratios'])},"
        f" CPU {_ratio(of['cpu_ratios'])}. Through HTTP, ten clients at once, {answer['through_http']:.1f}"
        " orders a second from the first request to the last booking.",
        "",
        "| POST /orders, workers standing still | a second | p50 / p95 / p99 ms | CPU each, ms |",
        "|---|---|---|---|",
    ]
    for one in answer["api"]:
        waits = " / ".join(f"{one[part]:.0f}" for part in ("p50", "p95", "p99"))
        plural = "client" if one["clients"] == 1 else "clients"
        lines.append(f"| {one['clients']} {plural} | {one['per_s']:.0f} | {waits} | {one['cpu_ms']:.1f} |")
    if streams := answer["streams"]:
        lines += [
            "",
            f"{answer['followers']} streams in one process: {streams['memory KB']:.0f} KB each,"
            f" {streams['idle CPU %']:.1f} % of a core while nothing happens, all have heard after"
            f" {streams['all heard ms']:.0f} ms.",
        ]
    lines += [
        "",
        f"{answer['orders']} orders a run; 2 processes for each of the four services' queues, 1 for the rest,"
        f" 2 of the web; {answer['machine']}.",
    ]
    return "\n".join(lines)


def _ratio(ratios: list[float]) -> str:
    return f"**{statistics.median(ratios):.2f}** ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
