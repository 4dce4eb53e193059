"""The console says "held" of sagas alone: goods are reserved. Words, and no SQL."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("inventory", "0022_digital_products")]

    operations = [
        migrations.AlterField(
            "product",
            "reserved",
            models.BigIntegerField(default=0, help_text="Reserved for orders that are not finished."),
        ),
        migrations.AlterField(
            "reservation",
            "status",
            models.CharField(
                choices=[("held", "Reserved"), ("released", "Released"), ("shipped", "Shipped")], max_length=8
            ),
        ),
    ]
