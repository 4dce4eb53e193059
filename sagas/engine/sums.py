"""The metrics' running sums: kept in rows, made of the event log that the engine writes anyway.

1. `fold` adds what the event log tells since last time, each event exactly once (`sagas.engine.following`),
   and what was counted where no event tells (`count`). The sums and the cursor are one transaction.
2. Nothing is ever taken away from a sum: a saga that goes into the archive, or is erased, has been counted.
   The archiver folds what it takes before its time (`fold_early`).
3. `rebuild` makes the sums of the events anew, from the live tables and the archive.

So a killed process loses none, and whoever reads the rows says the same.
"""

import dataclasses
import datetime
import enum
import json
import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db import connection, transaction

from sagas import documents
from sagas.declaration import registry
from sagas.engine import following
from sagas.engine.pipeline import Statement
from sagas.models import ArchivedSaga, EventCursor, MetricSum, database_now

SHORTEST_WAIT = datetime.timedelta(milliseconds=10)
"""An attempt whose message was under way for less carries no word of it, and counts as not having waited."""

_MS = datetime.timedelta(milliseconds=1)

COUNTS = 5000
"""Rows of `count` that one transaction adds to their sums."""


class Kind(enum.Enum):
    """What kind of metric it is."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric that is kept as sums."""

    name: str
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()
    """Of a histogram's buckets, in seconds; each counts what is no longer than that. A last one is +Inf."""

    @property
    def kind(self) -> Kind:
        """What it is."""
        return Kind.HISTOGRAM if self.bounds else Kind.COUNTER


_WAITS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0, 86400.0, 604800.0)

STARTED = Metric(name="sagas_started_total", help="Sagas that began.", labels=("saga", "version"))
ENDED = Metric(
    name="sagas_ended_total",
    help="Sagas that ended: completed, compensated, or closed by an operator.",
    labels=("saga", "version", "state"),
)
DURATION = Metric(
    name="sagas_duration_seconds",
    help="From the begin of a saga to its end.",
    labels=("saga", "state"),
    bounds=_LONG,
)
STEPS = Metric(
    name="sagas_steps_total",
    help="Steps, and undos of steps, that came to an outcome.",
    labels=("saga", "step", "direction", "outcome"),
)
STEP_DURATION = Metric(
    name="sagas_step_duration_seconds",
    help="From the begin of a step's first attempt until it is done, with its retries and what it waits for.",
    labels=("saga", "step", "direction"),
    bounds=_LONG,
)
STEP_WAIT = Metric(
    name="sagas_step_wait_seconds",
    help="How long a step's message was under way until a worker claimed the attempt.",
    labels=("queue",),
    bounds=_WAITS,
)
TRANSITION = Metric(
    name="sagas_transition_seconds",
    help="From the record of a step's outcome to the begin of the next, where one worker went on at once.",
    labels=("saga",),
    bounds=_SHORT,
)
ATTEMPTS = Metric(
    name="sagas_attempts_total", help="Attempts at steps and undos.", labels=("saga", "step", "direction")
)
LATE_CALLBACKS = Metric(
    name="sagas_late_callbacks_total",
    help="Callbacks that lost a race: what they tell of is undone again.",
    labels=("saga", "step"),
)
REDISPATCHES = Metric(
    name="sagas_redispatches_total",
    help="Messages that were sent again because the one before was lost, or its worker.",
    labels=("saga", "queue"),
)
VOIDED = Metric(
    name="sagas_voided_messages_total",
    help="Messages that came when their saga did not want them any more.",
    labels=("saga", "step", "reason"),
)

METRICS = (
    STARTED, ENDED, DURATION, STEPS, STEP_DURATION, STEP_WAIT, TRANSITION, ATTEMPTS, LATE_CALLBACKS,
    REDISPATCHES, VOIDED,
)  # fmt: skip

_OF_EVENTS = tuple(metric for metric in METRICS if metric not in (REDISPATCHES, VOIDED))


class Void(enum.StrEnum):
    """Why a message was void."""

    SUPERSEDED = "superseded"
    """Another was sent since, or the saga goes the other way, or has ended."""

    UNEXPECTED = "unexpected"
    """None is expected: its saga pauses, or has what it told."""

    ELSEWHERE = "elsewhere"
    """The saga is not at that step yet."""

    HELD = "held"
    """An operator holds the saga."""

    BUSY = "busy"
    """Another worker is at the step."""

    LOST_LEASE = "lost-lease"
    """Its worker came back after its lease, and another had taken over: its outcome is void."""


