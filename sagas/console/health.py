"""How the engine fares: what is live, how fast and how well it goes, and what it depends upon.

Every number is bounded by what is live or recent, never by the history.
"""

import dataclasses
import datetime
from typing import Any

from django.db.models import Count

from sagas import conf, database, models
from sagas.console import history
from sagas.declaration import registry
from sagas.declaration.states import LIVE, SagaState

RECENT = 2000
"""Of how many of the newest sagas the steps are timed."""

WORTH_A_WORD = datetime.timedelta(milliseconds=50)
"""A step that waits for less waits for nobody: so long it takes to write its rows."""

WINDOWS = {
    "1h": (datetime.timedelta(hours=1), datetime.timedelta(minutes=2)),
    "24h": (datetime.timedelta(hours=24), datetime.timedelta(minutes=30)),
    "7d": (datetime.timedelta(days=7), datetime.timedelta(hours=4)),
}
"""What the charts may show: how much time, and how much of it one bar stands for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bucket:
    """The sagas that began in one stretch of time, by what has become of them."""

    at: datetime.datetime
    counts: dict[str, int]

    @property
    def total(self) -> int:
        """How many began."""
        return sum(self.counts.values())

    @property
    def bad(self) -> int:
        """How many were turned back, stand before a person, or were put aside."""
        return sum(self.counts.get(state, 0) for state in _BAD)


CLOSED = "closed"
"""What was put aside: it needs nobody any more, and no tile counts it among those that do."""

_BAD = (SagaState.COMPENSATING, SagaState.COMPENSATED, SagaState.NEEDS_ATTENTION, CLOSED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepFigures:
    """How long is worked at a step, how long it waits beside that, and how often it is where a saga fails.

    All versions of a saga are one: a row is a step's name.
    """

    saga: str
    step: str
    count: int
    p50: datetime.timedelta | None
    """Of the time that workers had it, over all attempts. None where no worker has it, or none is timed."""

    p95: datetime.timedelta | None
    wait_p50: datetime.timedelta | None
    """Of the time between its beginning and its end in which no worker had it: it waited for a callback, for
    a person, for its children, for a provider that was out, for its next attempt, or for a worker that had
    vanished with it."""

    wait_p95: datetime.timedelta | None
    failed: int

    @property
    def waits(self) -> bool:
        """Whether it waits for longer than the rows take to be written."""
        return self.wait_p95 is not None and self.wait_p95 >= WORTH_A_WORD

    @property
    def share(self) -> float:
        """Of those that tried it, how many failed there."""
        return self.failed / self.count if self.count else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueueFigures:
    """What is known of a queue and its workers."""

    name: str
    lag: datetime.timedelta | None
    """How long the oldest probe is unanswered: how long its backlog is, in time."""
    silence: datetime.timedelta | None
    """How long no worker has given a sign while a probe is unanswered."""
    returned_at: datetime.datetime | None
    worker: str
    calls_out: bool
    """Whether its steps have a provider; only then there is a circuit."""
    circuit: models.Circuit | None
    in_line: int = 0
    """How many sagas are due and stand in its line until its workers take them; none that is held."""
    longest_line: int | None = None
    """With so many in its line no saga begins there; None where there is no such bound, or none ever does."""

    @property
    def full(self) -> bool:
        """Whether so many stand in its line that no more sagas begin there."""
        return self.longest_line is not None and self.in_line >= self.longest_line

    @property
    def needs_person(self) -> bool:
        """Whether its provider stays out until a person mends something."""
        return self.circuit is not None and self.circuit.needs_person

    @property
    def silent(self) -> bool:
        """Whether no worker gave a sign for too long, or ever."""
        return self.silence is None or self.silence > conf.SILENT_AFTER

    @property
    def behind(self) -> bool:
        """Whether its workers are there, and have much to do."""
        return not self.silent and self.lag is not None and self.lag > conf.SILENT_AFTER


@dataclasses.dataclass(frozen=True, kw_only=True)
class Health:
    """Everything at one moment."""

    now: datetime.datetime
    live: dict[str, int]
    live_children: dict[str, int]
    """Of those, how many are children of another saga; without those in the next line."""

    for_a_childs_sake: int
    """How many of those that need attention do so only because a child of theirs does."""

    held: int
    width: datetime.timedelta
    """How much time one bucket stands for."""

    buckets: list[Bucket]
    steps: list[StepFigures]
    oldest: models.SagaInstance | None
    sweep_lag: datetime.timedelta
    overdue: int
    swept: datetime.timedelta | None
    """How long ago somebody swept; None if nobody ever has."""
    queues: list[QueueFigures]
    callbacks_waiting: int
    """Callbacks that wait for a person, beside the sagas that do."""

    @property
    def to_mend(self) -> list[QueueFigures]:
        """The services at which no saga can go on until a person mends something."""
        return [queue for queue in self.queues if queue.needs_person]

    @property
    def totals(self) -> dict[str, int]:
        """What became of all that began in the window."""
        return {
            state: sum(bucket.counts.get(state, 0) for bucket in self.buckets)
            for state in (*SagaState, CLOSED)
        }

    @property
    def unswept(self) -> bool:
        """Whether nobody sweeps."""
        return is_late(self.swept)

    @property
    def begun(self) -> int:
        """How many began in the window."""
        return sum(bucket.total for bucket in self.buckets)

    @property
    def failure_rate(self) -> float:
        """Of those that began in the window, the share that was turned back or stands before a person."""
        return sum(bucket.bad for bucket in self.buckets) / self.begun if self.begun else 0.0


def read(window: str = "24h", *, children: bool = True) -> Health:
    """Read it all, in ten statements.

    Arguments:
        window: one of `WINDOWS`.
        children: whether what began in the window counts children, too; else each family counts once.
    """
    length, width = WINDOWS[window]
    now = _now()
    live, live_children, childs_sake, held, overdue, sweep_lag = _live(now)
    return Health(
        now=now,
        live=live,
        live_children=live_children,
        for_a_childs_sake=childs_sake,
        held=held,
        width=width,
        buckets=_buckets(now, length, width, children),
        steps=_steps(),
        oldest=models.SagaInstance.objects.filter(state__in=LIVE, closed_at=None)
        # One that is to start later is not old by then.
        .exclude(epoch=0, wake_at__gt=now)
        .order_by("created_at")
        .first(),
        sweep_lag=sweep_lag,
        overdue=overdue,
        swept=swept(now),
        queues=_queues(now),
        callbacks_waiting=models.Signal.objects.filter(attention_at__isnull=False, settled_at=None).count(),
    )


def _now() -> datetime.datetime:
    """The time of which the rows tell: the database's; on a standby, how far it has come.

    What it has not replayed yet is not late, and its primary's sweep has not stopped for that.
    """
    with database.for_reading(models.SagaInstance).cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END,"
            " clock_timestamp())"
        )
        now: datetime.datetime = cursor.fetchone()[0]
    return now


def swept(now: datetime.datetime) -> datetime.timedelta | None:
    """How long ago somebody swept, by the database's clock; None if nobody ever has."""
    at = models.Heartbeat.last_sweep().first()
    return None if at is None else max(now - at, datetime.timedelta(0))


