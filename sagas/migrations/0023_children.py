"""A saga may be the child of a step of another: whose, for which element, and whether that is to hear of it.

Every new column is null, and no row enters what is made over them.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sagas", "0022_stages")]

    operations = [
        migrations.AddField("sagainstance", "parent_id", models.UUIDField(null=True)),
        migrations.AddField("sagainstance", "parent_step", models.CharField(max_length=50, null=True)),
        migrations.AddField("sagainstance", "parent_item", models.PositiveIntegerField(null=True)),
        migrations.AddField("sagainstance", "tells_parent_at", models.DateTimeField(null=True)),
        migrations.AddConstraint(
            "sagainstance",
            models.UniqueConstraint(
                name="saga_one_child_per_element",
                fields=["parent_id", "parent_step", "parent_item"],
                condition=models.Q(("parent_id__isnull", False)),
            ),
        ),
        migrations.AddIndex(
            "sagainstance",
            models.Index(
                name="saga_tells_parent",
                fields=["tells_parent_at"],
                condition=models.Q(("tells_parent_at__isnull", False)),
            ),
        ),
    ]
