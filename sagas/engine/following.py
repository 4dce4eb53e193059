"""Following the event log from a cursor: every event once, however late its transaction commits.

Ids are given before commits, so the highest one that is seen says nothing of those below it. But whoever
writes an event holds the lock of its saga's row by then, and so has a transaction id already. Hence:

1. See the highest id: the mark. Then lock the cursor's row, which gives this transaction an id of its own.
   Whatever else is still to come below the mark is of a transaction with a lower one.
2. Once all of those have ended, all up to the mark is final. It is read in batches, what is made of it is
   written, and the cursor moved, in one transaction each. Whoever dies has done all of a batch or nothing.
3. At the mark, the next one is set.

One follower of a name reads at a time. It is behind by as long as the longest transaction that writes, and
nobody who writes waits for it.
"""

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Iterator
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, F, When

from sagas import database
from sagas.models import EventCursor

BATCH = 5000
"""Events of one transaction: some tenths of a second."""

LOCK_TIMEOUT_MS = 500
"""So long a follower waits for another, which does the same work meanwhile."""

_LOCK = """
SELECT read_to, mark, ahead, pg_current_xact_id()::text::bigint,
    mark_before <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint
FROM sagas_event_cursor WHERE name = %s FOR UPDATE
"""
# Where it waits for the lock, the row is read anew and the snapshot is the older one: what was final in it is
# final now.

_LAST_OF_BATCH = """
SELECT COALESCE(
    (SELECT id FROM sagas_event WHERE id > %s AND id <= %s ORDER BY id OFFSET %s - 1 LIMIT 1), %s
)
"""

_MOVE = """
UPDATE sagas_event_cursor SET read_to = %(to)s, ahead = %(ahead)s::jsonb,
    read_until = CASE WHEN %(to)s >= mark THEN marked_at ELSE read_until END,
    marked_at = CASE WHEN %(new)s THEN %(seen_at)s ELSE marked_at END,
    mark_before = CASE WHEN %(new)s THEN %(before)s ELSE mark_before END,
    mark = CASE WHEN %(new)s THEN %(seen)s ELSE mark END
WHERE name = %(name)s
"""


@dataclasses.dataclass(kw_only=True)
class Batch:
    """The events that are to be read next: those above `after`, up to `to`; none where these are the same."""

    after: int
    to: int
    ahead: dict[str, int]
    """Of these sagas, those up to that id have been read already."""

    moved: bool
    """Whether there is something to read, or a new mark was set; else a transaction has to end before."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to read."""
        return self.after == self.to

    def leads_on(self, newest: int) -> bool:
        """Whether the next batch is read at once, by one for whom that was the newest event when they began.

        What comes meanwhile is for the next time: with a steady stream of events somebody who reads on for
        as long as there are any reads a handful at a time, without an end. Nor is it asked again and again
        whether a transaction has ended.

        Arguments:
            newest: as `newest` said at the beginning.
        """
        return self.moved and self.to < newest


def begin(name: str, *, from_now: bool = False) -> None:
    """Have a cursor of that name, if there is none.

    Arguments:
        name: who follows.
        from_now: whether a new one leaves out what has happened so far.
    """
    first = "(SELECT COALESCE(max(id), 0) FROM sagas_event)" if from_now else "0"
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sagas_event_cursor (name, read_to, mark)"  # noqa: S608 - nothing from outside
            f" SELECT %s, {first}, {first} WHERE NOT EXISTS (SELECT FROM sagas_event_cursor WHERE name = %s)"
            " ON CONFLICT DO NOTHING",
            [name, name],
        )


def newest() -> int:
    """The id of the newest event that is seen; 0 where there is none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT COALESCE(max(id), 0) FROM sagas_event")
        found: int = _only(cursor)[0]
    return found


def is_behind(name: str) -> bool:
    """Whether there may be something to read; takes no lock."""
    with database.for_reading(EventCursor).cursor() as cursor:
        cursor.execute(
            "SELECT COALESCE((SELECT read_to FROM sagas_event_cursor WHERE name = %s), -1)"
            " < COALESCE((SELECT max(id) FROM sagas_event), 0)",
            [name],
        )
        behind: bool = _only(cursor)[0]
    return behind


@contextlib.contextmanager
def batch(name: str, *, limit: int = BATCH) -> Iterator[Batch]:
    """What is to be read next, in a transaction that moves the cursor behind it at the end of the block.

    Arguments:
        name: who follows; `begin` has been called.
        limit: so many events at most.

    Raises:
        django.db.OperationalError: another follower held the cursor for longer than `LOCK_TIMEOUT_MS`.
    """
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        # The first statement, while this transaction has no id yet: see the module.
        cursor.execute("SELECT COALESCE(max(id), 0), clock_timestamp() FROM sagas_event")
        seen, seen_at = _only(cursor)
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        cursor.execute(_LOCK, [name])
        read_to, mark, ahead, own, final = _only(cursor)
        ahead = _json(ahead)
        to = read_to
        if final and mark > read_to:
            cursor.execute(_LAST_OF_BATCH, [read_to, mark, limit, mark])
            (to,) = _only(cursor)
        new = to >= mark and seen > mark
        found = Batch(after=read_to, to=to, ahead=ahead, moved=to > read_to or new)
        yield found
        if found.empty and not new:
            return
        to = found.to
        new = to >= mark and seen > mark
        left = {saga_id: last for saga_id, last in found.ahead.items() if last > to}
        cursor.execute(_MOVE, {
            "name": name, "to": to, "new": new, "seen": seen, "seen_at": seen_at, "before": own,
            "ahead": json.dumps(left),
        })  # fmt: skip


def peek(name: str, *, limit: int) -> Batch:
    """The same without a transaction around what is made of it, for one who tells others: at least once.

    Whoever dies before `advance` reads the same again. The archiver must leave what has not been read.

    Raises:
        django.db.OperationalError: another follower held the cursor for longer than `LOCK_TIMEOUT_MS`.
    """
    with batch(name, limit=limit) as found:
        to, found.to = found.to, found.after  # Only the mark may move.
    return dataclasses.replace(found, to=to)


def advance(name: str, read: Batch) -> None:
    """Move the cursor behind what was read, unless somebody has."""
    EventCursor.objects.filter(name=name, read_to=read.after).update(
        read_to=read.to,
        read_until=Case(When(mark__lte=read.to, then=F("marked_at")), default=F("read_until")),
    )


def read_until(name: str) -> datetime.datetime | None:
    """By when all that was committed has been read; None where nobody has ever followed."""
    return EventCursor.objects.filter(name=name).values_list("read_until", flat=True).first()


def _only(cursor: Any) -> Any:
    row = cursor.fetchone()
    assert row is not None, "the cursor has been begun"
    return row


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