def is_late(swept: datetime.timedelta | None) -> bool:
    """Whether a sweep that long ago means that nobody sweeps."""
    return swept is None or swept > conf.sweep_is_late_after()


def _live(
    now: datetime.datetime,
) -> tuple[dict[str, int], dict[str, int], int, int, int, datetime.timedelta]:
    """Live sagas by state, and those of them that are children; then figures over all of them.

    These are: how many need attention for a child's sake, are held, are overdue; and how late the sweep is.

    Steps that are done at once have timers of their own: a saga of which one is overdue is overdue.
    """
    with database.for_reading(models.SagaInstance).cursor() as cursor:
        cursor.execute(
            """
            SELECT state, count(*), count(*) FILTER (WHERE held_at IS NOT NULL),
                   count(*) FILTER (WHERE wake_at < %(now)s AND held_at IS NULL),
                   min(wake_at) FILTER (WHERE wake_at < %(now)s AND held_at IS NULL),
                   count(*) FILTER (WHERE parent_id IS NOT NULL AND NOT for_a_childs_sake),
                   count(*) FILTER (WHERE for_a_childs_sake)
              FROM (SELECT g.*, g.attention->>'child' IS NOT NULL AND EXISTS (
                             SELECT FROM sagas_saga c WHERE c.id = (g.attention->>'child')::uuid
                                AND c.state = 'needs_attention' AND c.closed_at IS NULL
                           ) AS for_a_childs_sake
                      FROM sagas_saga g) AS saga
             WHERE state IN ('running', 'compensating', 'needs_attention') AND closed_at IS NULL
             GROUP BY state
            """,
            {"now": now},
        )
        rows = cursor.fetchall()
        cursor.execute(
            """
            SELECT count(DISTINCT s.saga_id) FILTER (WHERE g.wake_at IS NULL OR g.wake_at >= %(now)s),
                   min(s.wake_at)
              FROM sagas_step s JOIN sagas_saga g ON g.id = s.saga_id
             WHERE s.wake_at < %(now)s AND g.held_at IS NULL AND g.closed_at IS NULL
               AND g.state IN ('running', 'compensating')
            """,
            {"now": now},
        )
        of_members, earliest = cursor.fetchone()
    late = [at for at in (*(row[4] for row in rows), earliest) if at is not None]
    return (
        {row[0]: row[1] for row in rows},
        {row[0]: row[5] for row in rows},
        sum(row[6] for row in rows if row[0] == SagaState.NEEDS_ATTENTION),
        sum(row[2] for row in rows),
        sum(row[3] for row in rows) + of_members,
        now - min(late) if late else datetime.timedelta(0),
    )