# --- What no event tells ---------------------------------------------------------------------------


def count(metric: Metric, *labels: str) -> Statement:
    """The statement that counts one, to be sent along with what is written anyway."""
    return Statement(
        "INSERT INTO sagas_metric_count (name, labels) VALUES (%s, %s::jsonb)",
        [metric.name, json.dumps(labels)],
    )


def wait_of(waited: datetime.timedelta) -> dict[str, int]:
    """What an attempt's event says of how long its message was under way."""
    return {"waited_ms": int(waited / _MS)} if waited >= SHORTEST_WAIT else {}


def count_all(metric: Metric, several: Iterable[Sequence[str]]) -> None:
    """Count one for each of these sets of labels."""
    if given := [json.dumps(labels) for labels in several]:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO sagas_metric_count (name, labels) SELECT %s, unnest(%s::text[])::jsonb",
                [metric.name, given],
            )


# --- Folding ---------------------------------------------------------------------------------------

Sums = dict[tuple[str, tuple[str, ...]], float]
"""By name and labels, what is to be added."""


def fold(*, until: float = math.inf, limit: int = following.BATCH) -> bool:
    """Add to the sums all that is new by now, batch by batch; any number may be called at once.

    Arguments:
        until: begin no further batch after this moment of `time.monotonic()`.
        limit: so many events in one transaction at most.

    Returns:
        Whether all of it is added. If not, the time was up, or a transaction that began before is under way.
    """
    if not following.is_behind(EventCursor.METRICS) and not _counted():
        return True
    following.begin(EventCursor.METRICS)
    newest = following.newest()
    while True:
        with following.batch(EventCursor.METRICS, limit=limit) as batch:
            added: Sums = {}
            if not batch.empty:
                added = _told(_LIVE, {"after": batch.after, "to": batch.to, "ahead": json.dumps(batch.ahead)})
            left = _take_counts(added)
            _add(added)
        if not (left or batch.leads_on(newest)) or time.monotonic() >= until:
            return not left and batch.to >= newest


def fold_early(last_events: Mapping[uuid.UUID, int]) -> None:
    """Add what has not been added yet of sagas that leave the live tables, in the transaction of their move.

    Mostly nothing: the events of what ended days ago have long been folded, and no lock is taken.

    Arguments:
        last_events: the id of each saga's last event.
    """
    newest = max(last_events.values(), default=0)
    row = EventCursor.objects.filter(name=EventCursor.METRICS).first()
    if row is None:
        following.begin(EventCursor.METRICS)
    elif newest <= row.read_to:
        return
    row = EventCursor.objects.select_for_update().get(name=EventCursor.METRICS)
    unread = {str(pk): last for pk, last in last_events.items() if last > row.read_to}
    if not unread:
        return
    given = {"after": row.read_to, "to": newest, "ahead": json.dumps(row.ahead), "sagas": list(unread)}
    _add(_told(_LEAVING, given))
    row.ahead = {**row.ahead, **unread}
    row.save(update_fields=["ahead"])


def _counted() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM sagas_metric_count)")
        row: Any = cursor.fetchone()
    return bool(row[0])


