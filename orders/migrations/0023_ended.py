"""An index of a caller's orders by their end: what has changed since a time is found by it."""

import django.db.models.functions.comparison
from django.db import migrations, models

from sagas.dbrules import indexes


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("orders", "0022_reviews")]

    operations = [
        indexes.AddIndexLive(
            model_name="order",
            index=models.Index(
                models.F("owner"),
                django.db.models.functions.comparison.Coalesce("fulfilled_at", "cancelled_at", "closed_at"),
                name="orders_order_ended",
            ),
        ),
    ]
