"""The archive: one row for each saga that has ended, in partitions by the month of its end.

1. Its table, which the database keeps as it is: a row leaves it only for the live tables, and of its document
   only values are struck out.
2. Events may be deleted by the archiver alone: in a transaction that says that it moves sagas, and only once
   the saga's row in the archive is there.
3. An index by which it finds what has ended.
"""

import django.db.models.functions.comparison
import django.db.models.functions.datetime
from django.db import migrations, models

MOVING = "current_setting('sagas.moving', true) = 'on'"
STRIKING = "current_setting('sagas.striking', true) = 'on'"

TABLE = """
CREATE TABLE sagas_archive (
    id uuid NOT NULL,
    ended_at timestamptz NOT NULL,
    name varchar(50) NOT NULL,
    version smallint NOT NULL CHECK (version >= 0),
    key varchar(100) NOT NULL,
    state varchar(20) NOT NULL,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    closed_at timestamptz,
    failed_step varchar(50) NOT NULL,
    failed_kind varchar(20) NOT NULL,
    failed_error varchar(100) NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    document bytea NOT NULL,
    dictionary smallint NOT NULL CHECK (dictionary >= 0),
    digest bytea NOT NULL,
    PRIMARY KEY (id, ended_at),
    CONSTRAINT archive_holds_what_has_ended CHECK (
        state IN ('completed', 'compensated') AND finished_at IS NOT NULL AND finished_at = ended_at
        OR state = 'needs_attention' AND finished_at IS NULL
            AND closed_at IS NOT NULL AND closed_at = ended_at
    )
) PARTITION BY RANGE (ended_at);
-- It is compressed already: PostgreSQL need not try.
ALTER TABLE sagas_archive ALTER COLUMN document SET STORAGE EXTERNAL;
CREATE INDEX archive_by_key ON sagas_archive (key);
CREATE INDEX archive_newest ON sagas_archive (ended_at DESC);
"""

KEPT = f"""
CREATE FUNCTION sagas_archive_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Back to the live tables, where it stands already.
    IF TG_OP = 'DELETE' AND {MOVING} AND EXISTS (SELECT FROM sagas_saga WHERE id = OLD.id) THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND {STRIKING} THEN
        OLD.document := NEW.document;
        OLD.dictionary := NEW.dictionary;
        IF ROW(OLD.*) IS NOT DISTINCT FROM ROW(NEW.*) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '% is kept as it is: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER sagas_archive_kept BEFORE UPDATE OR DELETE ON sagas_archive
    FOR EACH ROW EXECUTE FUNCTION sagas_archive_is_kept();
CREATE TRIGGER sagas_archive_not_truncated BEFORE TRUNCATE ON sagas_archive
    FOR EACH STATEMENT EXECUTE FUNCTION sagas_archive_is_kept();
"""

EVENTS_MAY_MOVE = f"""
CREATE OR REPLACE FUNCTION sagas_event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND {MOVING} AND EXISTS (
        SELECT FROM sagas_saga saga
        JOIN sagas_archive archived
            ON archived.id = saga.id AND archived.ended_at = coalesce(saga.finished_at, saga.closed_at)
        WHERE saga.id = OLD.saga_id
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
"""

EVENTS_STAY = """
CREATE OR REPLACE FUNCTION sagas_event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("sagas", "0004_pacing")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="ArchivedSaga",
                    fields=[
                        ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                        ("ended_at", models.DateTimeField()),
                        ("name", models.CharField(max_length=50)),
                        ("version", models.PositiveSmallIntegerField()),
                        ("key", models.CharField(max_length=100)),
                        ("state", models.CharField(choices=[('running', 'Running'), ('compensating', 'Compensating'), ('needs_attention', 'Needs attention'), ('completed', 'Completed'), ('compensated', 'Compensated')], max_length=20)),
                        ("created_at", models.DateTimeField()),
                        ("finished_at", models.DateTimeField(null=True)),
                        ("closed_at", models.DateTimeField(null=True)),
                        ("failed_step", models.CharField(blank=True, default="", max_length=50)),
                        ("failed_kind", models.CharField(blank=True, default="", max_length=20)),
                        ("failed_error", models.CharField(blank=True, default="", max_length=100)),
                        ("archived_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                        ("document", models.BinaryField()),
                        ("dictionary", models.PositiveSmallIntegerField()),
                        ("digest", models.BinaryField()),
                    ],
                    options={
                        "verbose_name": "archived saga",
                        "db_table": "sagas_archive",
                        "indexes": [
                            models.Index(fields=["key"], name="archive_by_key"),
                            models.Index(fields=["-ended_at"], name="archive_newest"),
                        ],
                        "constraints": [
                            models.CheckConstraint(
                                condition=models.Q(
                                    models.Q(("finished_at", models.F("ended_at")), ("state__in", ["completed", "compensated"])),
                                    models.Q(("closed_at", models.F("ended_at")), ("finished_at", None), ("state", "needs_attention")),
                                    _connector="OR",
                                ),
                                name="archive_holds_what_has_ended",
                            ),
                        ],
                    },
                ),
            ],
            database_operations=[
                migrations.RunSQL(TABLE, "DROP TABLE sagas_archive"),
            ],
        ),
        migrations.RunSQL(
            KEPT,
            """
            DROP TRIGGER sagas_archive_not_truncated ON sagas_archive;
            DROP TRIGGER sagas_archive_kept ON sagas_archive;
            DROP FUNCTION sagas_archive_is_kept();
            """,
        ),
        migrations.RunSQL(EVENTS_MAY_MOVE, EVENTS_STAY),
        migrations.AddIndex(
            model_name="sagainstance",
            index=models.Index(
                django.db.models.functions.comparison.Coalesce("finished_at", "closed_at"),
                models.F("id"),
                condition=models.Q(("finished_at__isnull", False), ("closed_at__isnull", False), _connector="OR"),
                name="saga_ended",
            ),
        ),
    ]
