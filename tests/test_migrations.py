"""Migrations come in two halves: what a pre half does the code of the version before does not notice."""

import pathlib
import re

import pytest
from django.apps import apps
from django.core import management
from django.db import connection, migrations, models
from django.db.migrations import loader, operations, recorder
from django.db.migrations.state import ModelState, ProjectState
from django_migration_linter import sql_analyser

from sagas.dbrules import halves, indexes

ROOT = pathlib.Path(__file__).resolve().parent.parent
JUDGED = 26
"""Up to that number they were judged by hand, before there was a rule."""

NAMED_FROM = 30
"""From that number on a name says which half it is."""

HARMFUL = ["CREATE_INDEX", "DROP_INDEX"]
"""What the linter warns of, and what is no trifle on a large table: `dbrules.indexes` builds beside work."""


@pytest.fixture
def outside(django_db_setup, django_db_blocker):
    """A connection that is in no transaction, as `dbrules.indexes` wants it; nothing is written."""
    with django_db_blocker.unblock():
        yield
        connection.close()


def ours():
    """Every migration of this repository's apps, with its number."""
    found = loader.MigrationLoader(None).disk_migrations
    for (app, name), migration in sorted(found.items()):
        path = pathlib.Path(apps.get_app_config(app).path)
        if path.is_relative_to(ROOT) and "site-packages" not in path.parts and "tests" not in path.parts:
            yield int(name[:4]), migration


def complaints(migration, state):
    """What the linter says of it, and what else would harm the code of the version before."""
    state = state.clone()
    with connection.schema_editor(collect_sql=True, atomic=False) as editor:
        migration.apply(state, editor, collect_sql=True)
    statements = [line for line in editor.collected_sql if not line.startswith("--")]
    analyser = sql_analyser.get_sql_analyser_class("", analyser_string="postgresql")
    errors, _, warnings = sql_analyser.analyse_sql_statements(analyser, statements, [])
    found = {issue.code for issue in [*errors, *(one for one in warnings if one.code in HARMFUL)]}
    return found | {"IRREVERSIBLE" for operation in migration.operations if not operation.reversible}


def test_a_migrations_name_says_which_half_it_is():
    unnamed = [
        f"{migration.app_label}.{migration.name}"
        for number, migration in ours()
        if number >= NAMED_FROM and not halves.NAMED.match(migration.name)
    ]

    assert unnamed == [], "name it 00NN_pre_... or 00NN_post_...: CONTRIBUTING.md says which"


def test_nothing_but_a_post_half_harms_the_code_of_the_version_before(outside):
    known = loader.MigrationLoader(connection)
    harm = {}
    for number, migration in ours():
        if number > JUDGED and not halves.is_post(migration.name):
            before = known.project_state((migration.app_label, migration.name), at_end=False)
            harm[f"{migration.app_label}.{migration.name}"] = complaints(migration, before)

    assert {name: found for name, found in harm.items() if found} == {}


HARM = {
    "a column goes": operations.RemoveField("kept", "total"),
    "a column is renamed": operations.RenameField("kept", "total", "sum"),
    "a table goes": operations.DeleteModel("kept"),
    "a table is renamed": operations.AlterModelTable("kept", "kept_other"),
    "a column must be told that old code does not know": operations.AddField(
        "kept", "more", models.IntegerField(default=0)
    ),
    "a column may no longer be null": operations.AlterField("kept", "note", models.TextField()),
    "a column has another type": operations.AlterField("kept", "total", models.TextField()),
    "what was doubled is refused": operations.AddConstraint(
        "kept", models.UniqueConstraint(fields=["total"], name="kept_once")
    ),
    "an index keeps writers waiting": operations.AddIndex(
        "kept", models.Index(fields=["total"], name="kept_total")
    ),
    "there is no way back": operations.RunSQL("SELECT 1"),
}
NO_HARM = {
    "a column that may be null": operations.AddField("kept", "more", models.IntegerField(null=True)),
    "a column with a default that the database knows": operations.AddField(
        "kept", "more", models.IntegerField(db_default=0, default=0)
    ),
    "a table": operations.CreateModel("new", [("id", models.BigAutoField(primary_key=True))]),
    "an index that is built beside work": indexes.AddIndexLive(
        "kept", models.Index(fields=["total"], name="kept_total")
    ),
}


