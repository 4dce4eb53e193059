"""How many can a web process serve, and who can stop it?

The same requests to three servers with two processes each, turn by turn: *ours*; *django*, which is the same
server with Django's own ASGI handler; and, where gunicorn is installed, *threads*, its gthread worker with 32
threads. Then a thousand connections that send half a request, while somebody else asks. Last a thousand
streams in one process of ours, and one order that all of them follow and that moves.
"""

import asyncio
import collections.abc
import contextlib
import dataclasses
import importlib.util
import itertools
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
import uuid
from typing import Any

import psutil

from benchmarks import documents

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
CLIENTS = 16
PATIENCE_S = 5.0
"""How long somebody waits for an answer during the attack."""

HALF = b"POST /api/v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
GUNICORN = ["gunicorn", "benchmarks.doors:by_wsgi", "--worker-class=gthread", "--threads=32"]
SERVERS = {
    "threads": [*GUNICORN, "--workers=2", "--no-control-socket", f"--bind={HOST}:%d"],
    "django": [
        *("uvicorn", "benchmarks.doors:by_asgi", "--lifespan=off"),
        *("--no-access-log", "--workers=2", f"--host={HOST}", "--port=%d"),
    ],
    "ours": ["saga_project.web", "--workers=2", f"--host={HOST}", "--port=%d"],
}
ALONE = ["saga_project.web", "--workers=1", f"--host={HOST}", "--port=%d"]


