"""The archive is filtered by state, and by kind, error and step of the first failure, without reading it whole.

Only of the sagas that went another way than most: what was completed without a failure is in none of these.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sagas", "0020_events_may_be_struck")]

    operations = [
        migrations.AddIndex(
            model_name="archivedsaga",
            index=models.Index(
                condition=models.Q(("state", "completed"), _negated=True),
                fields=["state", "-ended_at"],
                name="archive_by_state",
            ),
        ),
        migrations.AddIndex(
            model_name="archivedsaga",
            index=models.Index(
                condition=models.Q(("failed_kind", ""), _negated=True),
                fields=["failed_kind", "-ended_at"],
                name="archive_by_kind",
            ),
        ),
        migrations.AddIndex(
            model_name="archivedsaga",
            index=models.Index(
                condition=models.Q(("failed_step", ""), _negated=True),
                fields=["failed_step", "-id"],
                name="archive_by_step",
            ),
        ),
        migrations.AddIndex(
            model_name="archivedsaga",
            index=models.Index(
                condition=models.Q(("failed_error", ""), _negated=True),
                fields=["failed_error", "-id"],
                name="archive_by_error",
            ),
        ),
    ]
