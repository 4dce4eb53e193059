"""Steps that are done at once with others have messages and timers of their own, on their own rows.

Every new column is null, and no row enters the new indexes: both are made without reading the table's rows
into them, and without rewriting it.
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
        migrations.AddIndex(
            "stepinstance",
            models.Index(
                name="step_due",
                fields=["wake_at"],
                condition=models.Q(("wake_at__isnull", False)),
            ),
        ),
        migrations.AddIndex(
            "stepinstance",
            models.Index(
                name="step_parked",
                fields=["parked_for", "parked_rank", "id"],
                condition=models.Q(("parked_for__isnull", False)),
            ),
        ),
    ]
