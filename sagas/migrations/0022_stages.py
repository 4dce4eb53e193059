"""Steps that are done at once with others have messages and timers of their own, on their own rows.

Every new column is null: no row is written. Their indexes are built in `0026_live_indexes`.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sagas", "0021_archive_filters")]

    operations = [
        migrations.AddField("stepinstance", "epoch", models.PositiveIntegerField(null=True)),
        migrations.AddField("stepinstance", "wake_at", models.DateTimeField(null=True)),
        migrations.AddField("stepinstance", "dispatched_at", models.DateTimeField(null=True)),
        migrations.AddField("stepinstance", "dispatches", models.PositiveSmallIntegerField(null=True)),
        migrations.AddField("stepinstance", "parked_for", models.CharField(max_length=50, null=True)),
        migrations.AddField("stepinstance", "parked_rank", models.PositiveSmallIntegerField(null=True)),
    ]
