"""What does a stack that nobody orders from cost PostgreSQL in an hour?

The local stack, whole, with a database of its own that counts its statements: web, a worker for each queue,
beat and Flower. Once every queue has answered it is left alone, and counted for a while; what comes once a
minute counts too, so two minutes are the shortest that mean something.
"""

import collections
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import psycopg

from benchmarks import documents, teams
from saga_project.local import servers, stack

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATIENCE_S = 180
HOUR_S = 3600
SHOWN = 12
SETTLED_S = 20
"""Long enough for every page that the clock's work touches to have been touched."""


def run(*, seconds: int, write: bool) -> None:
    """Count, print, and write if asked."""
    with _stack() as url, psycopg.connect(url, autocommit=True) as link:
        _await_every_queue(link)
        _settle(link)
        before = _counters(link)
        link.execute("SELECT pg_stat_statements_reset()")
        time.sleep(seconds)
        statements = _statements(link)
        spent = {name: value - before[name] for name, value in _counters(link).items()}
    table = _table(statements, spent, seconds)
    print(table)
    if write:
        documents.write(ROOT / "docs" / "benchmarks.md", "idle", table)


@contextlib.contextmanager
def _stack() -> Iterator[str]:
    """The local stack, with a durable PostgreSQL that counts; its address."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="saga-idle-"))
    place.chmod(0o711)
    with contextlib.ExitStack() as undo, (place / "log").open("wb") as log:
        undo.callback(shutil.rmtree, place, ignore_errors=True)
        postgres = servers.Postgres(place / "postgres")
        undo.callback(postgres.discard)
        undo.callback(postgres.stop)
        postgres.start(log)
        teams.count_statements(postgres, log)
        own = {"DATABASE_URL": postgres.url, "RUN_DIR": str(place / "run")}
        ports = {name: str(servers.free_port()) for name in stack.PORTS}
        around = {name: value for name, value in os.environ.items() if name != "BROKER_URL"}
        process = subprocess.Popen(
            [sys.executable, "-m", "saga_project.local.stack", "up", "--while-open"],
            cwd=ROOT,
            env=around | own | ports,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
        undo.callback(process.wait)
        assert process.stdin is not None
        undo.callback(process.stdin.close)
        _await(lambda: (place / "run" / "env").exists(), f"the stack did not start; see {place}/log", process)
        yield postgres.url


def _await_every_queue(link: Any) -> None:
    silent = "SELECT count(*) FROM sagas_queue WHERE returned_at IS NULL"
    some = "SELECT count(*) FROM sagas_queue"
    _await(
        lambda: link.execute(some).fetchone()[0] and not link.execute(silent).fetchone()[0],
        "a queue did not answer",
    )


def _settle(link: Any) -> None:
    """Have done what follows a migration and a checkpoint, so that it is not taken for the stack's.

    After a checkpoint the first change of a page writes all of it to the log: a few pages each time, once in
    five minutes, which in a window of two would count several times too much.
    """
    link.execute("VACUUM ANALYZE")
    link.execute("CHECKPOINT")
    time.sleep(SETTLED_S)


def _counters(link: Any) -> dict[str, float]:
    row = link.execute(
        "SELECT xact_commit + xact_rollback, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
        " FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    return {"transactions": float(row[0]), "wal": float(row[1])}


def _statements(link: Any) -> collections.Counter[str]:
    """How often each statement came, without those that look."""
    told: collections.Counter[str] = collections.Counter()
    for query, calls in link.execute("SELECT query, calls FROM pg_stat_statements WHERE toplevel"):
        text = re.sub(r"\s+", " ", query).strip()
        if "pg_stat" not in text and "pg_wal" not in text:
            told[text] += calls
    return told


def _table(statements: collections.Counter[str], spent: dict[str, float], seconds: int) -> str:
    def an_hour(count: float) -> str:
        return f"{count * HOUR_S / seconds:,.0f}"

    lines = ["| in an hour without orders | |", "|---|---|"]
    lines.append(f"| SQL statements | {an_hour(statements.total())} |")
    lines.append(f"| transactions | {an_hour(spent['transactions'])} |")
    lines.append(f"| write-ahead log, KB | {an_hour(spent['wal'] / 1000)} |")
    lines += ["", "| the statements that come most often | in an hour |", "|---|---|"]
    lines += [f"| `{_short(text)}` | {an_hour(count)} |" for text, count in statements.most_common(SHOWN)]
    lines += ["", f"{seconds} s counted; {documents.machine()}."]
    return "\n".join(lines)


def _short(text: str) -> str:
    return (text if len(text) <= 70 else f"{text[:69]}…").replace("|", "\\|")


def _await(condition: Any, complaint: str, process: subprocess.Popen[bytes] | None = None) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until or (process is not None and process.poll() is not None):
            raise SystemExit(f"After {PATIENCE_S} s at most: {complaint}.")
        time.sleep(0.2)
