"""Operations for migrations: an index, or a unique constraint, that is built while others write to its table.

    class Migration(migrations.Migration):
        atomic = False
        operations = [indexes.AddIndexLive("order", models.Index(name="order_due", fields=["due_at"]))]

Django's `AddIndexConcurrently` does so for indexes, once. These take a second run as well as a first: what a
run that was broken off has left half built is built anew, and what is there already stays.
"""

from typing import Any

from django.contrib.postgres.operations import NotInTransactionMixin
from django.db import NotSupportedError, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import operations


class _Live(NotInTransactionMixin):
    atomic = False

    def _build(self, editor: BaseDatabaseSchemaEditor, name: str, statement: str) -> None:
        self._ensure_not_in_transaction(editor)
        if editor.connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
            # Django's word for a pooler that shares connections between transactions.
            raise NotSupportedError(
                f"{name} is built in a session of its own, with a limit of its own, and a pooler that shares"
                " connections between transactions keeps none: migrate with a URL that leads to the server"
                " itself (DATABASE_DIRECT_URL)."
            )
        with editor.connection.cursor() as cursor:
            cursor.execute(
                "SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
                " WHERE relname = %s AND pg_table_is_visible(pg_class.oid)",
                [name],
            )
            found = cursor.fetchone()
        if found and found[0]:
            return
        self._drop(editor, name)
        # It waits for every transaction that is older than it is, and keeps nobody waiting meanwhile.
        editor.execute("SET lock_timeout = 0")
        try:
            editor.execute(statement, params=None)
        finally:
            editor.execute("RESET lock_timeout")

    def _drop(self, editor: BaseDatabaseSchemaEditor, name: str) -> None:
        self._ensure_not_in_transaction(editor)
        editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {editor.quote_name(name)}")


class AddIndexLive(_Live, operations.AddIndex):
    """Add an index to a model."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Build it, unless it is there."""
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            statement = str(self.index.create_sql(model, schema_editor, concurrently=True))
            self._build(schema_editor, self.index.name, statement)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Drop it."""
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            self._drop(schema_editor, self.index.name)

    def describe(self) -> str:
        """The line that `migrate --plan` prints."""
        return f"Build index {self.index.name} on {self.model_name} while others write"


class AddUniqueLive(_Live, operations.AddConstraint):
    """Add a unique constraint with a condition to a model, which PostgreSQL keeps as an index."""

    constraint: models.UniqueConstraint

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Build it, unless it is there."""
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            begin = "CREATE UNIQUE INDEX "
            statement = str(self.constraint.create_sql(model, schema_editor))
            assert statement.startswith(begin), f"{self.constraint.name} is more than an index: {statement}"
            statement = statement.replace(begin, f"{begin}CONCURRENTLY ", 1)
            self._build(schema_editor, self.constraint.name, statement)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Drop it."""
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            self._drop(schema_editor, self.constraint.name)

    def describe(self) -> str:
        """The line that `migrate --plan` prints."""
        return f"Build unique index {self.constraint.name} on {self.model_name} while others write"