def _take_counts(added: Sums) -> bool:
    """Take what was counted; says whether there may be more."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH taken AS (DELETE FROM sagas_metric_count"
            " WHERE id = ANY (ARRAY(SELECT id FROM sagas_metric_count ORDER BY id LIMIT %s))"
            " RETURNING name, labels) SELECT name, labels::text, count(*) FROM taken GROUP BY 1, 2",
            [COUNTS],
        )
        taken = 0
        for name, labels, number in cursor.fetchall():
            added[name, tuple(json.loads(labels))] = number
            taken += number
    return taken >= COUNTS


def _add(added: Sums) -> None:
    if not added:
        return
    ordered = sorted(added)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sagas_metric_sum AS kept (name, labels, value)"
            " SELECT name, labels::jsonb, value FROM unnest(%s::text[], %s::text[], %s::float8[])"
            " AS new (name, labels, value)"
            " ON CONFLICT (name, labels) DO UPDATE SET value = kept.value + excluded.value",
            [
                [name for name, _ in ordered],
                [json.dumps(labels) for _, labels in ordered],
                [float(added[which]) for which in ordered],
            ],
        )


def rebuild() -> None:
    """Make the sums of the events anew, from all events that there are, live or archived.

    What no event tells stays as it is. What was forgotten with its months in the archive is gone from the
    sums then, so that counters may go down: to Prometheus that is a reset.
    """
    following.begin(EventCursor.METRICS)
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            # One view of the live tables and of the archive, so that what moves meanwhile is in one of them;
            # taken once nobody folds, and the archiver folds nothing early.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("LOCK TABLE sagas_event_cursor IN EXCLUSIVE MODE")
        row = EventCursor.objects.get(name=EventCursor.METRICS)
        added = _told(_LIVE, {"after": -1, "to": row.read_to, "ahead": "{}"})
        ahead = {pk: last for pk, last in row.ahead.items() if last > row.read_to}
        if ahead:
            given = {"after": row.read_to, "to": max(ahead.values()), "ahead": "{}", "sagas": list(ahead)}
            _merge(added, _told(_LEAVING, given))
        for packed in ArchivedSaga.objects.order_by("ended_at", "id").iterator(chunk_size=200):
            _merge(added, _told(_ARCHIVED, _of_archived(packed)))
        MetricSum.objects.filter(
            name__in=[name for metric in _OF_EVENTS for name in names_of(metric)]
        ).delete()
        _add(added)


def _merge(added: Sums, more: Sums) -> None:
    for which, value in more.items():
        added[which] = added.get(which, 0) + value


def _of_archived(row: ArchivedSaga) -> dict[str, Any]:
    document = documents.unpack(bytes(row.document), row.dictionary)
    about = {"saga_id": str(row.pk)}
    return {
        "after": -1,
        "events": json.dumps([{**event, **about} for event in documents.events_of(document)]),
        "sagas": json.dumps([document["saga"]]),
        "steps": json.dumps([{**step, **about} for step in document["steps"]]),
    }


def names_of(metric: Metric) -> tuple[str, ...]:
    """The names under which its sums are kept."""
    if metric.kind is Kind.COUNTER:
        return (metric.name,)
    return (f"{metric.name}_bucket", f"{metric.name}_sum")


def _told(sql: str, given: dict[str, Any]) -> Sums:
    """What these events add to the sums."""
    parameters = {
        **given,
        "long": list(_LONG), "waits": list(_WAITS), "short": list(_SHORT),
    }  # fmt: skip
    added: Sums = {}
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        for name, labels, bucket, number, total in cursor.fetchall():
            metric = _BY_NAME[name]
            if metric is STEP_WAIT:
                labels = [_queue_of(*labels)]
            if metric.kind is Kind.COUNTER:
                _merge(added, {(name, tuple(labels)): number})
                continue
            bound = metric.bounds[bucket] if bucket < len(metric.bounds) else math.inf
            _merge(added, {
                (f"{name}_bucket", (*labels, _bound(bound))): number,
                (f"{name}_sum", tuple(labels)): total,
            })  # fmt: skip
    return added


_BY_NAME = {metric.name: metric for metric in METRICS}


def _bound(seconds: float) -> str:
    return "+Inf" if math.isinf(seconds) else f"{seconds:g}"


def _queue_of(saga: str, version: str, step: str) -> str:
    """A step's queue; where the code no longer has it, that of the same step in another version."""
    versions = {known.version: known for known in registry.versions(saga)}
    for known in (versions.get(int(version)), *versions.values()):
        for declared in known.all_steps if known is not None else ():
            if declared.name == step:
                return declared.queue
    return "unknown"


