"""What does one PostgreSQL carry, and what would a hundred million sagas a day need?

Sagas of four local steps, as in `benchmarks.guarantees`, some of which are undone. What each costs the
database, the workers and the broker is counted apart, in CPU seconds and bytes, which say the same on a busy
machine; and the write-ahead log twice: as it is long after a checkpoint, and right after one, when the first
change of each page writes the whole page. The rest is arithmetic upon these figures, and says so.
"""

import dataclasses
import json
import math
import pathlib
import statistics
import time
from typing import Any

import psutil

from benchmarks import documents, guarantees, measuring, systems, teams

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "scaling.md"
HISTORY = ROOT / "docs" / "benchmarks-history.json"

FAILING = 0.2
DAY_S = 86_400

# What the arithmetic assumes. Each is named beside its result.
A_DAY = (1_000_000, 10_000_000, 100_000_000)
PEAK = 3
"""The busiest second of a day, as a multiple of the day's mean."""
BUSY = 0.6
"""How busy cores may be kept, so that a peak within the peak still finds some."""
LIVE_DAYS = 1
"""How long ended sagas stay in the live tables (SAGAS_ARCHIVE_AFTER) where so many come in a day."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one saga costs, its share of the sweep and of what else runs included."""

    database_cpu_ms: float
    workers_cpu_ms: float
    broker_cpu_ms: float
    statements: float
    transactions: float
    wal_kb: float
    wal_after_checkpoint_kb: float
    transitions: float
    """Actions and undos that were recorded."""
    connections: float
    """To the database, for each process of a worker."""


def run(*, rounds: int, orders: int, write: bool) -> None:
    """Measure, print, and write if asked.

    Arguments:
        rounds: how often; the medians count.
        orders: sagas in each.
        write: the answer into docs/scaling.md and docs/capacity.json, too.
    """
    ours = systems.Ours()
    with teams.field("benchmarks.settings") as field:
        systems.open_shop()
        systems.start(field, [ours])
        guarantees.backlog(field, ours, "warm-up", orders, failing=FAILING)
        measured = [_measure(field, ours, orders) for _ in range(rounds)]
    cost = Cost(
        **{
            each.name: statistics.median(getattr(one, each.name) for one in measured)
            for each in dataclasses.fields(Cost)
        }
    )
    held = json.loads(HISTORY.read_text())["bytes"]
    answer = {
        "rounds": rounds,
        "sagas": orders,
        "machine": documents.machine(),
        "cost": dataclasses.asdict(cost),
        "bytes": held,
        "needs": [needs(cost, held, a_day) for a_day in A_DAY],
    }
    print(_costs(answer), "\n\n", _needs(answer), sep="")
    if write:
        (ROOT / "docs" / "capacity.json").write_text(json.dumps(answer, indent=2) + "\n")
        documents.write(PAGE, "capacity", _costs(answer))
        documents.write(PAGE, "needs", _needs(answer))


def _measure(field: teams.Field, ours: systems.Ours, orders: int) -> Cost:
    field.looker.checkpoint()
    after = _backlog(field, ours, orders)
    return dataclasses.replace(
        _backlog(field, ours, orders), wal_after_checkpoint_kb=after.wal_after_checkpoint_kb
    )


def _backlog(field: teams.Field, ours: systems.Ours, orders: int) -> Cost:
    """A backlog of so many, from the call that begins the first to the end of the last."""
    postgres, valkey = field.servers
    mains = field.teams[ours.name].mains()
    prefix = f"capacity-{time.time_ns()}-"

    def cpu() -> tuple[float, float, float]:
        looks = measuring.cpu_s([psutil.Process(field.looker.pid)])
        return measuring.cpu_s([postgres]) - looks, measuring.cpu_s(mains), measuring.cpu_s([valkey])

    before, spent_before = field.looker.counters(), cpu()
    with field.turn(ours.name):
        for name in guarantees.names(prefix, orders, FAILING):
            ours.submit(name)
        measuring.wait(lambda: not ours.left(field.looker, prefix, orders), "the sagas did not end")
        connections = field.looker.one(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename <> %s",
            [measuring.LOOKER],
        )
    spent_after = cpu()
    database, workers, broker = (
        (after - spent) * 1000 / orders for spent, after in zip(spent_before, spent_after, strict=True)
    )
    counted = measuring.spent(before, field.looker.counters(), orders)
    transitions = field.looker.one(
        "SELECT count(*) FROM sagas_event AS event JOIN sagas_saga AS saga ON saga.id = event.saga_id"
        " WHERE saga.key LIKE %s AND event.kind IN ('step.done', 'undo.done')",
        [f"{prefix}%"],
    )
    wal_kb = counted["wal"] / 1000
    return Cost(
        database_cpu_ms=database,
        workers_cpu_ms=workers,
        broker_cpu_ms=broker,
        statements=counted["statements"],
        transactions=counted["transactions"],
        wal_kb=wal_kb,
        wal_after_checkpoint_kb=wal_kb,
        transitions=transitions / orders,
        # The one that begins them, here, is no worker's.
        connections=(connections - 1) / (teams.WORKERS * teams.CHILDREN),
    )