@dataclasses.dataclass
class Shop:
    """Somebody's token, and an order to place."""

    token: str
    order: bytes

    def request(self, method: str, path: str, body: bytes = b"", key: str = "") -> bytes:
        """The bytes of a request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Token {self.token}"]
        if key:
            lines.append(f"Idempotency-Key: {key}")
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


def run(*, rounds: int, requests: int, connections: int, write: bool) -> None:
    """Measure, print, and write if asked."""
    from saga_project import connections as server_connections

    server_connections.allow_many()
    shop = _shop()
    names = [name for name in SERVERS if name != "threads" or importlib.util.find_spec("gunicorn")]
    if "threads" not in names:
        print("gunicorn is not installed, so its threads are not measured: pip install gunicorn")
    measured: dict[str, dict[str, list[Any]]] = {name: {} for name in names}
    for number in range(rounds):
        # Who goes first changes, so that nobody always runs on the warmer machine.
        for name in names if number % 2 == 0 else reversed(names):
            for question, figures in asyncio.run(_loads(name, shop, requests)).items():
                measured[name].setdefault(question, []).append(figures)
            print(f"  round {number + 1} {name}: {measured[name]['POST /orders'][-1][0]:.0f} orders/s")
    for name in names:
        measured[name]["attack"] = [asyncio.run(_attack(name, connections))]
    answer = {
        "servers": {name: _medians(of) for name, of in measured.items()},
        "streams": asyncio.run(_streams(shop, connections)),
        "connections": connections,
        "machine": documents.machine(),
    }
    print(_table(answer))
    if write:
        (ROOT / "docs" / "benchmarks-web.json").write_text(json.dumps(answer, indent=2) + "\n")
        documents.write(ROOT / "docs" / "benchmarks.md", "web", _table(answer))


def _shop() -> Shop:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saga_project.settings")
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.core import management

    from api import tokens
    from saga_project.local import fates

    management.call_command("migrate", verbosity=0)
    management.call_command("seed_catalogue", verbosity=0)
    user, _ = get_user_model().objects.get_or_create(username="bench")
    _, token = tokens.create(user=user, name="bench")
    return Shop(token, json.dumps(fates.body(fates.Fate(name="bench"), "MUG-STONEWARE")).encode())


async def _loads(name: str, shop: Shop, requests: int) -> dict[str, tuple[float, float, float, float]]:
    """By question: answers per second, median and 95th percentile in ms, CPU per answer in ms."""
    keys = itertools.count()
    questions: dict[str, collections.abc.Callable[[], bytes]] = {
        "GET /livez": lambda: shop.request("GET", "/livez"),
        "GET /products": lambda: shop.request("GET", "/api/v1/products?limit=5"),
        "POST /orders": lambda: shop.request(
            "POST", "/api/v1/orders", shop.order, f"{uuid.uuid4()}-{next(keys)}"
        ),
    }
    figures = {}
    async with _server(SERVERS[name]) as (port, processes):
        for question, make in questions.items():
            await _load(port, make, CLIENTS * 4)
            cpu, began = _cpu_s(processes), time.perf_counter()
            took = await _load(port, make, requests)
            elapsed, cpu = time.perf_counter() - began, _cpu_s(processes) - cpu
            ms = statistics.quantiles([one * 1000 for one in took], n=20)
            figures[question] = (len(took) / elapsed, ms[9], ms[18], cpu * 1000 / len(took))
    return figures


async def _load(
    port: int, make: collections.abc.Callable[[], bytes], requests: int, clients: int = CLIENTS
) -> list[float]:
    """How long each answer took, in seconds; of several clients at once, each asking one after the other."""

    async def client() -> list[float]:
        took = []
        link = None
        for _ in range(requests // clients):
            began = time.perf_counter()
            link = link or await asyncio.open_connection(HOST, port)
            link[1].write(make())
            status, closes = await _read(link[0])
            assert status < 400, f"answered {status}"
            took.append(time.perf_counter() - began)
            if closes:
                link[1].close()
                link = None
        if link:
            link[1].close()
        return took

    return list(itertools.chain(*await asyncio.gather(*(client() for _ in range(clients)))))


async def _read(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"content-length: " in head:
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    else:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    return int(head.split(b" ")[1]), b"connection: close" in head


async def _attack(name: str, connections: int) -> tuple[int, float]:
    """Of ten that ask while so many have sent half a request: how many are answered, the slowest in ms."""
    async with _server(SERVERS[name]) as (port, _), contextlib.AsyncExitStack() as stack:
        for _ in range(connections):
            _, writer = await asyncio.open_connection(HOST, port)
            stack.callback(writer.close)
            writer.write(HALF)
        took = []
        for _ in range(10):
            began = time.perf_counter()
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(PATIENCE_S):
                    reader, writer = await asyncio.open_connection(HOST, port)
                    stack.callback(writer.close)
                    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    await _read(reader)
                    took.append((time.perf_counter() - began) * 1000)
        return len(took), max(took, default=0)


async def _streams(shop: Shop, connections: int) -> dict[str, float]:
    """What so many streams of one process cost, and how soon all of them hear."""
    from orders import models

    many = {"FOLLOWERS_PER_PROCESS": str(connections), "FOLLOWERS_PER_CALLER": str(connections)}
    async with _server(ALONE, **many) as (port, processes), contextlib.AsyncExitStack() as stack:
        await _load(
            port, lambda: shop.request("POST", "/api/v1/orders", shop.order, str(uuid.uuid4())), CLIENTS
        )
        order = await asyncio.to_thread(lambda: str(models.Order.objects.latest("created_at").pk))
        before, readers = _memory(processes), []
        began = time.perf_counter()
        for _ in range(connections):
            reader, writer = await asyncio.open_connection(HOST, port)
            stack.callback(writer.close)
            writer.write(shop.request("GET", f"/api/v1/orders/{order}/events"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head, head
            await reader.readuntil(b'"pending"}')
            readers.append(reader)
        opened, memory = time.perf_counter() - began, _memory(processes) - before
        cpu, began = _cpu_s(processes), time.perf_counter()
        await asyncio.sleep(30)  # Two heartbeats.
        idle = (_cpu_s(processes) - cpu) / (time.perf_counter() - began)
        began = time.perf_counter()
        _, writer = await asyncio.open_connection(HOST, port)
        stack.callback(writer.close)
        body = b'{"reason": "to see how soon they hear"}'
        writer.write(shop.request("POST", f"/api/v1/orders/{order}/cancel", body))
        for reader in readers:
            await reader.readuntil(b'"cancelled"}')
        return {
            "per second opened": connections / opened,
            "memory KB": memory / connections / 1024,
            "idle CPU %": idle * 100,
            "all heard ms": (time.perf_counter() - began) * 1000,
        }


@contextlib.asynccontextmanager
async def _server(
    command: list[str], **more: str
) -> collections.abc.AsyncIterator[tuple[int, list[psutil.Process]]]:
    from saga_project.local import servers

    port = servers.free_port()
    unlimited = {"API_RATE": "1000000", "API_BURST": "1000000"}
    process = subprocess.Popen(
        [sys.executable, "-m", *(word.replace("%d", str(port)) for word in command)],
        env=os.environ | unlimited | more,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(HOST, port)
                writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await _read(reader)
                writer.close()
                break
            await asyncio.sleep(0.1)
        yield port, [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _cpu_s(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def _memory(processes: list[psutil.Process]) -> int:
    return sum(process.memory_info().rss for process in processes)


def _medians(of: dict[str, list[Any]]) -> dict[str, list[float]]:
    return {
        question: [statistics.median(column) for column in zip(*rounds, strict=True)]
        for question, rounds in of.items()
    }


def _table(answer: dict[str, Any]) -> str:
    servers, streams = answer["servers"], answer["streams"]
    lines = [
        f"| | {' | '.join(servers)} |",
        f"|---|{'---|' * len(servers)}",
    ]
    for question in ("GET /livez", "GET /products", "POST /orders"):
        for title, place, digits in (
            ("per second", 0, 0), ("p50, ms", 1, 0), ("p95, ms", 2, 0), ("CPU each, ms", 3, 1),
        ):  # fmt: skip
            cells = [f"{of[question][place]:.{digits}f}" for of in servers.values()]
            lines.append(f"| {question}: {title} | {' | '.join(cells)} |")
    attacked = [
        f"{of['attack'][0]:.0f} of 10" + (f", {of['attack'][1]:.0f} ms" if of["attack"][0] else "")
        for of in servers.values()
    ]
    lines += [
        f"| answered within {PATIENCE_S:.0f} s beside {answer['connections']} half-sent requests, slowest |"
        f" {' | '.join(attacked)} |",
        "",
        f"{answer['connections']} streams in one process of ours: {streams['memory KB']:.0f} KB of memory"
        f" each, {streams['idle CPU %']:.1f} % of a core while nothing happens; opened at"
        f" {streams['per second opened']:.0f} a second; when their order moves, all have heard after"
        f" {streams['all heard ms']:.0f} ms.",
        "",
        f"{CLIENTS} clients at once; {answer['machine']}.",
    ]
    return "\n".join(lines)
