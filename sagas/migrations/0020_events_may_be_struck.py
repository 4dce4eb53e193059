"""Personal data may be struck out of the events of a saga that has ended; nothing else of an event changes.

A transaction that says that it strikes may put the mark `(struck out)` in the place of an event's actor, of
its reason, or of a member of its data. It can write nothing else: no other text, no member more or less, and
no other column. What may be deleted, and by whom, stays as it was.
"""

from django.db import migrations

STRIKING = "current_setting('sagas.striking', true) = 'on'"
MOVING = "current_setting('sagas.moving', true) = 'on'"

DELETE = f"""
    IF TG_OP = 'DELETE' AND {MOVING} AND EXISTS (
        SELECT FROM sagas_saga saga
        JOIN sagas_archive archived
            ON archived.id = saga.id AND archived.ended_at = coalesce(saga.finished_at, saga.closed_at)
        WHERE saga.id = OLD.saga_id
    ) THEN
        RETURN OLD;
    END IF;
"""

REFUSE = """
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
"""

UPDATE = f"""
    IF TG_OP = 'UPDATE' AND {STRIKING}
        AND NEW.actor IN (OLD.actor, '(struck out)')
        AND NEW.reason IN (OLD.reason, '(struck out)')
        AND NOT EXISTS (
            SELECT FROM jsonb_each(OLD.data) was FULL JOIN jsonb_each(NEW.data) is_now USING (key)
            WHERE was.value IS DISTINCT FROM is_now.value
            AND (was.value IS NULL OR is_now.value IS DISTINCT FROM '"(struck out)"'::jsonb)
        )
        AND EXISTS (
            SELECT FROM sagas_saga saga WHERE saga.id = OLD.saga_id
            AND (saga.finished_at IS NOT NULL OR saga.closed_at IS NOT NULL)
        )
    THEN
        OLD.actor := NEW.actor;
        OLD.reason := NEW.reason;
        OLD.data := NEW.data;
        IF ROW(OLD.*) IS NOT DISTINCT FROM ROW(NEW.*) THEN
            RETURN NEW;
        END IF;
    END IF;
"""


def function(*parts):
    return (
        "CREATE OR REPLACE FUNCTION sagas_event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$\n"
        f"BEGIN{''.join(parts)}END $$;"
    )


class Migration(migrations.Migration):
    dependencies = [("sagas", "0010_archive")]

    operations = [migrations.RunSQL(function(DELETE, UPDATE, REFUSE), function(DELETE, REFUSE))]
