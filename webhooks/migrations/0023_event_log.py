"""The event log: what happens to a merchant's orders is kept, whether or not an endpoint is told of it.

Of a user with a token of a merchant, or with an endpoint. Of all others nothing is written, as before.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def _functions(is_told: str, anybody: str) -> str:
    return f"""
    CREATE OR REPLACE FUNCTION webhooks_event_written() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        -- In the event's own transaction: told if and only if it happened.
        IF {anybody} THEN
            INSERT INTO webhooks_outbox (event_id)
            SELECT w.id FROM written w JOIN orders_order o ON o.saga_id = w.saga_id
            WHERE w.to_state <> '' AND w.kind NOT IN ('step.planned', 'step.skipped') AND {is_told};
        END IF;
        RETURN NULL;
    END $$;
    CREATE OR REPLACE FUNCTION webhooks_order_placed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF {anybody} THEN
            INSERT INTO webhooks_outbox (event_id)
            SELECT w.id FROM placed o JOIN sagas_event w ON w.saga_id = o.saga_id
            WHERE w.to_state <> '' AND w.kind NOT IN ('saga.begun', 'step.planned', 'step.skipped')
            AND {is_told};
        END IF;
        RETURN NULL;
    END $$;
    """


LIVE = "SELECT FROM webhooks_endpoint e WHERE e.disabled_at IS NULL"
# A token that was revoked or has expired counts: between it and the next one nothing is lost.
MERCHANTS = "SELECT FROM api_token t WHERE t.scope = 'merchant'"


class Migration(migrations.Migration):
    dependencies = [
        ("webhooks", "0022_orders_that_wait"),
        ("api", "0002_merchants_tokens"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="message",
            name="owner",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="message",
            name="position",
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("position__isnull", False)),
                fields=["owner", "position"],
                name="webhooks_message_log",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state", "given_up")),
                fields=["endpoint", "message"],
                name="webhooks_delivery_given_up",
            ),
        ),
        migrations.RunSQL(
            "CREATE SEQUENCE webhooks_message_position", "DROP SEQUENCE webhooks_message_position"
        ),
        migrations.RunSQL(
            sql=_functions(
                is_told=f"(EXISTS ({LIVE} AND e.owner_id = o.owner_id)"
                f" OR EXISTS ({MERCHANTS} AND t.user_id = o.owner_id))",
                anybody=f"EXISTS ({LIVE}) OR EXISTS ({MERCHANTS})",
            ),
            reverse_sql=_functions(
                is_told=f"EXISTS ({LIVE} AND e.owner_id = o.owner_id)", anybody=f"EXISTS ({LIVE})"
            ),
        ),
    ]
