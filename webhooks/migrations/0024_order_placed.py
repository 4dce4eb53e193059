"""That an order was placed is told, and stands in the event log: `order.placed`.

Its saga begins before the order is written, in the same transaction, so it comes with the order; that no
saga's beginning was told hitherto needed an exception here, which goes.
"""

from django.db import migrations


def _function(untold: str) -> str:
    return f"""
    CREATE OR REPLACE FUNCTION webhooks_order_placed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM webhooks_endpoint e WHERE e.disabled_at IS NULL)
            OR EXISTS (SELECT FROM api_token t WHERE t.scope = 'merchant') THEN
            INSERT INTO webhooks_outbox (event_id)
            SELECT w.id FROM placed o JOIN sagas_event w ON w.saga_id = o.saga_id
            WHERE w.to_state <> '' AND w.kind NOT IN ({untold})
            AND (
                EXISTS (
                    SELECT FROM webhooks_endpoint e WHERE e.disabled_at IS NULL AND e.owner_id = o.owner_id
                )
                OR EXISTS (
                    SELECT FROM api_token t WHERE t.scope = 'merchant' AND t.user_id = o.owner_id
                )
            );
        END IF;
        RETURN NULL;
    END $$;
    """


class Migration(migrations.Migration):
    dependencies = [("webhooks", "0023_event_log")]

    operations = [
        migrations.RunSQL(
            sql=_function("'step.planned', 'step.skipped'"),
            reverse_sql=_function("'saga.begun', 'step.planned', 'step.skipped'"),
        ),
    ]
