"""How long do live orders wait while the sweep sends on what an outage left behind?

So many sagas are due at once, as after a broker was emptied; their rows are written by one statement.
Meanwhile orders are placed at a steady rate, a share of what these workers can do; before that the same
without the due ones. What counts is how much longer the live ones take beside them, and whether the workers
still do as much as they can: the same workers, PostgreSQL and Valkey as for `guarantees`.
"""

import dataclasses
import pathlib
import time
import uuid
from typing import Any

from benchmarks import documents, measuring, systems, teams

ROOT = pathlib.Path(__file__).resolve().parent.parent
CAPACITY_ORDERS = 900


@dataclasses.dataclass(frozen=True)
class Live:
    """What became of the live orders, by the database's clock from their begin to their end."""

    orders: int
    seconds: float
    p50_ms: float
    p99_ms: float
    worst_ms: float


def run(*, due: int, share: float, seconds: int, write: bool) -> None:
    """Measure, print, and write if asked."""
    with teams.field("benchmarks.settings") as field:
        ours = systems.Ours()
        systems.open_shop()
        systems.start(field, [ours])
        _capacity(field, ours, orders=CAPACITY_ORDERS // 3)
        capacity = _capacity(field, ours, orders=CAPACITY_ORDERS)
        print(f"  the workers alone: {capacity:.0f}/s", flush=True)
        rate = capacity * share
        with field.turn(ours.name):
            alone = _live(field, ours, rate, until=_for(seconds))
            print(f"  live alone: p50 {alone.p50_ms:.0f} ms, p99 {alone.p99_ms:.0f} ms", flush=True)
            prefix = _write_due(due)
            patience = time.monotonic() + 5 * due / capacity + teams.PATIENCE_S
            beside = _live(field, ours, rate, until=lambda: not _left(prefix) or time.monotonic() > patience)
            if left := _left(prefix):
                raise SystemExit(f"After {beside.seconds:.0f} s {left} of the {due} due ones have not ended.")
    table = _table(due=due, share=share, capacity=capacity, alone=alone, beside=beside)
    print(table)
    if write:
        documents.write(ROOT / "docs" / "benchmarks.md", "backlog", table)


def _capacity(field: teams.Field, ours: Any, *, orders: int) -> float:
    """How many orders of a backlog the workers end in a second."""
    from django.db import transaction

    from benchmarks.shop import saga
    from sagas import engine

    prefix = f"capacity-{time.time_ns()}-"
    field.still()
    with transaction.atomic():
        names = [f"{prefix}{number}" for number in range(orders)]
        engine.begin_many(saga.ORDER, [(name, {"order": name}) for name in names], actor="bench")
    with field.turn(ours.name):
        began = time.perf_counter()
        measuring.wait(
            lambda: not ours.left(field.looker, prefix, orders), "the workers did not end their orders"
        )
        took = time.perf_counter() - began
    return orders / took


def _live(field: teams.Field, ours: Any, rate: float, *, until: Any) -> Live:
    """Place orders at that rate until it is said to be enough, and wait for their end."""
    prefix, placed, began = f"live-{time.time_ns()}-", 0, time.monotonic()
    enough = False
    while not enough:
        ours.submit(f"{prefix}{placed}")
        placed += 1
        time.sleep(max(began + placed / rate - time.monotonic(), 0))
        # Asking takes a moment, so not each time.
        enough = placed % max(round(rate), 1) == 0 and until()
    took = time.monotonic() - began
    measuring.wait(lambda: not ours.left(field.looker, prefix, placed), "live orders did not end")
    return Live(placed, took, *_quantiles(prefix))


def _for(seconds: int) -> Any:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def _quantiles(prefix: str) -> tuple[float, float, float]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY took) FROM ("
            " SELECT extract(epoch FROM finished_at - created_at)::float8 * 1000 AS took FROM sagas_saga"
            " WHERE key LIKE %s) AS live",
            [f"{prefix}%"],
        )
        p50, p99, worst = cursor.fetchone()[0]
    return p50, p99, worst


def _write_due(count: int) -> str:
    """Sagas that are due for a message, and that nobody has begun to work on; what their keys begin with."""
    from django.db import connection, transaction

    from benchmarks.shop import saga

    prefix = f"due-{uuid.uuid4().hex[:8]}-"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sagas_saga (id, name, version, fingerprint, key, state, direction, position, epoch,"
            " facts, dispatches, cancel_reason, cancel_actor, wake_at, deadline_at)"
            " SELECT gen_random_uuid(), %(name)s, %(version)s, %(fingerprint)s, key, 'running', 1, 0, 1,"
            " jsonb_build_object('order', key), 1, '', '', now() - interval '1 min', now() + interval '1 d'"
            " FROM generate_series(1, %(count)s) AS n, LATERAL (SELECT %(prefix)s || n) AS one (key)",
            {
                "name": saga.ORDER.name,
                "version": saga.ORDER.version,
                "fingerprint": saga.ORDER.fingerprint,
                "count": count,
                "prefix": prefix,
            },
        )
        cursor.execute(
            "INSERT INTO sagas_step (saga_id, position, name, state, attempts, undo_attempts, fence, task_id,"
            " worker) SELECT g.id, step.n - 1, step.name, 'pending', 0, 0, 0, '', '' FROM sagas_saga g,"
            " unnest(%s::text[]) WITH ORDINALITY AS step (name, n) WHERE g.key LIKE %s",
            [[step.name for step in saga.ORDER.steps], f"{prefix}%"],
        )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sagas_saga, sagas_step")
    return prefix


def _left(prefix: str) -> int:
    from sagas import models

    return models.SagaInstance.objects.filter(
        name="bench", finished_at=None, closed_at=None, key__startswith=prefix
    ).count()


def _table(*, due: int, share: float, capacity: float, alone: Live, beside: Live) -> str:
    ended = (due + beside.orders) / beside.seconds
    rows = [
        ("live orders", f"{alone.orders:,}", f"{beside.orders:,}"),
        ("p50, ms", f"{alone.p50_ms:.0f}", f"{beside.p50_ms:.0f}"),
        ("p99, ms", f"{alone.p99_ms:.0f}", f"{beside.p99_ms:.0f}"),
        ("worst, ms", f"{alone.worst_ms:.0f}", f"{beside.worst_ms:.0f}"),
        ("sagas ended in a second, live and due", f"{alone.orders / alone.seconds:.0f}", f"{ended:.0f}"),
        ("of these due", "0", f"{due / beside.seconds:.0f}"),
    ]
    lines = [
        f"| live orders at {share:.0%} of the workers' rate | alone | beside {due:,} due |",
        "|---|---|---|",
    ]
    lines += [f"| {title} | {one} | {other} |" for title, one, other in rows]
    lines += [
        "",
        f"p99 beside the due ones to alone: **{beside.p99_ms / alone.p99_ms:.1f}**. The workers' rate with a"
        f" backlog of their own, {capacity:.0f} in a second: beside the due ones they did"
        f" **{ended / capacity:.0%}** of it; the due ones had ended after {beside.seconds:.0f} s.",
        "",
        f"{teams.WORKERS} x {teams.CHILDREN} prefork; {documents.machine()}.",
    ]
    return "\n".join(lines)
