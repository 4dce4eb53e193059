"""Does history cost anything: are sagas, sweeps, pages and reads slower for what has ended and was archived?

1. Some sagas of four steps go through the engine in this process, with messages in memory, and into the
   archive by its own way: what a saga takes up in the live tables and there is counted in PostgreSQL's bytes.
2. With next to nothing behind them, sagas, the sweep, the console's pages and the API's reads are timed.
3. Sagas that ended lately are written into the live tables as in `benchmarks.console`, and many more into two
   years of the archive by COPY, each with the document of one that was archived in step 1.
4. The same is timed again, and the ratio printed.
"""

import datetime
import json
import pathlib
import statistics
import time
import uuid
from collections.abc import Callable
from typing import Any

from benchmarks import console, documents

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIVE_TABLES = ("sagas_saga", "sagas_step", "sagas_event", "sagas_signal")
MONTHS = 24
SAGAS, SWEEPS, BATCHES = 300, 30, 3
FEW = 100

PAGES = {
    "console: list of sagas": console.LIST,
    "console: a saga's page": f"{console.LIST}%(saga)s/change/",
    "console: an archived saga's page": f"{console.LIST}%(archived)s/change/",
    "console: list of archived sagas": "/admin/sagas/archivedsaga/",
    "console: search by order number": f"{console.LIST}?q=%(number)s",
    "console: search by saga id": f"{console.LIST}?q=%(archived)s",
}
READS = {
    "API: list of sagas": "/api/v1/sagas",
    "API: a saga": "/api/v1/sagas/%(saga)s",
    "API: an archived saga": "/api/v1/sagas/%(archived)s",
    "API: list of orders": "/api/v1/orders",
}


def run(*, live: int, archived: int, write: bool) -> None:
    """Measure with next to nothing, then with all of it; print, and write if asked."""
    console.prepare()
    _declare()
    answer: dict[str, Any] = {"sagas": {"live": live, "archived": archived}, "milliseconds": {}}
    answer["bytes"], example = _sizes()
    console.fill(FEW)
    for size in ("empty", "full"):
        if size == "full":
            console.fill(live)
            _fill_archive(archived, example)
        for what, took in _measure(example).items():
            answer["milliseconds"].setdefault(what, {})[size] = took
    answer["machine"] = documents.machine()
    print(_table(answer))
    if write:
        (ROOT / "docs" / "benchmarks-history.json").write_text(json.dumps(answer, indent=2) + "\n")
        documents.write(ROOT / "docs" / "benchmarks.md", "history", _table(answer))


def _declare() -> None:
    from sagas import Retry, Saga, Step
    from sagas.declaration import registry

    steps = [
        Step(name, _do, undo=_undo, queue="bench") for name in ("charge", "reserve", "issue", "dispatch")
    ]
    registry.add(Saga(name="bench-history", steps=steps, retry=Retry(on=[], attempts=3)))


def _do(*, key: str) -> dict[str, Any]:
    return {"reference": f"ref-{key[-20:]}", "amount": {"amount": 13700, "currency": "BRL"}}


def _undo(*, key: str) -> None:
    """There is nothing to undo."""


# --- What a saga takes up -------------------------------------------------------------------------


def _sizes() -> tuple[dict[str, int], Any]:
    """Bytes for each saga, live and archived, indexes included; and a row of the archive."""
    from sagas import models
    from sagas.engine import archive

    before = _bytes(LIVE_TABLES)
    for _ in range(BATCHES):
        _sagas()
    count = models.SagaInstance.objects.filter(name="bench-history", finished_at__isnull=False).count()
    in_live = (_bytes(LIVE_TABLES) - before) // count
    moved = archive.run(older_than=datetime.timedelta(0), seconds=600)
    if moved < count:
        raise SystemExit(f"{count} sagas have ended, and {moved} were archived.")
    partitions = tuple(month.table for month in archive.months())
    in_archive = _bytes(partitions) // moved
    example = models.ArchivedSaga.objects.filter(name="bench-history").order_by("-ended_at")[0]
    sizes = {"live": in_live, "archived": in_archive, "document": len(bytes(example.document))}
    return sizes, example


def _bytes(tables: tuple[str, ...]) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) AS t (name)",
            [list(tables)],
        )
        return int(cursor.fetchone()[0])


def _fill_archive(count: int, example: Any) -> None:
    """Write so many rows like that one, spread over the months before it."""
    from django.db import connection

    from sagas.engine import archive

    day = datetime.timedelta(days=1)
    span = MONTHS * 30 * day / max(count, 1)
    months = {archive._month(example.ended_at - n * day) for n in range(MONTHS * 30 + 31)}
    for month in months:
        archive._ensure_partition(month)
    columns = (
        "id, ended_at, name, version, key, state, created_at, finished_at, failed_step, failed_kind,"
        " failed_error, document, dictionary, digest"
    )
    document, digest = bytes(example.document), bytes(example.digest)
    with (
        console.unhurried(),
        connection.cursor() as cursor,
        cursor.cursor.copy(f"COPY sagas_archive ({columns}) FROM STDIN") as copy,
    ):
        for number in range(count):
            ended = example.ended_at - day - number * span
            began = ended - datetime.timedelta(minutes=1)
            key = uuid.UUID(int=int(began.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | number)
            copy.write_row(
                (key, ended, example.name, 1, str(key), "completed", began, ended, "", "", "",
                 document, example.dictionary, digest)
            )  # fmt: skip
    with console.unhurried(), connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


# --- What is timed --------------------------------------------------------------------------------


def _measure(example: Any) -> dict[str, float]:
    from django.contrib.auth import models as auth

    from api import tokens
    from api.models import Scope
    from orders import models
    from sagas import engine

    order = models.Order.objects.filter(saga__finished_at__isnull=False).order_by("-id")[0]
    known = {"number": order.number, "saga": order.saga_id, "archived": example.pk}
    took = {
        f"{SAGAS} sagas through the engine": _median(_sagas, BATCHES),
        "a sweep with nothing due": _median(engine.sweep, SWEEPS),
    }
    took |= console.pages(PAGES, known)
    shop = auth.User.objects.get(username="bench")
    _token, secret = tokens.create(user=shop, name="bench", scope=Scope.STAFF)
    return took | console.pages(READS, known, authorization=f"Token {secret}")


def _median(work: Callable[[], object], rounds: int) -> float:
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(took), 2)


def _sagas() -> None:
    """Begin some sagas and carry them to their end."""
    from django.db import transaction

    from sagas import engine
    from sagas.declaration import registry
    from sagas.engine import transport
    from sagas.testing import memory_transport

    declared = registry.get("bench-history", 1)
    broker = memory_transport.MemoryTransport()
    with transport.use(broker):
        for _ in range(SAGAS):
            with transaction.atomic():
                engine.begin(declared, key=str(uuid.uuid4()), inputs={}, actor="bench")
        broker.deliver_all()


def _table(answer: dict[str, Any]) -> str:
    live, archived = (f"{answer['sagas'][where]:,}" for where in ("live", "archived"))
    lines = [
        f"| milliseconds for | next to nothing | {live} live, {archived} archived | ratio |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {what} | {took['empty']:.1f} | {took['full']:.1f} | {took['full'] / took['empty']:.2f} |"
        for what, took in answer["milliseconds"].items()
    ]
    sizes = answer["bytes"]
    return "\n".join(
        [
            *lines,
            "",
            f"A saga of four local steps takes up {sizes['live']:,} bytes in the live tables, with their"
            f" indexes, and {sizes['archived']:,} in the archive, {sizes['document']:,} of them a document.",
            "",
            f"{answer['machine']}.",
        ]
    )
