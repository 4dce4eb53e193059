"""Time that passes when the test says so: the engine's clocks are columns, and are set back.

Everything that decides is compared with the database's clock (D9). To set every moment on the rows
back by an hour is the same as an hour that passed, and takes none.
"""

import datetime
import uuid

from django.db import connection, models

from sagas.engine import circuits, pacing
from sagas.models import Circuit, Heartbeat, Queue, SagaInstance, Signal, StepInstance

A_MOMENT = datetime.timedelta(milliseconds=1)
"""The least by which what is due has passed."""


def pass_time(by: datetime.timedelta, saga_id: uuid.UUID | str | None = None) -> None:
    """Let so much time pass, for everything or for one saga."""
    one = saga_id is not None
    parts = [
        # As everybody does, the saga's row first (I4): there may be workers about.
        f"locked AS (SELECT id FROM sagas_saga WHERE {'id = %(saga_id)s' if one else 'true'} FOR UPDATE)",
        f"sagas AS ({_set_back(SagaInstance, 'id IN (SELECT id FROM locked)')})",
        f"steps AS ({_set_back(StepInstance, 'saga_id IN (SELECT id FROM locked)')})",
    ]
    if not one:
        others = (Signal, Queue, Circuit, Heartbeat)
        parts += [f"{model._meta.model_name}s AS ({_set_back(model)})" for model in others]
    with connection.cursor() as cursor:
        # One statement, and no transaction around it: time passes even where a commit is lost.
        cursor.execute(f"WITH {', '.join(parts)} SELECT 1", {"by_s": by.total_seconds(), "saga_id": saga_id})


def until_due() -> datetime.timedelta | None:
    """How long until the sweep has something to do for a saga or a callback; None if it never will."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH due_members AS (SELECT s.id, s.wake_at, s.parked_for, s.parked_rank, g.held_at"
            " FROM sagas_step s JOIN sagas_saga g ON g.id = s.saga_id"
            " WHERE s.wake_at IS NOT NULL AND g.held_at IS NULL AND g.closed_at IS NULL"
            " AND g.state IN ('running', 'compensating'))"
            " SELECT min(GREATEST(wake_at - clock_timestamp(), interval '0')) FROM ("
            " SELECT wake_at FROM sagas_saga WHERE held_at IS NULL AND closed_at IS NULL"
            " UNION ALL SELECT wake_at FROM due_members"
            " UNION ALL SELECT wake_at FROM sagas_signal"
            # Those that wait for a circuit are let through or woken by it.
            " UNION ALL SELECT CASE WHEN c.opened_at IS NULL"
            " THEN COALESCE(c.woken_at + %s * interval '1 second', clock_timestamp())"
            " WHEN s.parked_rank = 0 AND NOT c.needs_person THEN LEAST(c.open_until, c.permits_at)"
            " ELSE c.open_until END"
            " FROM (SELECT parked_for, parked_rank, held_at FROM sagas_saga UNION ALL"
            "  SELECT parked_for, parked_rank, held_at FROM due_members) AS s"
            " LEFT JOIN sagas_circuit c ON c.name = s.parked_for"
            " WHERE s.parked_for IS NOT NULL AND s.held_at IS NULL"
            # A sweep serves a line at once, or once the probe that was to serve it is taken for lost.
            " UNION ALL SELECT COALESCE(q.line_asked_at + %s * interval '1 second', clock_timestamp())"
            " FROM sagas_saga g LEFT JOIN sagas_queue q ON q.name = g.in_line_for"
            " WHERE g.in_line_for IS NOT NULL AND g.held_at IS NULL AND g.closed_at IS NULL"
            ") AS due WHERE wake_at IS NOT NULL",
            [circuits.WAKE_PAUSE_S, pacing.PROBE_LOST.total_seconds()],
        )
        row: tuple[datetime.timedelta | None] = cursor.fetchone()
    return row[0]


def skip() -> bool:
    """Let time pass until the next thing is due; False when nothing ever will be."""
    left = until_due()
    if left is not None:
        pass_time(left + A_MOMENT)
    return left is not None


def _set_back(model: type[models.Model], which: str = "true") -> str:
    moments = [
        field.column for field in model._meta.concrete_fields if isinstance(field, models.DateTimeField)
    ]
    earlier = ", ".join(f"{column} = {column} - %(by_s)s * interval '1 second'" for column in moments)
    return f"UPDATE {model._meta.db_table} SET {earlier} WHERE {which}"
