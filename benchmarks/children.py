"""Does a child that ends cost as much however many siblings it has?

A saga with a child for each element of a list, in this process: it is the worker of all of them, and the
broker is in memory, so that nothing is measured but the engine and PostgreSQL. Each child has one local step.
When all are done their parent waits; then it is cancelled, and each child is undone.
"""

import dataclasses
import datetime
import pathlib
import time
from collections.abc import Callable
from typing import Any

from benchmarks import documents, teams

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLES = ("sagas_saga", "sagas_step")


@dataclasses.dataclass(frozen=True)
class Cost:
    """What something cost."""

    ms: float
    statements: float
    rows: float
    """Of sagas and of steps, that PostgreSQL read for it."""

    def over(self, count: int) -> "Cost":
        """For each of so many."""
        return Cost(self.ms / count, self.statements / count, self.rows / count)


def run(*, counts: list[int], limit: int, write: bool) -> None:
    """Measure, print, and write if asked."""
    with teams.field("benchmarks.settings") as field:
        import django
        from django.core import management

        django.setup()
        management.call_command("migrate", verbosity=0)
        looker = field.looker
        found = []
        for count in counts:
            for at_once in (0, limit):
                found.append((count, at_once, _family(looker, count, at_once)))
                print(count, at_once, found[-1][2], flush=True)
    table = _table(found)
    print(table)
    if write:
        documents.write(ROOT / "docs" / "benchmarks.md", "children", table)


def _nothing(*, key: str, **_facts: Any) -> None:
    """A function that does nothing."""


def _begins(*, key: str) -> dict[str, bool]:
    """What is begun, and is not settled yet."""
    return {"settled": False}


def _declared(count: int, at_once: int) -> Any:
    from sagas import ForEach, Retry, Saga, Step, Wait
    from sagas.declaration import registry

    name = f"bench-{count}-{at_once}"
    rest: dict[str, Any] = {"do": _nothing, "undo": _nothing, "queue": "bench"}
    retry = Retry(on=[])
    pack = Step("pack", inputs=["parcel"], **rest)
    parcel = Saga(name=f"{name}-parcel", inputs=["parcel"], steps=[pack], retry=retry)
    settled = Wait(until="settled", limit=datetime.timedelta(days=1))
    steps = [
        Step("take", **rest),
        ForEach("deliver", of="parcels", saga=parcel, limit=at_once, most=count),
        Step("settle", **rest | {"do": _begins}, remote=True, wait=settled),
    ]
    saga = Saga(name=name, inputs=["parcels"], steps=steps, retry=retry)
    registry.add(parcel)
    registry.add(saga)
    return saga


def _family(looker: Any, count: int, at_once: int) -> list[Cost]:
    """What it costs to begin them; one that ends; to tell all of them; one that is undone."""
    from django.db import connection, transaction

    from sagas import engine, models
    from sagas.engine import transport
    from sagas.testing import memory_transport

    broker = memory_transport.MemoryTransport()
    with transport.use(broker):
        with transaction.atomic():
            parcels = [f"parcel {number}" for number in range(count)]
            saga = engine.begin(
                _declared(count, at_once), key=str(time.time_ns()), inputs={"parcels": parcels}
            )
        begun = _cost(looker, broker.deliver)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE sagas_saga; ANALYZE sagas_step")
        ended = _cost(looker, broker.deliver_all).over(count)
        saga.refresh_from_db()
        assert (saga.position, saga.steps.get(name="settle").state) == (2, "waiting"), "all of them are done"

        def cancel() -> None:
            engine.cancel(saga.pk, actor="bench", reason="a measurement")
            while broker.waiting and not _all_told(saga):
                broker.deliver()

        told = _cost(looker, cancel)
        undone = _cost(looker, broker.deliver_all).over(count)
        saga.refresh_from_db()
        assert saga.state == "compensated", saga.state
        left = models.SagaInstance.objects.filter(parent_id=saga.pk).exclude(state="compensated")
        assert not left.exists(), "all of them are undone"
    return [begun, ended, told, undone]


def _all_told(saga: Any) -> bool:
    from sagas import models

    return not models.SagaInstance.objects.filter(parent_id=saga.pk, direction=1).exists()


def _cost(looker: Any, what: Callable[[], object]) -> Cost:
    statements, rows, began = looker.counters()["statements"], _rows(looker), time.perf_counter()
    what()
    ms = (time.perf_counter() - began) * 1000
    return Cost(ms, looker.counters()["statements"] - statements, _rows(looker) - rows)


def _rows(looker: Any) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    return int(
        looker.one(
            "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables"
            " WHERE relname = ANY (%s)",
            [list(TABLES)],
        )
    )


def _table(found: list[tuple[int, int, list[Cost]]]) -> str:
    lines = [
        "| children | at once | all begin, ms (statements) | one ends, ms (statements, rows read)"
        " | all are told, ms (statements) | one is undone, ms (statements, rows read) |",
        "|---|---|---|---|---|---|",
    ]
    for count, at_once, (begun, ended, told, undone) in found:
        lines.append(
            f"| {count:,} | {at_once or 'all'} | {begun.ms:.0f} ({begun.statements:.0f})"
            f" | {ended.ms:.1f} ({ended.statements:.1f}, {ended.rows:.0f})"
            f" | {told.ms:.0f} ({told.statements:.0f})"
            f" | {undone.ms:.1f} ({undone.statements:.1f}, {undone.rows:.0f}) |"
        )
    lines += ["", f"One process; {documents.machine()}."]
    return "\n".join(lines)
