"""Who delivers webhooks holds a lease, and no longer a lock of its session."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orders", "0003_found_by_customer")]

    operations = [
        migrations.CreateModel(
            name="WebhookRun",
            fields=[
                ("slot", models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
                ("run", models.UUIDField()),
                ("until", models.DateTimeField()),
            ],
        ),
        # Of no worth after a crash: it is not logged.
        migrations.RunSQL("ALTER TABLE orders_webhookrun SET UNLOGGED", migrations.RunSQL.noop),
    ]
