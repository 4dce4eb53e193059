"""What do a saga's guarantees cost, against a plain Celery chain that does the same work?

Four local steps, each one statement in a transaction. *Floor*: a Celery chain with an error callback,
which keeps no promise. *Ours*: the same functions as a saga, every promise kept. Both run on the same
workers, the same PostgreSQL (fsync on) and the same Valkey, turn by turn in one run; what counts is the
ratio of neighbours. The machine's mood changes both.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Protocol

import psutil

from benchmarks import documents

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKERS, CHILDREN = 2, 2
PATIENCE_S = 120


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run of one system: a backlog of so many orders, from the first taken up to the last ended."""

    system: str
    workload: str
    orders_per_s: float
    cpu_ms: float
    statements: float
    transactions: float
    broker_commands: float
    submit_ms: float


class System(Protocol):
    """Something that orders can be given to."""

    name: str

    def submit(self, order: str) -> None:
        """Give it an order."""

    def ended(self, prefix: str) -> int:
        """How many orders with that prefix have ended, either way."""


def run(*, rounds: int, orders: int, write: bool) -> None:
    """Measure, print, and write if asked."""
    with stack() as processes:
        # Only now is there a database for the settings to name.
        from benchmarks import systems

        floor, ours = systems.Floor(), systems.Ours()
        for system in (floor, ours):
            _measure(system, "warm-up", orders // 3, failing=0.2, processes=processes)
        measured = []
        for number in range(rounds):
            for workload, failing in (("all succeed", 0.0), ("20 % fail", 0.2)):
                # Who goes first changes, so that neither always runs on the warmer machine.
                for system in (floor, ours) if number % 2 == 0 else (ours, floor):
                    one = _measure(system, workload, orders, failing=failing, processes=processes)
                    measured.append(one)
                    print(f"  round {number + 1} {workload:12} {system.name:6} {one.orders_per_s:6.0f}/s")
        latencies = _latencies([floor, ours], orders=max(orders // 6, 20))
        answer = _answer(measured, latencies, rounds, orders)
    print(_table(answer))
    if write:
        (ROOT / "docs" / "benchmarks.json").write_text(json.dumps(answer, indent=2) + "\n")
        documents.write(ROOT / "docs" / "benchmarks.md", "guarantees", _table(answer))


def _measure(
    system: System, workload: str, orders: int, *, failing: float, processes: list[psutil.Process]
) -> Measured:
    from benchmarks import systems

    prefix = f"{system.name}-{workload.replace(' ', '')}-{time.time_ns()}-"
    every = round(1 / failing) if failing else 0
    before = systems.counters()
    with paused(processes):
        began = time.perf_counter()
        for number in range(orders):
            refused = "-refused" if every and number % every == 0 else ""
            system.submit(f"{prefix}{number}{refused}")
        submitted = time.perf_counter() - began
        cpu_before = _cpu_s(processes)
        began = time.perf_counter()
    await_(lambda: system.ended(prefix) >= orders, f"{system.name} did not end its orders")
    took = time.perf_counter() - began
    cpu = _cpu_s(processes) - cpu_before
    spent = {name: (value - before[name]) / orders for name, value in systems.counters().items()}
    return Measured(
        system=system.name,
        workload=workload,
        orders_per_s=orders / took,
        cpu_ms=cpu * 1000 / orders,
        submit_ms=submitted * 1000 / orders,
        **spent,
    )


@contextlib.contextmanager
def paused(processes: list[psutil.Process]) -> Iterator[None]:
    """Stop the workers meanwhile, so that they find a backlog, and submitting competes with nobody."""
    workers = [process for process in processes if "celery" in " ".join(process.cmdline())]
    for process in workers:
        process.suspend()
    try:
        yield
    finally:
        for process in workers:
            process.resume()


def _latencies(systems: list[Any], orders: int) -> dict[str, list[float]]:
    """Milliseconds from the call to the end, one order at a time, turn by turn."""
    latencies: dict[str, list[float]] = {system.name: [] for system in systems}
    for number in range(orders):
        for system in systems:
            prefix = f"{system.name}-idle-{time.time_ns()}-{number}"
            began = time.perf_counter()
            system.submit(prefix)
            await_(
                lambda system=system, prefix=prefix: system.ended(prefix) >= 1, "an order did not end", 0.001
            )
            latencies[system.name].append((time.perf_counter() - began) * 1000)
    return latencies


def _answer(
    measured: list[Measured], latencies: dict[str, list[float]], rounds: int, orders: int
) -> dict[str, Any]:
    names = [
        field.name for field in dataclasses.fields(Measured) if field.type == "float" or field.type is float
    ]
    workloads: dict[str, Any] = {}
    for workload in ("all succeed", "20 % fail"):
        rows = {
            system: [one for one in measured if one.workload == workload and one.system == system]
            for system in ("floor", "ours")
        }
        pairs = zip(rows["floor"], rows["ours"], strict=True)
        workloads[workload] = {
            **{
                system: {name: statistics.median(getattr(one, name) for one in ones) for name in names}
                for system, ones in rows.items()
            },
            "throughput_ratio": statistics.median(o.orders_per_s / f.orders_per_s for f, o in pairs),
            "throughput_ratios": [
                round(o.orders_per_s / f.orders_per_s, 3)
                for f, o in zip(rows["floor"], rows["ours"], strict=True)
            ],
        }
    return {
        "rounds": rounds,
        "orders": orders,
        "workers": f"{WORKERS} x {CHILDREN} prefork",
        "machine": documents.machine(),
        "workloads": workloads,
        "idle_ms": {
            system: {
                "p50": statistics.median(values),
                "p95": statistics.quantiles(values, n=20)[-1],
            }
            for system, values in latencies.items()
        },
    }


def _table(answer: dict[str, Any]) -> str:
    lines = [
        "| | floor, all succeed | ours, all succeed | floor, 20 % fail | ours, 20 % fail |",
        "|---|---|---|---|---|",
    ]
    ok, failing = answer["workloads"]["all succeed"], answer["workloads"]["20 % fail"]
    for name, title, digits in (
        ("orders_per_s", "sagas per second", 0),
        ("cpu_ms", "CPU per saga, ms (workers and servers)", 1),
        ("statements", "SQL statements per saga", 1),
        ("transactions", "transactions per saga", 1),
        ("broker_commands", "broker commands per saga", 1),
        ("submit_ms", "submitting one, ms", 2),
    ):
        cells = [f"{half[system][name]:.{digits}f}" for half in (ok, failing) for system in ("floor", "ours")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    idle = answer["idle_ms"]
    lines += [
        f"| one at a time, p50 / p95 ms | {_quantiles(idle['floor'])} | {_quantiles(idle['ours'])} | | |",
        "",
        f"Throughput, ours to floor, median of {answer['rounds']} pairs: "
        f"**{ok['throughput_ratio']:.2f}** all succeed ({_list(ok)}), "
        f"**{failing['throughput_ratio']:.2f}** with 20 % failing ({_list(failing)}).",
        "",
        f"{answer['workers']}; {answer['orders']} orders a run; {answer['machine']}.",
    ]
    return "\n".join(lines)


def _quantiles(of: dict[str, float]) -> str:
    return f"{of['p50']:.0f} / {of['p95']:.0f}"


def _list(half: dict[str, Any]) -> str:
    return ", ".join(f"{ratio:.2f}" for ratio in half["throughput_ratios"])


@contextlib.contextmanager
def stack() -> Iterator[list[psutil.Process]]:
    """A durable PostgreSQL that counts its statements, a Valkey, workers and beat, and an empty shop."""
    from saga_project.local import servers, throwaway

    place = pathlib.Path(tempfile.mkdtemp(prefix="saga-bench-"))
    place.chmod(0o711)
    with contextlib.ExitStack() as undo, (place / "log").open("wb") as log:
        undo.callback(shutil.rmtree, place, ignore_errors=True)
        postgres = servers.Postgres(place / "postgres")
        valkey = servers.Valkey(place / "valkey", durable=False)
        for server in (postgres, valkey):
            undo.callback(server.discard)
            undo.callback(server.stop)
            server.start(log)
        os.environ.update(
            throwaway.environment(place=str(place), database_url=postgres.url, broker_url=valkey.url),
            DJANGO_SETTINGS_MODULE="benchmarks.settings",
        )
        os.environ.pop(throwaway.MARK)
        count_statements(postgres, log)
        _set_up()
        # Not before Django is set up, which they need.
        from benchmarks.shop import tasks
        from sagas import conf

        queues = ",".join([tasks.QUEUE, conf.ENGINE_QUEUE, conf.SWEEP_QUEUE])
        celery = [sys.executable, "-m", "celery", "-A", "saga_project"]
        worker = ["worker", "-Q", queues, "-c", str(CHILDREN), "-l", "ERROR"]
        worker += ["--without-gossip", "--without-mingle"]
        commands = [[*celery, *worker, "-n", f"bench-{number}@%h"] for number in range(WORKERS)]
        commands.append([*celery, "beat", "-s", str(place / "beat"), "-l", "ERROR"])
        for command in commands:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            undo.callback(process.wait)
            undo.callback(process.terminate)
        from benchmarks import systems

        await_(lambda: systems.listening() >= WORKERS * CHILDREN, "the workers did not start")
        yield _processes(place)


def _set_up() -> None:
    import django

    django.setup()
    from django.core import management

    from benchmarks.shop import models

    management.call_command("migrate", run_syncdb=True, verbosity=0)
    models.Stock.objects.bulk_create(models.Stock(sku=sku, available=1_000_000) for sku in range(100))


def count_statements(postgres: Any, log: Any) -> None:
    """Have a PostgreSQL count its statements from now on; it is started anew for that."""
    import psycopg

    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
    postgres.stop()
    postgres.start(log)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")


def _processes(place: pathlib.Path) -> list[psutil.Process]:
    """The workers, PostgreSQL and Valkey, told by the place that they serve."""
    mine = psutil.Process().children(recursive=True)
    servers = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(place) in word for word in process.info["cmdline"] or [])
    ]
    return list({process.pid: process for process in [*mine, *servers]}.values())


def _cpu_s(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in (
                [process, *process.children(recursive=True)] if process.name() == "postgres" else [process]
            ):
                times = one.cpu_times()
                total += times.user + times.system
    return total


def await_(condition: Any, complaint: str, pause_s: float = 0.02) -> None:
    """Wait until something is so, but not for ever."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"After {PATIENCE_S} s: {complaint}.")
        time.sleep(pause_s)
