"""The operations for migrations: what each refuses, what it leaves alone, and that it can be taken back."""

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import OperationWriter

from sagas.dbrules import operations

pytestmark = pytest.mark.django_db

APPEND_ONLY = operations.AppendOnly("kept")
NEVER_DELETED = operations.NeverDeleted("kept", fixed=["number", "name"])
each = pytest.mark.parametrize("operation", [APPEND_ONLY, NEVER_DELETED])

UPDATE = "UPDATE kept SET status = 'sent'"
RENUMBER = "UPDATE kept SET number = NULL"
DELETE = "DELETE FROM kept"
TRUNCATE = "TRUNCATE kept"


@pytest.fixture(autouse=True)
def table(db):
    execute("CREATE TABLE kept (number int, name text, status text)")
    execute("INSERT INTO kept VALUES (1, 'mug', 'new'), (NULL, NULL, 'new')")


def execute(sql):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)


def forwards(operation):
    with connection.schema_editor(atomic=False) as editor:
        operation.database_forwards("any", editor, ProjectState(), ProjectState())


def backwards(operation):
    with connection.schema_editor(atomic=False) as editor:
        operation.database_backwards("any", editor, ProjectState(), ProjectState())


@pytest.mark.parametrize("statement", [UPDATE, RENUMBER, DELETE, TRUNCATE])
def test_a_table_that_is_append_only_refuses_everything_but_more(statement):
    forwards(APPEND_ONLY)

    with pytest.raises(IntegrityError, match=f"kept is append-only: {statement.split()[0]} is refused"):
        execute(statement)
    execute("INSERT INTO kept VALUES (2, 'bowl', 'new')")


@pytest.mark.parametrize("statement", [DELETE, TRUNCATE])
def test_a_table_that_is_never_deleted_from_keeps_its_rows(statement):
    forwards(NEVER_DELETED)

    with pytest.raises(
        IntegrityError, match=f"kept is never deleted from: {statement.split()[0]} is refused"
    ):
        execute(statement)


@pytest.mark.parametrize("column", ["number = 2", "number = NULL", "name = ''"])
def test_what_is_fixed_never_changes_and_the_rest_may(column):
    forwards(NEVER_DELETED)

    with pytest.raises(IntegrityError, match="kept has columns that never change: UPDATE is refused"):
        execute(f"UPDATE kept SET {column}")
    execute(UPDATE)
    execute("UPDATE kept SET number = number")


@each
@pytest.mark.parametrize("statement", [UPDATE, RENUMBER, DELETE, TRUNCATE])
def test_taken_back_it_leaves_nothing_behind(operation, statement):
    forwards(operation)
    backwards(operation)

    execute(statement)
    forwards(operation)


@each
def test_a_migration_that_is_squashed_writes_it_again(operation):
    written, imports = OperationWriter(operation, indentation=0).serialize()
    names = {}
    exec("\n".join(imports), names)

    (again,) = eval(f"[{written}]", names)

    assert type(again) is type(operation)
    assert again.describe() == operation.describe()
    assert (again.table, vars(again).get("fixed")) == (operation.table, vars(operation).get("fixed"))
