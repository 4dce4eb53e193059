"""Approvals that are waited for are found by an index, whatever else is live.

The column is null for every other step, so no other step's row is ever in the index. Those that are waited for
by now are known by their rows: no worker has ever had them, and they are no children's.
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
        migrations.AddField("stepinstance", "asked_at", models.DateTimeField(null=True)),
        migrations.AddIndex(
            "stepinstance",
            models.Index(
                name="step_asked",
                fields=["asked_at"],
                condition=models.Q(("asked_at__isnull", False)),
            ),
        ),
        migrations.RunSQL(ASKED_BY_NOW, migrations.RunSQL.noop),
    ]
