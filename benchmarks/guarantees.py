"""What do a saga's guarantees cost, against a plain Celery chain that does the same work?

Four local steps, each one statement in a transaction, as three systems. *Plain*: a Celery chain with an error
callback, on an application with Celery's defaults. *Floor*: the same chain with this project's settings.
Neither keeps a promise. *Ours*: the same functions as a saga, every promise kept. Each has the same number of
processes, on the same PostgreSQL (fsync on) and the same Valkey; they take turns, and the processes of those
whose turn it is not are stopped. What counts is the ratio of neighbours: the machine's mood changes all.
"""

import dataclasses
import json
import os
import random
import statistics
import time
from typing import Any

from benchmarks import documents, measuring, systems, teams
from benchmarks.teams import ROOT, count_statements

__all__ = ["count_statements", "run"]

WORKLOADS = {"all succeed": 0.0, "20 % fail": 0.2}
IDLE_BLOCK = 10
"""So many orders one at a time, and then it is the next system's turn."""

OUGHT_TO_MOVE_S = 150
"""A system in which nothing has moved for so long has ended what it will: longer than the broker keeps a
message that was not acknowledged, 120 s with our settings."""

FIGURES = (
    ("orders_per_s", "sagas per second", 0),
    ("cpu_ms", "CPU per saga, ms (workers and servers)", 1),
    ("statements", "SQL statements per saga", 1),
    ("transactions", "transactions per saga", 1),
    ("broker_commands", "broker commands per saga", 1),
    ("wal_kb", "write-ahead log per saga, KB", 1),
    ("database_ms", "database time per step, ms", 2),
    ("submit_ms", "submitting one, ms", 2),
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run of one system: a backlog of so many orders, from the first taken up to the last ended."""

    system: str
    workload: str
    orders_per_s: float
    cpu_ms: float
    statements: float
    transactions: float
    writes: float
    broker_commands: float
    wal_kb: float
    database_ms: float
    submit_ms: float


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What became of orders under way when a worker was killed."""

    system: str
    seconds: float | None
    """From the kill until the last had ended; None if not all did."""
    books: dict[str, int]


def run(*, rounds: int, orders: int, write: bool, full: bool = False, lane: str | None = None) -> None:
    """Measure, print, and write if asked.

    Arguments:
        rounds: interleaved runs of every system, for each workload.
        orders: in each run.
        write: the answer into docs/, too.
        full: the questions that take longer, too: half load, recovery, memory.
        lane: `on` or `off`, the engine's fast lane; None for its default.
    """
    if lane:
        os.environ["SAGAS_INLINE"] = "1" if lane == "on" else "0"
    compared = systems.everybody()
    with teams.field("benchmarks.settings") as field:
        systems.open_shop()
        systems.start(field, compared)
        measured = backlogs(field, compared, rounds=rounds, orders=orders)
        idle, between = one_at_a_time(field, compared, orders=200 if full else max(orders // 3, IDLE_BLOCK))
        answer = compare(measured, compared, rounds, orders) | {
            "idle_ms": {name: measuring.quantiles(values) for name, values in idle.items()},
            "lane": lane or "default",
        }
        print(table(answer))
        if full:
            rate = answer["workloads"]["all succeed"]["systems"]["floor"]["orders_per_s"] / 2
            answer["full"] = {
                "rate": rate,
                "paced_ms": half_load(field, compared, rate=rate, orders=orders),
                "between_ms": statistics.median(between["ours"]),
                "memory_mb": _memory(field),
                "recoveries": [
                    dataclasses.asdict(recover(field, system, orders=orders)) for system in compared
                ],
            }
            print(_full_table(answer))
    if write:
        # Each table has one command that it comes from.
        question, name, text = (
            ("guarantees in full", "benchmarks-full.json", _full_table(answer))
            if full
            else ("guarantees", "benchmarks.json", table(answer))
        )
        (ROOT / "docs" / name).write_text(json.dumps(answer, indent=2) + "\n")
        documents.write(ROOT / "docs" / "benchmarks.md", question, text)


def backlogs(
    field: teams.Field,
    compared: list[Any],
    *,
    rounds: int,
    orders: int,
    workloads: dict[str, float] = WORKLOADS,
) -> list[Measured]:
    """Run every system with every workload, turn by turn, so many times; once before, to warm up."""
    for system in compared:
        backlog(field, system, "warm-up", max(orders // 3, 10), failing=0.2)
    measured = []
    for number in range(rounds):
        for workload, failing in workloads.items():
            # Who goes first changes, so that nobody always runs on the warmer machine.
            turn = number % len(compared)
            for system in (*compared[turn:], *compared[:turn]):
                one = backlog(field, system, workload, orders, failing=failing)
                measured.append(one)
                print(
                    f"  round {number + 1} {workload:12} {system.name:14} {one.orders_per_s:6.0f}/s",
                    flush=True,
                )
    return measured


def backlog(field: teams.Field, system: Any, workload: str, orders: int, *, failing: float) -> Measured:
    """Submit so many orders while everybody stands still; then let the system work them off."""
    prefix = f"{system.name}-{workload.replace(' ', '')}-{time.time_ns()}-"
    batch = names(prefix, orders, failing)
    before = field.looker.counters()
    field.still()
    began = time.perf_counter()
    for name in batch:
        system.submit(name)
    submitted = time.perf_counter() - began
    cpu = field.cpu_s(system.name)
    with field.turn(system.name):
        began = time.perf_counter()
        measuring.wait(
            lambda: not system.left(field.looker, prefix, orders),
            f"{system.name} did not end its orders; see {field.log.name}",
        )
        took = time.perf_counter() - began
        cpu = field.cpu_s(system.name) - cpu
    spent = measuring.spent(before, field.looker.counters(), orders)
    refused = sum(name.endswith(systems.REFUSED) for name in batch)
    steps = (orders * systems.STEPS + refused * systems.UNDONE) / orders
    return Measured(
        system=system.name,
        workload=workload,
        orders_per_s=orders / took,
        cpu_ms=cpu * 1000 / orders,
        statements=spent["statements"],
        transactions=spent["transactions"],
        writes=spent["writes"],
        broker_commands=spent["broker_commands"],
        wal_kb=spent["wal"] / 1000,
        database_ms=spent["busy_ms"] / steps,
        submit_ms=submitted * 1000 / orders,
    )


def names(prefix: str, orders: int, failing: float) -> list[str]:
    """Those of so many orders, of which that share is refused at the last step."""
    every = round(1 / failing) if failing else 0
    return [
        f"{prefix}{number}" + (systems.REFUSED if every and number % every == 0 else "")
        for number in range(orders)
    ]


def one_at_a_time(
    field: teams.Field, compared: list[Any], *, orders: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds from the call to the commit that ends an order, one order at a time.

    In blocks, turn by turn; the first order of a block finds workers that have just been let go on, and does
    not count. And for ours, the milliseconds from the record of one step to that of the next.
    """
    took: dict[str, list[float]] = {system.name: [] for system in compared}
    between: dict[str, list[float]] = {system.name: [] for system in compared}
    for _ in range(max(orders // IDLE_BLOCK, 1)):
        for system in compared:
            prefix = f"{system.name}-idle-{time.time_ns()}-"
            with field.turn(system.name):
                began = {}
                for number in range(IDLE_BLOCK + 1):
                    name = f"{prefix}{number}."
                    began[name] = time.time()
                    system.submit(name)
                    measuring.wait(
                        lambda system=system, name=name: not system.left(field.looker, name, 1),
                        "an order did not end",
                        pause_s=0.001,
                    )
            ended = systems.ends(field.looker, prefix)
            took[system.name] += [(ended[name] - at) * 1000 for name, at in list(began.items())[1:]]
            between[system.name] += systems.between_records(field.looker, prefix)
    return took, between


def half_load(
    field: teams.Field, compared: list[Any], *, rate: float, orders: int
) -> dict[str, dict[str, float]]:
    """The same milliseconds with so many orders a second, whatever becomes of those before.

    From when an order was due, so that one that is submitted late because another took long counts as late.
    """
    paced = {}
    for system in compared:
        prefix = f"{system.name}-paced-{time.time_ns()}-"
        due = {}
        with field.turn(system.name):
            start = time.time() + 0.1
            for number in range(orders):
                name = f"{prefix}{number}."
                due[name] = start + number / rate
                time.sleep(max(due[name] - time.time(), 0))
                system.submit(name)
            measuring.wait(
                lambda system=system, prefix=prefix: not system.left(field.looker, prefix, orders),
                f"{system.name} did not end its orders",
            )
        ended = systems.ends(field.looker, prefix)
        # The first second finds workers that have just been let go on.
        steady = list(due)[int(min(rate, orders / 4)) :]
        paced[system.name] = measuring.quantiles([(ended[name] - due[name]) * 1000 for name in steady])
        print(f"  at {rate:.0f}/s {system.name:6} p50 {paced[system.name]['p50']:.0f} ms", flush=True)
    return paced


def recover(field: teams.Field, system: Any, *, orders: int) -> Recovery:
    """Kill one of the two workers, children and all, when a third has ended; it is started again at once."""
    prefix = f"{system.name}-kill-{time.time_ns()}-"
    shelves = systems.available(field.looker)
    field.still()
    for name in names(prefix, orders, 0.2):
        system.submit(name)
    with field.turn(system.name) as team:
        measuring.wait(
            lambda: system.left(field.looker, prefix, orders) <= orders * 2 / 3,
            "nothing has ended",
            pause_s=0.005,
        )
        team.kill(random.Random(), whole=True)
        killed = time.time()
        print(f"  killed a worker of {system.name}", flush=True)
        await_what_comes(field, system, prefix, orders)
    ended = systems.ends(field.looker, prefix)
    found = systems.books(field.looker, prefix, orders=orders, before=shelves)
    return Recovery(
        system=system.name,
        seconds=None if found.lost else max(ended.values()) - killed,
        books=dataclasses.asdict(found),
    )


def await_what_comes(field: teams.Field, system: Any, prefix: str, orders: int) -> None:
    """Wait until all have ended, or nothing has moved for longer than any message may be under way."""
    moved, before = time.monotonic(), orders
    while left := system.left(field.looker, prefix, orders):
        if left != before:
            moved, before = time.monotonic(), left
        if time.monotonic() - moved > OUGHT_TO_MOVE_S:
            return
        time.sleep(0.05)


def _memory(field: teams.Field) -> dict[str, dict[str, float]]:
    """Of a worker's main process and of one of its children, after all of this work."""
    memory = {}
    for name, team in field.teams.items():
        mains = [main for main in team.mains() if "worker" in main.cmdline()]
        memory[name] = {
            "main": statistics.median(measuring.memory_mb(mains)),
            "child": statistics.median(measuring.memory_mb(team.children())),
        }
    return memory


def compare(measured: list[Measured], compared: list[Any], rounds: int, orders: int) -> dict[str, Any]:
    """The medians of every system, and the ratios of the last one to the others, pair by pair."""
    figures = [name for name, _, _ in FIGURES] + ["writes"]
    ours = compared[-1].name
    workloads: dict[str, Any] = {}
    for workload in dict.fromkeys(one.workload for one in measured):
        rows = {
            system.name: [one for one in measured if (one.workload, one.system) == (workload, system.name)]
            for system in compared
        }
        workloads[workload] = {
            "systems": {
                name: {figure: statistics.median(getattr(one, figure) for one in ones) for figure in figures}
                for name, ones in rows.items()
            },
            "throughput_ratios": {
                name: [
                    round(o.orders_per_s / f.orders_per_s, 3) for f, o in zip(ones, rows[ours], strict=True)
                ]
                for name, ones in rows.items()
                if name != ours
            },
            "cpu_ratios": {
                name: [round(o.cpu_ms / f.cpu_ms, 3) for f, o in zip(ones, rows[ours], strict=True)]
                for name, ones in rows.items()
                if name != ours
            },
        }
    return {
        "rounds": rounds,
        "orders": orders,
        "workers": f"{teams.WORKERS} x {teams.CHILDREN} prefork",
        "machine": documents.machine(),
        "workloads": workloads,
    }


def table(answer: dict[str, Any]) -> str:
    """The answer for people."""
    workloads = answer["workloads"]
    names = list(next(iter(workloads.values()))["systems"])
    heads = [f"{name}, {workload}" for workload in workloads for name in names]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for figure, title, digits in FIGURES:
        cells = [
            f"{half['systems'][name][figure]:.{digits}f}" for half in workloads.values() for name in names
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    cells = [_three(answer["idle_ms"][name]) for name in names] + [""] * (len(heads) - len(names))
    lines += [f"| one at a time, p50 / p95 / p99 ms | {' | '.join(cells)} |", ""]
    lines += [f"| ours to | {' | '.join(heads[: len(names) - 1] + heads[len(names) : -1])} |"]
    lines += [f"|---|{'---|' * (len(heads) - len(workloads))}"]
    for key, title in (("throughput_ratios", "throughput"), ("cpu_ratios", "CPU per saga")):
        cells = [_ratio(ratios) for half in workloads.values() for ratios in half[key].values()]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lane = "" if answer["lane"] == "default" else f"; the fast lane {answer['lane']}"
    lines += [
        "",
        f"Medians of {answer['rounds']} interleaved rounds; {answer['workers']} each;"
        f" {answer['orders']} orders a run{lane}; {answer['machine']}.",
    ]
    return "\n".join(lines)


def _full_table(answer: dict[str, Any]) -> str:
    full = answer["full"]
    names = list(full["paced_ms"])
    recoveries = {one["system"]: one for one in full["recoveries"]}
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]

    def line(title: str, cells: Any) -> None:
        lines.append(f"| {title} | {' | '.join(cells)} |")

    line("one at a time, p50 / p95 / p99 ms", (_three(answer["idle_ms"][name]) for name in names))
    line(
        f"at {full['rate']:.0f} a second, p50 / p95 / p99 ms",
        (_three(full["paced_ms"][name]) for name in names),
    )
    line(
        "from one step's record to the next, one at a time, ms",
        (f"{full['between_ms']:.1f}" if name == "ours" else "not recorded" for name in names),
    )
    line(
        "a worker killed: all have ended after, s",
        ("never" if (one := recoveries[name]["seconds"]) is None else f"{one:.1f}" for name in names),
    )
    for title, key in (
        ("of them lost", "lost"),
        ("charged, invoiced or shipped twice", "doubled"),
        ("turned back though nobody refused", "turned_back"),
        ("pieces off the shelf that no shipped order explains", "off_the_shelf"),
    ):
        line(title, (f"{recoveries[name]['books'][key]}" for name in names))
    memory = full["memory_mb"]
    line(
        "memory of a worker, main / each child, MB (PSS)",
        (f"{memory[name]['main']:.0f} / {memory[name]['child']:.0f}" for name in names),
    )
    lines += [
        "",
        f"{answer['orders']} orders at half load and as many under way at the kill, one in five refused;"
        f" {answer['workers']} each; {answer['machine']}.",
    ]
    return "\n".join(lines)


def _three(of: dict[str, float]) -> str:
    return " / ".join(f"{of[name]:.0f}" for name in ("p50", "p95", "p99"))


def _ratio(ratios: list[float]) -> str:
    return f"**{statistics.median(ratios):.2f}** ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
