"""The label of a column says *authorised*, as all others do: no statement for the database."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("invoicing", "0020_recipient_may_be_struck")]

    operations = [
        migrations.AlterField(
            "invoice",
            "authorized_at",
            models.DateTimeField("authorised at", null=True, blank=True),
        ),
    ]
