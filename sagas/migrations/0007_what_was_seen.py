"""What a second person agrees to, and a bulk run does, is bound to what was seen when it was decided."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sagas", "0006_not_truncated")]

    operations = [
        migrations.AddField(
            model_name="approval",
            name="seen",
            field=models.CharField(blank=True, db_default="", default="", max_length=100),
        ),
        migrations.AddField(
            model_name="bulkitem",
            name="seen",
            field=models.CharField(blank=True, db_default="", default="", max_length=100),
        ),
        migrations.AlterField(
            model_name="bulkitem",
            name="state",
            field=models.CharField(
                choices=[
                    ("pending", "Not tried yet"),
                    ("sent", "Under way"),
                    ("helped", "Helped"),
                    ("failed", "Failed again"),
                    ("refused", "Did not apply"),
                    ("moved", "Moved on"),
                ],
                default="pending",
                max_length=10,
            ),
        ),
        migrations.RemoveConstraint(model_name="bulkitem", name="bulk_item_state_is_known"),
        migrations.AddConstraint(
            model_name="bulkitem",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("state__in", ["pending", "sent", "helped", "failed", "refused", "moved"])
                ),
                name="bulk_item_state_is_known",
            ),
        ),
    ]
