"""Operations for migrations: tables whose rows the database keeps as they are.

    operations = [
        migrations.CreateModel(name="Operation", ...),
        operations.AppendOnly("payments_operation"),
    ]

Each makes one function and two triggers, named after the table, and removes them when it is reversed. They
change no model, so `makemigrations` neither sees nor writes them. A refusal is an IntegrityError in Django,
and names the table and what was tried.
"""

from collections.abc import Sequence
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import operations
from django.db.migrations.state import ProjectState

_REFUSE = "RAISE EXCEPTION '% is {promise}: % is refused', TG_TABLE_NAME, TG_OP"
_CODE = "USING ERRCODE = 'restrict_violation'"


class _Kept(operations.base.Operation):
    """A table with a function that refuses, and the triggers that call it.

    TRUNCATE needs a trigger of its own: it fires none of a row, and would empty the table past them.
    """

    reversible = True
    reduces_to_sql = True
    promise: str
    """What the table is, in words for the refusal."""
    suffix: str
    """What the function and the trigger of the rows are called, after the table."""

    def __init__(self, table: str) -> None:
        self.table = table

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change nothing: no model tells of a trigger."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Make the function and both triggers."""
        name, quote = self._names(), schema_editor.quote_name
        table, function = quote(self.table), quote(name["function"])
        schema_editor.execute(
            f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$"
            f" BEGIN {self._body(schema_editor)} END $$",
            params=None,
        )
        schema_editor.execute(
            f"CREATE TRIGGER {quote(name['rows'])} BEFORE UPDATE OR DELETE ON {table}"
            f" FOR EACH ROW EXECUTE FUNCTION {function}()"
        )
        schema_editor.execute(
            f"CREATE TRIGGER {quote(name['whole'])} BEFORE TRUNCATE ON {table}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Remove both triggers and the function."""
        name, quote = self._names(), schema_editor.quote_name
        table = quote(self.table)
        schema_editor.execute(f"DROP TRIGGER {quote(name['whole'])} ON {table}")
        schema_editor.execute(f"DROP TRIGGER {quote(name['rows'])} ON {table}")
        schema_editor.execute(f"DROP FUNCTION {quote(name['function'])}()")

    def describe(self) -> str:
        """The line that `migrate --plan` prints."""
        return f"Make {self.table} {self.promise}"

    def _names(self) -> dict[str, str]:
        return {
            "function": f"{self.table}_is_{self.suffix}",
            "rows": f"{self.table}_{self.suffix}",
            "whole": f"{self.table}_not_truncated",
        }

    def _body(self, schema_editor: BaseDatabaseSchemaEditor) -> str:
        return f"{_REFUSE.format(promise=self.promise)} {_CODE};"


class AppendOnly(_Kept):
    """Rows are only ever added: UPDATE, DELETE and TRUNCATE of the table are refused."""

    promise, suffix = "append-only", "append_only"


class NeverDeleted(_Kept):
    """Rows stay: DELETE and TRUNCATE of the table are refused, and so is a change of the `fixed` columns."""

    promise, suffix = "never deleted from", "never_deleted"

    def __init__(self, table: str, fixed: Sequence[str]) -> None:
        super().__init__(table)
        self.fixed = fixed

    def _body(self, schema_editor: BaseDatabaseSchemaEditor) -> str:
        columns = [schema_editor.quote_name(column) for column in self.fixed]
        new, old = (", ".join(f"{row}.{column}" for column in columns) for row in ("NEW", "OLD"))
        return f"""
            IF TG_OP = 'UPDATE' THEN
                IF ROW({new}) IS DISTINCT FROM ROW({old}) THEN
                    RAISE EXCEPTION '% has columns that never change: % is refused', TG_TABLE_NAME, TG_OP
                        {_CODE};
                END IF;
                RETURN NEW;
            END IF;
            {super()._body(schema_editor)}"""
