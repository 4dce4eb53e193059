"""Events are only ever appended: the database itself refuses to change or delete one (A1)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("sagas", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE FUNCTION sagas_event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'events of sagas are append-only: % is refused', TG_OP
                    USING ERRCODE = 'restrict_violation';
            END $$;
            CREATE TRIGGER sagas_event_append_only BEFORE UPDATE OR DELETE ON sagas_event
                FOR EACH ROW EXECUTE FUNCTION sagas_event_is_append_only();
            CREATE TRIGGER sagas_event_not_truncated BEFORE TRUNCATE ON sagas_event
                FOR EACH STATEMENT EXECUTE FUNCTION sagas_event_is_append_only();
            """,
            reverse_sql="""
            DROP TRIGGER sagas_event_append_only ON sagas_event;
            DROP TRIGGER sagas_event_not_truncated ON sagas_event;
            DROP FUNCTION sagas_event_is_append_only();
            """,
        ),
    ]
