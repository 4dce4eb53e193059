"""Every row of the database as it is now, to be put back: trials commit, and many run in one test."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from django.db import connection, transaction

from sagas.declaration import definition, registry

READ_ONLY = {"django_migrations", "django_content_type", "auth_permission"}
"""What no saga changes."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of every table that had any, and where the sequences stood."""

    tables: dict[str, list[str]]
    """By table, each row as PostgreSQL writes it."""

    sequences: dict[str, int | None]

    @classmethod
    def save(cls) -> Self:
        """As they are now."""
        return cls(tables={table: _rows(table) for table in _filled(_tables())}, sequences=_sequences())

    def put_back(self) -> None:
        """Make them so again, past triggers of yours, which might refuse to have rows deleted.

        Raises:
            django.db.IntegrityError: a foreign key that cannot be deferred is in the way.
        """
        now = _filled(_tables())
        changed = sorted(table for table in {*now, *self.tables} if self.tables.get(table) != _rows(table))
        if not changed:
            return
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger"
                " WHERE NOT tgisinternal AND tgrelid = ANY(%s::regclass[])",
                [changed],
            )
            watched = [table for (table,) in cursor.fetchall()]
            _execute(f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in watched)
            _execute(f"DELETE FROM {table}" for table in changed)
            for table in changed:
                self._insert(table)
            cursor.execute(
                "SELECT setval(name, COALESCE(last, 1), last IS NOT NULL)"
                " FROM unnest(%s::text[], %s::bigint[]) AS each (name, last)",
                [list(self.sequences), list(self.sequences.values())],
            )
            # Else there would be checks left to make, and no table could be altered.
            _execute(["SET CONSTRAINTS ALL IMMEDIATE"])
            _execute(f"ALTER TABLE {table} ENABLE TRIGGER USER" for table in watched)

    def _insert(self, table: str) -> None:
        if not self.tables.get(table):
            return
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
                [table],
            )
            ((columns,),) = cursor.fetchall()
            cursor.execute(
                f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns}"
                f" FROM (SELECT (row::{table}).* FROM unnest(%s::text[]) AS row) AS rows",
                [self.tables[table]],
            )


@contextlib.contextmanager
def stage(saga: definition.Saga) -> Iterator[Rows]:
    """What a trial stands on: rows that it can put back, a declaration that the engine finds, and no log.

    The report tells what is logged, and what led to it.

    Raises:
        RuntimeError: the test runs in a transaction that is rolled back after it.
    """
    if connection.in_atomic_block:
        raise RuntimeError(
            "A trial commits, and this test runs in one transaction: leave out pytest.mark.django_db, or say"
            " transaction=True; derive a test case from sagas.testing.cases.SagaTestCase."
        )
    logger = logging.getLogger("sagas")
    registry.add(saga)
    rows, disabled = Rows.save(), logger.disabled
    logger.disabled = True
    try:
        yield rows
    finally:
        logger.disabled = disabled
        rows.put_back()


def _execute(statements: Iterable[str]) -> None:
    """Execute them in one round trip."""
    if text := "; ".join(statements):
        with connection.cursor() as cursor:
            cursor.execute(text)


def _tables() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT oid::regclass::text, relname FROM pg_class WHERE relkind IN ('r', 'p')"
            " AND NOT relispartition AND relnamespace = current_schema()::regnamespace ORDER BY relname"
        )
        return [table for table, name in cursor.fetchall() if name not in READ_ONLY]


def _filled(tables: Sequence[str]) -> list[str]:
    """Those of the tables that have a row."""
    if not tables:
        return []
    with connection.cursor() as cursor:
        parts = (f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in tables)
        cursor.execute(" UNION ALL ".join(parts))
        return [table for (table,) in cursor.fetchall()]


def _rows(table: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1")
        return [row for (row,) in cursor.fetchall()]


def _sequences() -> dict[str, int | None]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(sequencename), last_value FROM pg_sequences"
            " WHERE schemaname = current_schema()"
        )
        return dict(cursor.fetchall())
