"""Indexes that are built while others write: none of those waits, and a broken run is begun again."""

import concurrent.futures
import importlib
import pathlib
import re

import pytest
from django.contrib.postgres.operations import AddConstraintNotValid, AddIndexConcurrently
from django.db import (
    IntegrityError,
    NotSupportedError,
    OperationalError,
    connection,
    migrations,
    models,
    transaction,
)
from django.db.migrations.state import ModelState, ProjectState

from sagas.dbrules import indexes
from tests.support import locks, waiting

ROOT = pathlib.Path(__file__).resolve().parents[3]
INDEX = indexes.AddIndexLive("kept", models.Index(name="kept_due", fields=["due"]))
UNIQUE = indexes.AddUniqueLive(
    "kept",
    models.UniqueConstraint(name="kept_once", fields=["name"], condition=models.Q(name__isnull=False)),
)
each = pytest.mark.parametrize("operation", [INDEX, UNIQUE], ids=["index", "unique"])


@pytest.fixture
def table(transactional_db):
    execute("CREATE TABLE kept_kept (id bigint PRIMARY KEY, due timestamptz, name text)")
    yield
    execute("DROP TABLE kept_kept")


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


def state():
    fields = [
        ("id", models.BigIntegerField(primary_key=True)),
        ("due", models.DateTimeField(null=True)),
        ("name", models.TextField(null=True)),
    ]
    found = ProjectState()
    found.add_model(ModelState("kept", "Kept", fields))
    return found


def run(operation, *, backwards=False):
    before, after = state(), state()
    operation.state_forwards("kept", after)
    with connection.schema_editor(atomic=False) as editor:
        if backwards:
            operation.database_backwards("kept", editor, after, before)
        else:
            operation.database_forwards("kept", editor, before, after)


def built():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
            " WHERE indrelid = 'kept_kept'::regclass AND NOT indisprimary"
        )
        return dict(cursor.fetchall())


@each
def test_it_is_built_once_however_often_it_is_asked_for_and_taken_back(table, operation):
    name = {INDEX: "kept_due", UNIQUE: "kept_once"}[operation]

    run(operation)
    run(operation)
    assert built() == {name: True}

    run(operation, backwards=True)
    assert built() == {}


def test_what_a_run_that_was_broken_off_left_is_built_anew(table):
    execute("INSERT INTO kept_kept VALUES (1, NULL, 'mug'), (2, NULL, 'mug')")
    with pytest.raises(IntegrityError):
        run(UNIQUE)
    assert built() == {"kept_once": False}
    execute("DELETE FROM kept_kept WHERE id = 2")

    run(UNIQUE)

    assert built() == {"kept_once": True}
    with pytest.raises(IntegrityError, match="kept_once"):
        execute("INSERT INTO kept_kept VALUES (3, NULL, 'mug')")


@each
def test_others_write_meanwhile(table, operation):
    def build():
        try:
            run(operation)
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            execute("INSERT INTO kept_kept VALUES (1, NULL, 'mug')")
            done = pool.submit(build)
            # It waits for this transaction to end, as any way to build an index does.
            waiting.until(lambda: locks.waiters() or done.done(), "that it is being built")
            with concurrent.futures.ThreadPoolExecutor(1) as others:
                others.submit(write).result(60)
        done.result(60)

    assert set(built().values()) == {True}


def write():
    try:
        with transaction.atomic():
            execute("SET LOCAL lock_timeout = '5s'")
            execute("INSERT INTO kept_kept VALUES (2, NULL, 'bowl')")
    except OperationalError as error:
        raise AssertionError("it waited for the index") from error
    finally:
        connection.close()


def test_not_within_a_transaction(table):
    with pytest.raises(Exception, match="atomic"), connection.schema_editor(atomic=True) as editor:
        INDEX.database_forwards("kept", editor, state(), state())


SINCE = 22
"""Migrations before these belong to versions that were released."""

CLEARED = {"webhooks"}
"""Whose tables are small, because what is in them is cleared by its age."""


def test_no_migration_keeps_writers_from_a_table_that_is_there_already():
    for path in sorted(ROOT.glob("*/migrations/[0-9]*.py")) + sorted(ROOT.glob("*/*/migrations/[0-9]*.py")):
        if int(re.match(r"\d+", path.name)[0]) < SINCE or path.parts[-3] in CLEARED:
            continue
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        made = {op.name_lower for op in module.Migration.operations if isinstance(op, migrations.CreateModel)}
        for operation in module.Migration.operations:
            adds = isinstance(operation, (migrations.AddIndex, migrations.AddConstraint))
            live = isinstance(
                operation,
                (indexes.AddIndexLive, indexes.AddUniqueLive, AddIndexConcurrently, AddConstraintNotValid),
            )
            if adds and operation.model_name_lower not in made:
                assert live, f"{path.name}: {operation.describe()}: use dbrules.indexes"
            if live:
                assert not module.Migration.atomic, f"{path.name} builds an index in a transaction"


@each
def test_none_is_built_through_a_pooler_whose_sessions_would_keep_its_limits(table, operation, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)

    with pytest.raises(NotSupportedError, match="DATABASE_DIRECT_URL"):
        run(operation)

    assert not built()