# Three places from which the same is read: the live tables, those that leave them, and a document.
_FROM_ROWS = """
WITH e AS MATERIALIZED (
    SELECT id, saga_id, at, kind, subject, from_state, to_state, attempt, data ->> 'task_id' AS task_id,
        (data ->> 'waited_ms')::float8 / 1000 AS waited
    FROM sagas_event
    WHERE id > %(after)s AND id <= %(to)s
        AND id > COALESCE((%(ahead)s::jsonb ->> saga_id::text)::bigint, -1) {more}
), g AS (SELECT id, name, version, created_at FROM sagas_saga),
s AS (SELECT saga_id, name, started_at, undo_started_at, task_id FROM sagas_step),
before AS NOT MATERIALIZED (SELECT id, saga_id, at, kind, subject, attempt FROM sagas_event)
"""
_FROM_DOCUMENT = """
WITH e AS MATERIALIZED (
    SELECT id, saga_id, at, kind, subject, from_state, to_state, attempt, data ->> 'task_id' AS task_id,
        (data ->> 'waited_ms')::float8 / 1000 AS waited
    FROM jsonb_to_recordset(%(events)s::jsonb) AS event (id bigint, saga_id uuid, at timestamptz, kind text,
        subject text, from_state text, to_state text, attempt int, data jsonb)
), g AS (
    SELECT * FROM jsonb_to_recordset(%(sagas)s::jsonb)
        AS saga (id uuid, name text, version int, created_at timestamptz)
), s AS (
    SELECT * FROM jsonb_to_recordset(%(steps)s::jsonb) AS step
        (saga_id uuid, name text, started_at timestamptz, undo_started_at timestamptz, task_id text)
), before AS (SELECT id, saga_id, at, kind, subject, attempt FROM e)
"""
_TOLD = """, told AS MATERIALIZED (
    SELECT e.*, g.name AS saga, g.version::text AS version, g.created_at,
        e.kind LIKE 'undo.%%' AS undo,
        CASE WHEN e.kind LIKE 'undo.%%' THEN 'backward' ELSE 'forward' END AS way,
        s.started_at, s.undo_started_at, s.task_id AS last_task
    -- Each event's rows by their keys: a plan for any number of events might read all that there are.
    FROM e, LATERAL (SELECT * FROM g WHERE g.id = e.saga_id LIMIT 1) AS g
    LEFT JOIN LATERAL (
        SELECT * FROM s WHERE s.saga_id = e.saga_id AND s.name = e.subject AND e.subject <> '' LIMIT 1
    ) AS s ON true
), ended AS (
    SELECT saga, version, at - created_at AS took,
        CASE WHEN kind = 'operator.close' THEN 'closed' ELSE substr(kind, 6) END AS state
    FROM told WHERE kind IN ('saga.completed', 'saga.compensated', 'operator.close')
), outcomes AS (
    SELECT saga, subject, way, CASE kind
            WHEN 'step.done' THEN 'done' WHEN 'undo.done' THEN 'done' WHEN 'undo.failed' THEN 'failed'
            WHEN 'step.failed' THEN to_state ELSE 'skipped' END AS outcome,
        CASE kind WHEN 'step.done' THEN at - started_at WHEN 'undo.done' THEN at - undo_started_at END AS took
    FROM told
    WHERE kind IN ('step.done', 'step.failed', 'step.skipped', 'operator.skip', 'undo.done', 'undo.failed')
), attempts AS (
    -- An attempt is told of by one event or by several, all with its number: the first one counts.
    SELECT saga, version, subject, way, attempt, saga_id, min(waited) AS waited,
        COALESCE(min(task_id), min(last_task), '') AS task,
        -- A local attempt that failed does not say how long it waited.
        bool_or(kind IN ('step.started', 'step.done', 'step.waiting', 'undo.started', 'undo.done')) AS known
    FROM told
    WHERE attempt > 0 AND (undo OR kind LIKE 'step.%%') AND (
        SELECT true FROM before
        WHERE before.saga_id = told.saga_id AND before.id <= %(after)s AND before.subject = told.subject
            AND before.attempt = told.attempt AND (before.kind LIKE 'undo.%%') = told.undo
            AND (before.kind LIKE 'undo.%%' OR before.kind LIKE 'step.%%')
        LIMIT 1
    ) IS NULL
    GROUP BY saga, version, subject, way, attempt, saga_id
), transitions AS (
    -- A task's id with a number behind a dot: the worker went on with that step in the task of another. A
    -- local step is not claimed: its row says when it was locked for the first time.
    SELECT saga, CASE told.kind WHEN 'step.done' THEN started_at ELSE told.at END - last.at AS took
    FROM told, LATERAL (
        SELECT at, kind FROM before WHERE before.saga_id = told.saga_id AND before.id < told.id
        ORDER BY before.id DESC LIMIT 1
    ) AS last
    WHERE (told.kind IN ('step.started', 'undo.started') AND told.task_id LIKE '%%.%%'
            OR told.kind = 'step.done' AND told.from_state = 'pending' AND told.attempt = 1
            AND told.last_task LIKE '%%.%%')
        AND last.kind IN ('step.done', 'step.chosen', 'step.skipped', 'undo.done')
), seconds AS (
    SELECT 'sagas_duration_seconds' AS name, ARRAY[saga, state] AS labels,
        EXTRACT(epoch FROM took)::float8 AS took, %(long)s::float8[] AS bounds FROM ended
    UNION ALL SELECT 'sagas_step_duration_seconds', ARRAY[saga, subject, way], EXTRACT(epoch FROM took),
        %(long)s FROM outcomes WHERE took >= interval '0'
    UNION ALL SELECT 'sagas_step_wait_seconds', ARRAY[saga, version, subject], COALESCE(waited, 0), %(waits)s
        FROM attempts WHERE known AND task NOT LIKE '%%.%%'
    UNION ALL SELECT 'sagas_transition_seconds', ARRAY[saga], EXTRACT(epoch FROM took), %(short)s
        FROM transitions WHERE took >= interval '0'
)
SELECT 'sagas_started_total', ARRAY[saga, version], 0, count(*), 0::float8 FROM told
    WHERE kind = 'saga.begun' GROUP BY 2
UNION ALL SELECT 'sagas_ended_total', ARRAY[saga, version, state], 0, count(*), 0 FROM ended GROUP BY 2
UNION ALL SELECT 'sagas_steps_total', ARRAY[saga, subject, way, outcome], 0, count(*), 0
    FROM outcomes GROUP BY 2
UNION ALL SELECT 'sagas_attempts_total', ARRAY[saga, subject, way], 0, count(*), 0 FROM attempts GROUP BY 2
UNION ALL SELECT 'sagas_late_callbacks_total', ARRAY[saga, subject], 0, count(*), 0 FROM told
    WHERE kind = 'signal.late' GROUP BY 2
-- Of a histogram: how many fell between two bounds, and how long they took together.
UNION ALL SELECT name, labels, width_bucket(took, bounds), count(*), sum(took) FROM seconds GROUP BY 1, 2, 3
"""

