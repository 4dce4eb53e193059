"""Orders that wait for a review, customers whose orders do, and goods that are not delivered.

Every line that was ordered before ships, as all did.
"""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orders", "0021_kept_until")]

    operations = [
        migrations.AlterModelOptions(
            name="order",
            options={
                "permissions": [
                    ("review_order", "Can say whether an order that waits for a review is accepted")
                ]
            },
        ),
        migrations.AddField(
            model_name="orderline",
            name="ships",
            field=models.BooleanField(db_default=True, default=True),
        ),
        migrations.CreateModel(
            name="FlaggedCustomer",
            fields=[
                ("id", models.BigAutoField(
                    auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                )),
                ("tax_id", models.CharField(max_length=14, verbose_name="customer tax id")),
                ("reason", models.CharField(help_text="Nothing that names the customer.", max_length=200)),
                ("flagged_by", models.CharField(editable=False, max_length=150)),
                (
                    "flagged_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("tax_id",), name="orders_flaggedcustomer_tax_id")
                ],
            },
        ),
    ]
