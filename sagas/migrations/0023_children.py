"""A saga may be the child of a step of another: whose, for which element, and whether that is to hear of it.

Every new column is null: no row is written. What is made over them is built in `0026_live_indexes`.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sagas", "0022_stages")]

    operations = [
        migrations.AddField("sagainstance", "parent_id", models.UUIDField(null=True)),
        migrations.AddField("sagainstance", "parent_step", models.CharField(max_length=50, null=True)),
        migrations.AddField("sagainstance", "parent_item", models.PositiveIntegerField(null=True)),
        migrations.AddField("sagainstance", "tells_parent_at", models.DateTimeField(null=True)),
    ]
