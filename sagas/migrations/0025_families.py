"""A parent counts only those of its children that tell; and a step says since when people are asked about it.

Every new column is null: no row is written.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sagas", "0023_children")]

    operations = [
        migrations.AddField("sagainstance", "counted_as", models.CharField(max_length=15, null=True)),
        migrations.AddField("stepinstance", "standing", models.JSONField(null=True)),
        migrations.AddField("stepinstance", "asked_at", models.DateTimeField(null=True)),
    ]
