"""A merchant hears of an order that waits as soon as it is placed, and of no step that an order never had.

A saga begins before its order is written, in the same transaction: what it had come to by then found no order,
and is put into the outbox with the order. A step that is left out is no news.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("webhooks", "0010_not_when_sagas_move"), ("orders", "0022_reviews")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE OR REPLACE FUNCTION webhooks_event_written() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                -- In the event's own transaction: told if and only if it happened.
                IF EXISTS (SELECT FROM webhooks_endpoint WHERE disabled_at IS NULL) THEN
                    INSERT INTO webhooks_outbox (event_id)
                    SELECT w.id FROM written w JOIN orders_order o ON o.saga_id = w.saga_id
                    WHERE w.to_state <> '' AND w.kind NOT IN ('step.planned', 'step.skipped') AND EXISTS (
                        SELECT FROM webhooks_endpoint e
                        WHERE e.owner_id = o.owner_id AND e.disabled_at IS NULL
                    );
                END IF;
                RETURN NULL;
            END $$;
            CREATE FUNCTION webhooks_order_placed() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF EXISTS (SELECT FROM webhooks_endpoint WHERE disabled_at IS NULL) THEN
                    INSERT INTO webhooks_outbox (event_id)
                    SELECT w.id FROM placed o JOIN sagas_event w ON w.saga_id = o.saga_id
                    WHERE w.to_state <> '' AND w.kind NOT IN ('saga.begun', 'step.planned', 'step.skipped')
                    AND EXISTS (
                        SELECT FROM webhooks_endpoint e
                        WHERE e.owner_id = o.owner_id AND e.disabled_at IS NULL
                    );
                END IF;
                RETURN NULL;
            END $$;
            CREATE TRIGGER webhooks_order_placed AFTER INSERT ON orders_order
                REFERENCING NEW TABLE AS placed FOR EACH STATEMENT EXECUTE FUNCTION webhooks_order_placed();
            """,
            reverse_sql="""
            DROP TRIGGER webhooks_order_placed ON orders_order;
            DROP FUNCTION webhooks_order_placed();
            CREATE OR REPLACE FUNCTION webhooks_event_written() RETURNS trigger LANGUAGE plpgsql AS $$
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
            """,
        ),
    ]
