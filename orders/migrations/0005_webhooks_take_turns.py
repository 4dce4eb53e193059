"""Endpoints are told in turn, and every secret that was replaced lives for a day, however often that is done."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orders", "0004_webhook_runs")]

    operations = [
        migrations.AddField(
            model_name="webhookendpoint",
            name="served_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="webhookendpoint",
            name="old_secrets",
            field=models.JSONField(default=list, editable=False),
        ),
        migrations.RunSQL(
            sql="""
            UPDATE orders_webhookendpoint SET old_secrets = jsonb_build_array(jsonb_build_object(
                'secret', old_secret,
                'until', to_char(old_secret_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')
            )) WHERE old_secret <> '' AND old_secret_until > clock_timestamp()
            """,
            reverse_sql="""
            UPDATE orders_webhookendpoint SET old_secret = old_secrets -> 0 ->> 'secret',
                old_secret_until = (old_secrets -> 0 ->> 'until')::timestamptz
            WHERE old_secrets <> '[]'
            """,
        ),
        migrations.RemoveField(model_name="webhookendpoint", name="old_secret"),
        migrations.RemoveField(model_name="webhookendpoint", name="old_secret_until"),
    ]
