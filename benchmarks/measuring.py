"""What the questions about speed share: who is asked, what is counted, and how one waits.

Whoever looks does so through an account of its own in PostgreSQL, so that what it asks can be told from the
work that it looks at.
"""

import collections.abc
import contextlib
import statistics
import time
import urllib.parse
from typing import Any

import psutil
import psycopg
import redis

LOOKER = "looker"
"""The account through which a benchmark looks. What it does is not counted."""

LOOKS = ("cmdstat_info", "cmdstat_hlen")
"""The commands with which it looks into Valkey; nobody else sends these."""

DATABASES = 4
"""Of Valkey, that somebody here uses."""

Condition = collections.abc.Callable[[], Any]


class Looker:
    """Looks into PostgreSQL and Valkey, and counts."""

    def __init__(self, database_url: str, broker_url: str) -> None:
        self._database_url = database_url
        with psycopg.connect(database_url, autocommit=True) as link:
            if not link.execute("SELECT FROM pg_roles WHERE rolname = %s", [LOOKER]).fetchone():
                link.execute(f"CREATE ROLE {LOOKER} SUPERUSER LOGIN")
        self._link = psycopg.connect(database_url, user=LOOKER, autocommit=True)
        self.pid = self._link.info.backend_pid
        address = urllib.parse.urlsplit(broker_url)
        self._brokers: list[Any] = [
            redis.Redis.from_url(address._replace(path=f"/{number}").geturl()) for number in range(DATABASES)
        ]

    def close(self) -> None:
        """Hang up."""
        self._link.close()
        for broker in self._brokers:
            broker.close()

    def rows(self, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
        """All rows that a statement finds."""
        return self._link.execute(statement, values).fetchall()

    def one(self, statement: str, values: Any = None) -> Any:
        """The only value of the only row."""
        (row,) = self.rows(statement, values)
        return row[0]

    def checkpoint(self) -> None:
        """Have PostgreSQL write a checkpoint, and wait for it."""
        self._link.execute("CHECKPOINT")

    def counters(self) -> dict[str, float]:
        """What the servers have counted since they began.

        Statements, commits and rollbacks, and the time that PostgreSQL spent on statements in ms;
        transactions that wrote, by the numbers they were given; bytes of the write-ahead log; commands of
        Valkey, those that only wait for a message among them, in every one of its databases.
        """
        ((statements, transactions, busy_ms, writes, wal),) = self.rows(
            "SELECT coalesce(sum(calls), 0),"
            "       coalesce(sum(calls) FILTER (WHERE query ~* '^(commit|rollback)'), 0),"
            "       coalesce(sum(total_exec_time), 0),"
            "       pg_snapshot_xmax(pg_current_snapshot())::text::bigint,"
            "       pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
            "  FROM pg_stat_statements WHERE toplevel AND userid <> %s::regrole",
            [LOOKER],
        )
        stats: dict[str, Any] = self._brokers[0].info("commandstats")
        commands = sum(command["calls"] for name, command in stats.items() if name not in LOOKS)
        return {
            "statements": float(statements),
            "transactions": float(transactions),
            "writes": float(writes),
            "busy_ms": float(busy_ms),
            "wal": float(wal),
            "broker_commands": float(commands),
        }

    def unacknowledged(self) -> int:
        """Messages that workers have taken and not acknowledged, in the broker's databases."""
        return sum(int(broker.hlen("unacked")) for broker in self._brokers)


def spent(before: dict[str, float], after: dict[str, float], orders: int) -> dict[str, float]:
    """What was counted in between, for each order."""
    return {name: (after[name] - value) / orders for name, value in before.items()}


def family(processes: collections.abc.Iterable[psutil.Process]) -> list[psutil.Process]:
    """These and their children, those of them that live."""
    found = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in (process, *process.children(recursive=True)):
                found[one.pid] = one
    return list(found.values())


def cpu_s(processes: collections.abc.Iterable[psutil.Process]) -> float:
    """The seconds that these and their children have computed so far, children that ended among them."""
    total = 0.0
    for process in family(processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            # Of children, Linux counts those that have ended.
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_mb(processes: collections.abc.Iterable[psutil.Process]) -> list[float]:
    """The memory of each in MB, what it shares with others divided among them (PSS)."""
    shares = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            memory = process.memory_full_info()
            shares.append(getattr(memory, "pss", memory.rss) / 1024 / 1024)
    return shares


def quantiles(values: collections.abc.Sequence[float]) -> dict[str, float]:
    """The median, and what 95 and 99 of a hundred stay under."""
    if len(values) < 2:
        return dict.fromkeys(("p50", "p95", "p99"), values[0] if values else float("nan"))
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": statistics.median(values), "p95": cuts[94], "p99": cuts[98]}


def wait(condition: Condition, complaint: str, *, seconds: float = 120, pause_s: float = 0.02) -> None:
    """Wait for something that happens by itself.

    Raises:
        SystemExit: it did not, with the complaint.
    """
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"After {seconds:g} s: {complaint}.")
        time.sleep(pause_s)
