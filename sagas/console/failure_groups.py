"""Failures that are the same failure: grouped by step, error and the shape of the message.

A thousand sagas that stand at one broken provider are one thing to look at, not a thousand. Of a family a
trouble is counted once: where it is. Children that were turned back with their parent did not fail.
"""

import dataclasses
import datetime
import uuid
from collections.abc import Sequence
from typing import Any

from django.db import connection

from sagas import database, models

AT_MOST = 10_000
"""How many sagas are looked at, the newest first: the cost does not grow with the history."""

ATTENTION, FAILED = "attention", "failed"
"""What stands in front of a person now, or whatever failed lately."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Sagas with the same trouble."""

    signature: str
    name: str
    step: str
    kind: str
    error: str
    shape: str
    """The message, with what differs from saga to saga struck out."""

    count: int
    first_at: datetime.datetime
    last_at: datetime.datetime
    example: uuid.UUID
    note: str
    note_by: str
    note_at: datetime.datetime | None


def groups(scope: str) -> list[Group]:
    """The groups, the largest first."""
    with database.for_reading(models.SagaInstance).cursor() as cursor:
        cursor.execute(
            f"""
            WITH trouble AS ({_TROUBLE[scope]})
            SELECT t.signature, min(t.name), min(t.step), min(t.kind), min(t.error), min(t.shape),
                   count(*), min(t.at), max(t.at), (array_agg(t.id ORDER BY t.at DESC))[1],
                   min(n.text), min(n.actor), min(n.at)
              FROM trouble t LEFT JOIN sagas_console_failure_note n ON n.signature = t.signature
             GROUP BY t.signature ORDER BY count(*) DESC, max(t.at) DESC LIMIT 200
            """,
            [AT_MOST],
        )
        return [
            Group(**dict(zip(_FIELDS, [*row[:10], row[10] or "", row[11] or "", row[12]], strict=True)))
            for row in cursor.fetchall()
        ]


def members(signature: str, scope: str) -> list[uuid.UUID]:
    """The sagas of a group, the longest waiting first."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH trouble AS ({_TROUBLE[scope]}) SELECT id FROM trouble WHERE signature = %s ORDER BY at",
            [AT_MOST, signature],
        )
        return [row[0] for row in cursor.fetchall()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """What somebody wrote of a failure, and of how many sagas it holds."""

    text: str
    actor: str
    at: datetime.datetime
    count: int


def notes(saga_ids: Sequence[uuid.UUID]) -> list[Note]:
    """What is known of the failures of these sagas, in one statement; that of most of them first.

    Of each counts what stands in its way now, and what failed first: notes are written on both.
    """
    chosen = "AND g.id = ANY(%(ids)s)"
    known = (_SIGNATURE.replace("%s", f"{where} {chosen}") for where in (_IN_THE_WAY, _FAILED_FIRST))
    both = " UNION ".join(f"SELECT id, signature FROM ({one}) s" for one in known)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT n.text, n.actor, n.at, count(*)
              FROM ({both}) t JOIN sagas_console_failure_note n ON n.signature = t.signature
             GROUP BY n.signature, n.text, n.actor, n.at ORDER BY count(*) DESC, n.at DESC
            """,
            {"ids": list(saga_ids)},
        )
        return [Note(text=row[0], actor=row[1], at=row[2], count=row[3]) for row in cursor.fetchall()]


_FIELDS: list[str] = [field.name for field in dataclasses.fields(Group)]

# Numbers, ids and quoted words are what differs between two cases of one failure.
_SHAPE = r"""regexp_replace(regexp_replace(coalesce(e.error->>'message', ''),
    '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|\m[0-9a-f]{16,}\M', '#', 'gi'), '[0-9]+', '#', 'g')"""

_SIGNATURE = f"""
    SELECT e.id, e.name, e.at, e.step, coalesce(e.error->>'kind', '') AS kind,
           coalesce(e.error->>'error', '') AS error, left({_SHAPE}, 200) AS shape,
           md5(concat_ws('|', e.name, e.step, e.error->>'kind', e.error->>'error', left({_SHAPE}, 200)))
             AS signature
      FROM (%s) e
"""

_IN_THE_WAY = """
    SELECT g.id, g.name, g.updated_at AS at, coalesce(s.name, '') AS step,
           coalesce(s.error, g.failure, '{}') AS error
      FROM sagas_saga g LEFT JOIN sagas_step s ON s.saga_id = g.id AND s.name = g.attention->>'step'
     WHERE g.state = 'needs_attention' AND g.closed_at IS NULL
"""

_FAILED_FIRST = """
    SELECT g.id, g.name, g.created_at AS at, coalesce(g.failure->>'step', '') AS step, g.failure AS error
      FROM sagas_saga g WHERE g.failure IS NOT NULL
"""

_TROUBLE: dict[str, Any] = {
    # What stands in the way now is the error of the step at hand; the first failure may be long undone.
    # Where that is only a child that needs a person, the child is in a group, and its parent in none.
    ATTENTION: _SIGNATURE.replace(
        "%s",
        f"""
        {_IN_THE_WAY}
           AND NOT (g.attention->>'child' IS NOT NULL AND EXISTS (
             SELECT FROM sagas_saga c WHERE c.id = (g.attention->>'child')::uuid
                AND c.state = 'needs_attention' AND c.closed_at IS NULL))
         ORDER BY g.created_at DESC LIMIT %s
        """,
    ),
    FAILED: _SIGNATURE.replace(
        "%s",
        f"""
        {_FAILED_FIRST}
           AND NOT (g.parent_id IS NOT NULL AND g.cancel_actor = 'engine'
                    AND g.failure->>'kind' = 'cancelled')
         ORDER BY g.created_at DESC LIMIT %s
        """,
    ),
}