def _buckets(
    now: datetime.datetime, length: datetime.timedelta, width: datetime.timedelta, children: bool
) -> list[Bucket]:
    origin = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    last = origin + (now - origin) // width * width
    first = last - length + width
    with database.for_reading(models.SagaInstance).cursor() as cursor:
        cursor.execute(
            "SELECT date_bin(%s * interval '1 second', created_at, %s),"
            " CASE WHEN closed_at IS NULL THEN state ELSE 'closed' END, count(*) FROM sagas_saga"
            " WHERE created_at >= %s AND (%s OR parent_id IS NULL) GROUP BY 1, 2",
            [width.total_seconds(), origin, first, children],
        )
        counted: dict[datetime.datetime, dict[str, int]] = {}
        for at, state, count in cursor.fetchall():
            counted.setdefault(at, {})[state] = count
    starts = [first + width * number for number in range(length // width)]
    return [Bucket(at=at, counts=counted.get(at, {})) for at in starts]


def _steps() -> list[StepFigures]:
    with database.for_reading(models.SagaInstance).cursor() as cursor:
        cursor.execute(_STEPS, {"recent": RECENT, "opens": _OPENS, "ends": _ENDS})
        return [StepFigures(**dict(zip(_STEP_FIELDS, row, strict=True))) for row in cursor.fetchall()]


_OPENS = [kind for kind in history.OPENS if kind.startswith("step.")]
_ENDS = [kind for kind in history.CLOSES if kind.startswith("step.")]

_STEP_FIELDS = ("saga", "step", "count", "p50", "p95", "wait_p50", "wait_p95", "failed")

# 1. A claimed attempt lasts from the event that opens it to the next of the same step. One whose lease ran
#    out is not known to have lasted at all: its worker had vanished.
# 2. An attempt of a local step is one event, at its end; its beginning is on the row, and only the first's.
#    A local step that was tried more often is left out.
# 3. What is left of the time from beginning to end is waiting.
_STEPS = """
WITH recent AS (
    SELECT id, name, failure->>'step' AS failed_at FROM sagas_saga ORDER BY created_at DESC LIMIT %(recent)s
), told AS (
    SELECT e.saga_id, e.subject, e.kind, e.at,
           lead(e.at) OVER attempt AS next_at, lead(e.data->>'clock') OVER attempt AS next_clock
      FROM recent r JOIN sagas_event e ON e.saga_id = r.id
     WHERE e.kind = ANY(%(opens)s) OR e.kind = ANY(%(ends)s)
    WINDOW attempt AS (PARTITION BY e.saga_id, e.subject ORDER BY e.id)
), worked AS (
    SELECT saga_id, subject, bool_or(kind = ANY(%(opens)s)) AS claimed,
           count(*) FILTER (WHERE kind = 'step.late') AS late,
           min(at) FILTER (WHERE kind = ANY(%(ends)s)) AS first_end,
           coalesce(sum(next_at - at) FILTER (
               WHERE kind = ANY(%(opens)s) AND next_clock IS DISTINCT FROM 'lease'
           ), interval '0') AS work
      FROM told GROUP BY saga_id, subject
), timed AS (
    SELECT r.name AS saga, s.name AS step, s.position, r.failed_at = s.name AS failed, s.attempts,
           s.attempts > 0 OR s.started_at IS NOT NULL AS tried, s.finished_at - s.started_at AS whole,
           CASE WHEN w.claimed THEN w.work
                WHEN s.attempts = 1 AND w.late = 0 THEN w.first_end - s.started_at
           END AS work,
           s.state IN ('done', 'undoing', 'undone', 'undo_failed') AS done
      FROM recent r JOIN sagas_step s ON s.saga_id = r.id
      LEFT JOIN worked w ON w.saga_id = s.saga_id AND w.subject = s.name
), waited AS (
    SELECT *, CASE WHEN attempts = 0 THEN whole
                   WHEN work IS NOT NULL THEN greatest(whole - work, interval '0') END AS wait
      FROM timed
)
SELECT saga, step, count(*) FILTER (WHERE tried),
       percentile_cont(0.5) WITHIN GROUP (ORDER BY work) FILTER (WHERE done),
       percentile_cont(0.95) WITHIN GROUP (ORDER BY work) FILTER (WHERE done),
       percentile_cont(0.5) WITHIN GROUP (ORDER BY wait) FILTER (WHERE done),
       percentile_cont(0.95) WITHIN GROUP (ORDER BY wait) FILTER (WHERE done),
       count(*) FILTER (WHERE failed)
  FROM waited GROUP BY saga, step ORDER BY saga, max(position), step
"""


def _queues(now: datetime.datetime) -> list[QueueFigures]:
    rows: dict[str, Any] = models.Queue.objects.in_bulk()
    circuits: dict[str, Any] = models.Circuit.objects.in_bulk()
    providers, begins = registry.providers(), registry.first_queues()
    in_line = dict(
        models.SagaInstance.objects.filter(in_line_for__isnull=False, held_at__isnull=True)
        .values_list("in_line_for")
        .annotate(count=Count("*"))
        .order_by()
    )
    names = sorted({*registry.queues(), conf.ENGINE_QUEUE, *rows})
    return [
        QueueFigures(
            name=name,
            lag=rows[name].lag(now) if name in rows else None,
            silence=rows[name].silence(now) if name in rows else None,
            returned_at=rows[name].returned_at if name in rows else None,
            worker=rows[name].worker if name in rows else "",
            calls_out=name in providers,
            circuit=circuits.get(name),
            in_line=in_line.get(name, 0),
            longest_line=conf.longest_line() if name in begins else None,
        )
        for name in names
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Open:
    """How many are open of a kind, and for how long the oldest of them has been."""

    count: int
    oldest: datetime.timedelta


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenFigures:
    """What waits for a person, or for an answer."""

    attention: dict[tuple[str, str, str], Open]
    """By a saga's name, the reason and the direction: those that need attention.

    The reason is the `FailureKind` of the step in the way; or `child`; or `other` where none is known.
    """

    unknown: dict[tuple[str, str], Open]
    """By a saga's name and a step: of live sagas, steps of which it is not known whether they happened.

    How long is counted from when that was first so, however often it has been asked since.
    """

    archive_lag: datetime.timedelta
    """For how long the first saga has been due for the archive; zero if none is."""


def opened() -> OpenFigures:
    """Read it, in three statements; what they read is bounded by what is live."""
    now = models.database_now()
    with database.for_reading(models.SagaInstance).cursor() as cursor:
        cursor.execute(_ATTENTION)
        attention = {
            (name, reason, way): Open(count=count, oldest=_age(now, since))
            for name, reason, way, count, since in cursor.fetchall()
        }
        cursor.execute(_UNKNOWN)
        unknown = {
            (name, step): Open(count=count, oldest=_age(now, since))
            for name, step, count, since in cursor.fetchall()
        }
        after, lag = conf.archive_after(), datetime.timedelta(0)
        if after is not None:
            cursor.execute(
                "SELECT min(coalesce(finished_at, closed_at)) FROM sagas_saga"
                " WHERE finished_at IS NOT NULL OR closed_at IS NOT NULL"
            )
            (first,) = cursor.fetchone()
            lag = max(_age(now, first) - after, lag)
    return OpenFigures(attention=attention, unknown=unknown, archive_lag=lag)


def _age(now: datetime.datetime, since: datetime.datetime | None) -> datetime.timedelta:
    return datetime.timedelta(0) if since is None else max(now - since, datetime.timedelta(0))


_ATTENTION = """
SELECT g.name, CASE WHEN g.attention ? 'child' THEN 'child'
        ELSE COALESCE(s.error ->> 'kind', g.failure ->> 'kind', 'other') END,
    CASE g.direction WHEN 1 THEN 'forward' ELSE 'backward' END,
    count(*), min((g.attention ->> 'since')::timestamptz)
  FROM sagas_saga g LEFT JOIN sagas_step s ON s.saga_id = g.id AND s.name = g.attention ->> 'step'
 WHERE g.state = 'needs_attention' AND g.closed_at IS NULL
 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""

# Since it first became unknown: to ask, and to hear nothing again, is the same doubt. It is over where the
# step came to something else between. By the events: the row has the error of the last attempt alone.
_UNKNOWN = """
SELECT g.name, s.name, count(*), min(doubt.since)
  FROM sagas_saga g JOIN sagas_step s ON s.saga_id = g.id
 CROSS JOIN LATERAL (
    SELECT min(e.at) AS since FROM sagas_event e
     WHERE e.saga_id = g.id AND e.subject = s.name AND e.to_state = 'unknown' AND e.id > COALESCE((
        SELECT max(k.id) FROM sagas_event k
         WHERE k.saga_id = g.id AND k.subject = s.name AND k.to_state NOT IN ('', 'unknown', 'running')
     ), 0)
  ) doubt
 WHERE g.state IN ('running', 'compensating', 'needs_attention') AND g.closed_at IS NULL
   AND s.state = 'unknown'
 GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FamilyFigures:
    """Live sagas that are children of others, and what waits for whom."""

    live: dict[tuple[str, str], int]
    """By a child's name and state: how many are live. They are counted among all live sagas, too."""

    waiting: dict[str, int]
    """By a child's name: of how many all steps are done, so that they wait for their parent's outcome."""

    parents: dict[tuple[str, str], int]
    """By a saga's name and its step: how many are at that step, and wait for its children."""


def families() -> FamilyFigures:
    """Read it, in two statements; what they read is bounded by the children that are live."""
    with database.for_reading(models.SagaInstance).cursor() as cursor:
        cursor.execute(_CHILDREN_THAT_LIVE)
        children = cursor.fetchall()
        cursor.execute(_PARENTS_THAT_WAIT)
        parents = cursor.fetchall()
    waiting: dict[str, int] = {}
    for name, _state, _count, waits in children:
        waiting[name] = waiting.get(name, 0) + waits
    return FamilyFigures(
        live={(name, state): count for name, state, count, _waits in children},
        waiting=waiting,
        parents={(name, step): count for name, step, count in parents},
    )


_CHILDREN_THAT_LIVE = """
SELECT name, state, count(*), count(*) FILTER (WHERE state = 'running' AND NOT EXISTS (
           SELECT 1 FROM sagas_step s WHERE s.saga_id = g.id AND s.position >= g.position
       ))
  FROM sagas_saga g
 WHERE state IN ('running', 'compensating', 'needs_attention') AND closed_at IS NULL AND parent_id IS NOT NULL
 GROUP BY name, state ORDER BY name, state
"""

_PARENTS_THAT_WAIT = """
SELECT p.name, s.name, count(DISTINCT p.id)
  FROM sagas_saga c JOIN sagas_saga p ON p.id = c.parent_id
  JOIN sagas_step s ON s.saga_id = p.id AND s.name = c.parent_step
 WHERE c.state IN ('running', 'compensating', 'needs_attention') AND c.closed_at IS NULL
   AND p.finished_at IS NULL AND p.closed_at IS NULL AND s.state IN ('waiting', 'undoing')
 GROUP BY p.name, s.name ORDER BY p.name, s.name
"""
