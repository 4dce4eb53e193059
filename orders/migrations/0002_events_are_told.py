"""An event of an order's saga wakes those who follow it, and goes to the outbox if a merchant is to hear of it."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_first"), ("sagas", "0002_append_only")]

    operations = [
        # Of no worth after a crash, and written often: neither is logged.
        migrations.RunSQL("ALTER TABLE orders_throttle SET UNLOGGED", migrations.RunSQL.noop),
        migrations.RunSQL("ALTER TABLE orders_follower SET UNLOGGED", migrations.RunSQL.noop),
        migrations.RunSQL(
            sql="""
            CREATE FUNCTION orders_event_written() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                -- Only for those who are followed: transactions that notify commit one after the other.
                IF EXISTS (SELECT FROM orders_follower) THEN
                    PERFORM pg_notify('orders', saga.id::text)
                    FROM (SELECT DISTINCT saga_id AS id FROM written) saga
                    WHERE EXISTS (
                        SELECT FROM orders_follower f
                        WHERE f.saga_id = saga.id AND f.until > clock_timestamp()
                    );
                END IF;
                -- In the event's own transaction: told if and only if it happened.
                IF EXISTS (SELECT FROM orders_webhookendpoint WHERE disabled_at IS NULL) THEN
                    INSERT INTO orders_outbox (event_id)
                    SELECT w.id FROM written w JOIN orders_order o ON o.saga_id = w.saga_id
                    WHERE w.to_state <> '' AND w.kind <> 'step.planned' AND EXISTS (
                        SELECT FROM orders_webhookendpoint e
                        WHERE e.owner_id = o.owner_id AND e.disabled_at IS NULL
                    );
                END IF;
                RETURN NULL;
            END $$;
            CREATE TRIGGER orders_event_written AFTER INSERT ON sagas_event
                REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION orders_event_written();
            """,
            reverse_sql="""
            DROP TRIGGER orders_event_written ON sagas_event;
            DROP FUNCTION orders_event_written();
            """,
        ),
    ]
