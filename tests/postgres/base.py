"""What Django imports of a backend."""

from django.db import transaction
from django.db.backends.postgresql import base, operations

MADE_ONCE = {"django_content_type", "auth_permission"}
"""What Django fills after its migrations, and would fill again after each test."""


def emptying(tables):
    """The statements that empty tables, and wait for whoever is still at them, as TRUNCATE does."""
    names = list(tables)
    deletes = (f"DELETE FROM {name}" for name in names)
    return "; ".join([f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE", *deletes])


class DatabaseOperations(operations.DatabaseOperations):
    """The flush after each test with real commits."""

    def sql_flush(self, style, tables, *, reset_sequences=False, allow_cascade=False):
        """DELETE: a test leaves few rows, and TRUNCATE makes new files of every table, and of its indexes."""
        if reset_sequences:
            return super().sql_flush(
                style, tables, reset_sequences=reset_sequences, allow_cascade=allow_cascade
            )
        return [emptying(self.quote_name(table) for table in tables if table not in MADE_ONCE)]

    def execute_sql_flush(self, sql_list):
        """Past the triggers that refuse it, and the foreign keys: as a replica, for this transaction only."""
        with transaction.atomic(using=self.connection.alias):
            with self.connection.cursor() as cursor:
                cursor.execute("SET LOCAL session_replication_role = replica")
            super().execute_sql_flush(sql_list)


class DatabaseWrapper(base.DatabaseWrapper):
    """PostgreSQL."""

    ops_class = DatabaseOperations