def planted(operation):
    before = ProjectState()
    before.add_model(
        ModelState(
            "kept",
            "kept",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("total", models.IntegerField()),
                ("note", models.TextField(null=True)),
            ],
        )
    )
    migration = migrations.Migration("0031_pre_x", "kept")
    migration.operations = [operation]
    migration.atomic = getattr(operation, "atomic", True)
    return complaints(migration, before)


@pytest.mark.parametrize("what", HARM)
def test_harm_is_found(outside, what):
    assert planted(HARM[what])


@pytest.mark.parametrize("what", NO_HARM)
def test_what_does_no_harm_is_not_complained_about(outside, what):
    assert planted(NO_HARM[what]) == set()


# --- migrate_pre ----------------------------------------------------------------------------------


@pytest.fixture
def halved(settings, tmp_path, monkeypatch):
    """The orders' migrations and three more, of which the second is a post half."""
    package = tmp_path / "halved"
    package.mkdir()
    (package / "__init__.py").write_text("")
    last = max(migration.name for _, migration in ours() if migration.app_label == "orders")
    for path in (ROOT / "orders" / "migrations").glob("0*.py"):
        (package / path.name).write_text(path.read_text())
    for name in ("9001_pre_a", "9002_post_b", "9003_pre_c"):
        (package / f"{name}.py").write_text(
            "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
            f"    dependencies = [('orders', '{last}')]\n"
            f"    operations = [migrations.RunSQL('CREATE TABLE halved_{name} ()')]\n"
        )
        last = name
    monkeypatch.syspath_prepend(tmp_path)
    settings.MIGRATION_MODULES = {"orders": "halved"}
    return last


@pytest.mark.django_db
def test_migrate_pre_applies_all_but_the_post_halves_and_what_builds_on_them(halved, capsys):
    management.call_command("migrate_pre", plan=True)
    assert re.findall(r"now    (\S+)", capsys.readouterr().out) == ["orders.9001_pre_a"]
    assert tables() == []

    management.call_command("migrate_pre", verbosity=0)
    said = capsys.readouterr().out
    assert tables() == ["halved_9001_pre_a"]
    assert re.findall(r"later  (\S+)", said) == ["orders.9002_post_b", "orders.9003_pre_c"]

    management.call_command("migrate_pre", verbosity=0)
    assert tables() == ["halved_9001_pre_a"], "a second run does no more"

    management.call_command("migrate", verbosity=0)
    assert tables() == ["halved_9001_pre_a", "halved_9002_post_b", "halved_9003_pre_c"]


@pytest.mark.django_db
def test_who_waits_to_begin_is_told_when_its_code_may_run(halved):
    assert waits()
    management.call_command("migrate_pre", verbosity=0)

    assert not waits()
    assert tables() == ["halved_9001_pre_a"], "to ask changes nothing, and what waits is not waited for"


@pytest.mark.django_db
def test_on_an_empty_database_no_version_before_runs_and_nothing_waits(halved, capsys):
    recorder.MigrationRecorder(connection).flush()
    assert waits()

    management.call_command("migrate_pre", plan=True)

    said = capsys.readouterr().out
    assert re.findall(r"now    orders\.(9\S+)", said) == ["9001_pre_a", "9002_post_b", "9003_pre_c"]
    assert "later" not in said


def waits():
    """Whether the code may not run yet."""
    with pytest.raises(SystemExit) as ended:
        management.call_command("migrate_pre", check=True)
    return ended.value.code == 1


@pytest.mark.django_db
def test_a_process_is_ready_while_only_a_post_half_waits(halved, client, monkeypatch):
    monkeypatch.setattr("saga_project.health._migrated", False)
    assert client.get("/readyz").json()["checks"]["migrations"] == "pending"

    management.call_command("migrate_pre", verbosity=0)

    assert client.get("/readyz").json()["checks"]["migrations"] == "ok"


def tables():
    return sorted(name for name in connection.introspection.table_names() if name.startswith("halved_"))
