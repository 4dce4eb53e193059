"""What a service intends, written down in one statement before its provider hears of it.

Most calls are the first with their key. `get_or_create` under a lock makes a transaction of five statements
of that; here it is one, and a transaction by itself. The engine has committed an intent of its own by
then, but a service's is more: a callback that comes early and an undo that comes meanwhile find it, and the
provider's answer is held against it.

Where there is a row already, the service goes the long way: it locks the row, and then reads it (D7).
"""

from typing import Any, TypeVar

from django.db import connection, models, transaction
from django.db.models import expressions, functions

Row = TypeVar("Row", bound=models.Model)


def must_be_durable() -> None:
    """Refuse to go on inside a transaction: what is written in it may be lost after the provider has acted.

    Raises:
        RuntimeError: there is one.
    """
    # Django looks, and nothing is sent for a transaction that has no statement.
    with transaction.atomic(durable=True):
        pass


def write(row: models.Model) -> bool:
    """Write a new row, with its id, unless there is one with its key; whether it was written."""
    insert, values = _insertion(row)
    with connection.cursor() as cursor:
        cursor.execute(f"{insert} ON CONFLICT (key) DO NOTHING RETURNING id", values)
        written: tuple[int] | None = cursor.fetchone()
    if written:
        (row.pk,) = written
    return written is not None


def forbid(row: Row) -> Row:
    """Set the tombstone on the row with that key, once; where there is none, this one is the tombstone.

    Returns:
        The row as it is now.
    """
    must_be_durable()
    insert, values = _insertion(row)
    table = connection.ops.quote_name(row._meta.db_table)
    (kept,) = type(row)._default_manager.raw(
        f"{insert} ON CONFLICT (key) DO UPDATE SET"
        f" undo_requested_at = coalesce({table}.undo_requested_at, excluded.undo_requested_at)"
        " RETURNING *",
        values,
    )
    return kept


def _insertion(row: models.Model) -> tuple[str, list[Any]]:
    """The statement that inserts all of the row but its id, and the values that it takes."""
    quote = connection.ops.quote_name
    columns: list[str] = []
    places: list[str] = []
    values: list[Any] = []
    for field in row._meta.concrete_fields:
        if field.primary_key:
            continue
        value = field.get_db_prep_save(getattr(row, field.attname), connection)
        assert field.column is not None, "a concrete field has a column"
        columns.append(quote(field.column))
        match value:
            case functions.Now():
                places.append("statement_timestamp()")
            case expressions.DatabaseDefault():
                places.append("DEFAULT")
            case _:
                places.append("%s")
                values.append(value)
    table = quote(row._meta.db_table)
    insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(places)})"  # noqa: S608 - names of our own
    return insert, values
