"""What the models have no words for: a table that is not logged, and a trigger.

An event of an order's saga goes to the outbox if a merchant is to hear of it.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("webhooks", "0001_initial"), ("orders", "0001_initial"), ("sagas", "0002_append_only")]

    operations = [
        # Of no worth after a crash, and written often: it is not logged.
        migrations.RunSQL("ALTER TABLE webhooks_run SET UNLOGGED", migrations.RunSQL.noop),
        migrations.RunSQL(
            sql="""
            CREATE FUNCTION webhooks_event_written() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                -- In the event's own transaction: told if and only if it happened.
                IF EXISTS (SELECT FROM webhooks_endpoint WHERE disabled_at IS NULL) THEN
                    INSERT INTO webhooks_outbox (event_id)
                    SELECT w.id FROM written w JOIN orders_order o ON o.saga_id = w.saga_id
                    WHERE w.to_state <> '' AND w.kind <> 'step.planned' AND EXISTS (
                        SELECT FROM webhooks_endpoint e
                        WHERE e.owner_id = o.owner_id AND e.disabled_at IS NULL
                    );
                END IF;
                RETURN NULL;
            END $$;
            CREATE TRIGGER webhooks_event_written AFTER INSERT ON sagas_event
                REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION webhooks_event_written();
            """,
            reverse_sql="""
            DROP TRIGGER webhooks_event_written ON sagas_event;
            DROP FUNCTION webhooks_event_written();
            """,
        ),
    ]