def needs(cost: Cost, held: dict[str, int], a_day: int) -> dict[str, float]:
    """What so many sagas a day need, by arithmetic.

    Arguments:
        cost: of one saga.
        held: bytes that one takes up, as docs/benchmarks-history.json has them: `live` and `archived`.
        a_day: sagas in a day.

    Returns:
        Sagas per second at the peak; cores of the database, the workers and the broker; the write-ahead log
        at the peak in MB/s, between checkpoints and right after one, and of a day in GB; transactions per
        second; the live tables in GB, and the archive of a year in TB.
    """
    peak = a_day / DAY_S * PEAK
    return {
        "a_day": a_day,
        "peak": peak,
        "database_cores": peak * cost.database_cpu_ms / 1000 / BUSY,
        "worker_cores": peak * cost.workers_cpu_ms / 1000 / BUSY,
        "broker_cores": peak * cost.broker_cpu_ms / 1000 / BUSY,
        "transactions": peak * cost.transactions,
        "wal_mb_s": peak * cost.wal_kb / 1000,
        "wal_after_checkpoint_mb_s": peak * cost.wal_after_checkpoint_kb / 1000,
        "wal_gb_day": a_day * cost.wal_kb / 1e6,
        "live_gb": a_day * LIVE_DAYS * held["live"] / 1e9,
        "archive_tb_year": a_day * 365 * held["archived"] / 1e12,
    }


def _costs(answer: dict[str, Any]) -> str:
    cost = Cost(**answer["cost"])
    held = answer["bytes"]
    per_core = 1000 / cost.database_cpu_ms
    lines = ["| one saga costs | |", "|---|---|"]
    lines += [
        f"| {title} | {value} |"
        for title, value in (
            ("CPU of PostgreSQL, ms", f"{cost.database_cpu_ms:.2f}"),
            ("CPU of the workers and beat, ms", f"{cost.workers_cpu_ms:.2f}"),
            ("CPU of the broker, ms", f"{cost.broker_cpu_ms:.2f}"),
            ("steps done and undone", f"{cost.transitions:.2f}"),
            ("SQL statements", f"{cost.statements:.1f}"),
            ("transactions", f"{cost.transactions:.1f}"),
            (
                "write-ahead log, KB: long after a checkpoint / right after one",
                f"{cost.wal_kb:.1f} / {cost.wal_after_checkpoint_kb:.1f}",
            ),
            (
                "bytes in the live tables / in the archive",
                f"{held['live']:,} / {held['archived']:,}",
            ),
        )
    ]
    lines += [
        "",
        "| so that | |",
        "|---|---|",
        f"| one core of PostgreSQL carries, sagas/s | {per_core:.0f} |",
        f"| and steps done and undone/s | {per_core * cost.transitions:.0f} |",
        f"| and keeps so many cores of workers busy | {cost.workers_cpu_ms / cost.database_cpu_ms:.1f} |",
        f"| connections to the database, for each process of a worker | {cost.connections:.1f} |",
        "",
        f"Medians of {answer['rounds']} rounds of {answer['sagas']} sagas, of which one in five is undone;"
        f" the bytes are those of `make bench ARGS=history`; {answer['machine']}.",
    ]
    return "\n".join(lines)


def _needs(answer: dict[str, Any]) -> str:
    columns = answer["needs"]
    days = (f"{one['a_day']:,}" for one in columns)
    lines = [
        f"| sagas a day | {' | '.join(days)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for title, name, digits in (
        (f"sagas/s at the peak ({PEAK} times the mean)", "peak", 0),
        (f"cores of PostgreSQL, {BUSY:.0%} busy at the peak", "database_cores", 1),
        ("cores of workers, the same", "worker_cores", 1),
        ("cores of the broker, the same", "broker_cores", 1),
        ("transactions/s at the peak", "transactions", 0),
        ("write-ahead log at the peak, MB/s", "wal_mb_s", 1),
        ("the same right after a checkpoint", "wal_after_checkpoint_mb_s", 1),
        ("write-ahead log of a day, GB", "wal_gb_day", 0),
        (f"live tables with {LIVE_DAYS} day of ended ones, GB", "live_gb", 1),
        ("archive of a year, TB", "archive_tb_year", 1),
    ):
        cells = (f"{_up(one[name], digits):,.{digits}f}" for one in columns)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _up(value: float, digits: int) -> float:
    """Rounded up: what is needed is not rounded away."""
    return math.ceil(value * 10**digits) / 10**digits