_LIVE = _FROM_ROWS.format(more="") + _TOLD
_LEAVING = _FROM_ROWS.format(more="AND saga_id = ANY(%(sagas)s::uuid[])") + _TOLD
_ARCHIVED = _FROM_DOCUMENT + _TOLD


# --- Reading ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A metric's value for one set of labels."""

    labels: tuple[str, ...]
    value: float
    """Of a counter how many; of a histogram the sum of all, in seconds."""

    buckets: tuple[tuple[str, float], ...] = ()
    """Of a histogram: how many were no longer than each bound."""


def read() -> list[tuple[Metric, list[Sample]]]:
    """All sums, of every metric, in one statement. What may be counted and has not happened yet is 0."""
    kept: dict[str, dict[tuple[str, ...], float]] = {}
    for name, labels, value in MetricSum.objects.values_list("name", "labels", "value"):
        kept.setdefault(name, {})[tuple(labels)] = value
    for metric, labels in _expected():
        kept.setdefault(metric.name, {}).setdefault(labels, 0)
    return [(metric, sorted(_samples(metric, kept), key=lambda one: one.labels)) for metric in METRICS]


def age() -> datetime.timedelta | None:
    """How old the sums are, by the database's clock; None if none were ever made.

    Zero where nothing has happened since.
    """
    until = following.read_until(EventCursor.METRICS)
    if until is None or not following.is_behind(EventCursor.METRICS):
        return None if until is None else datetime.timedelta(0)
    return max(database_now() - until, datetime.timedelta(0))


def _samples(metric: Metric, kept: Mapping[str, Mapping[tuple[str, ...], float]]) -> Iterator[Sample]:
    if metric.kind is Kind.COUNTER:
        for labels, value in kept.get(metric.name, {}).items():
            yield Sample(labels=labels, value=value)
        return
    counts = kept.get(f"{metric.name}_bucket", {})
    for labels, total in kept.get(f"{metric.name}_sum", {}).items():
        below, buckets = 0.0, []
        for bound in (*map(_bound, metric.bounds), _bound(math.inf)):
            below += counts.get((*labels, bound), 0)
            buckets.append((bound, below))
        yield Sample(labels=labels, value=total, buckets=tuple(buckets))


def _expected() -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """What a rate would miss the first of, were it not there as 0 before."""
    for saga in registry.everything():
        version = str(saga.version)
        yield STARTED, (saga.name, version)
        for state in ("completed", "compensated", "closed"):
            yield ENDED, (saga.name, version, state)
        for step in saga.all_steps:
            yield STEPS, (saga.name, step.name, "forward", "done")
            yield STEPS, (saga.name, step.name, "forward", "failed")
            yield ATTEMPTS, (saga.name, step.name, "forward")
            if step.undoable:
                yield STEPS, (saga.name, step.name, "backward", "done")
                yield STEPS, (saga.name, step.name, "backward", "failed")
                yield ATTEMPTS, (saga.name, step.name, "backward")
