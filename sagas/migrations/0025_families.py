"""A parent counts only those of its children that tell; and a step says since when people are asked about it.

Every new column is null, and no row is written but those of approvals that are waited for by now. These are
known by their rows: no worker has ever had them, and they are no children's.
"""

from django.db import migrations, models

ASKED_BY_NOW = """
    UPDATE sagas_step s SET asked_at = COALESCE(s.started_at, clock_timestamp()) FROM sagas_saga g
    WHERE g.id = s.saga_id AND g.finished_at IS NULL AND g.closed_at IS NULL
        AND s.state = 'waiting' AND s.attempts = 0 AND NOT COALESCE(s.facts, '{}') ? 'children'
"""


class Migration(migrations.Migration):
    dependencies = [("sagas", "0023_children")]

    operations = [
        migrations.AddField("sagainstance", "counted_as", models.CharField(max_length=15, null=True)),
        migrations.AddField("stepinstance", "standing", models.JSONField(null=True)),
        migrations.AddField("stepinstance", "asked_at", models.DateTimeField(null=True)),
        migrations.RunSQL(ASKED_BY_NOW, migrations.RunSQL.noop),
    ]
