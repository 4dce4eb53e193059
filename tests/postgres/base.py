"""What Django imports of a backend."""

from django.db import transaction
from django.db.backends.postgresql import base, operations


class DatabaseOperations(operations.DatabaseOperations):
    """The flush after each test with real commits."""

    def execute_sql_flush(self, sql_list):
        """TRUNCATE, past the triggers that refuse it: as a replica does, and for this transaction only."""
        with transaction.atomic(using=self.connection.alias):
            with self.connection.cursor() as cursor:
                cursor.execute("SET LOCAL session_replication_role = replica")
            super().execute_sql_flush(sql_list)


class DatabaseWrapper(base.DatabaseWrapper):
    """PostgreSQL."""

    ops_class = DatabaseOperations
