"""Orders whose saga was put aside are closed: a status of their own, and final."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("orders", "0005_webhooks_take_turns"), ("sagas", "0003_room_for_updates")]

    operations = [
        migrations.AddField(
            model_name="order",
            name="closed_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.RemoveConstraint(model_name="order", name="orders_order_has_one_end"),
        migrations.RunSQL(
            """
            UPDATE orders_order o SET closed_at = s.closed_at
            FROM sagas_saga s WHERE s.id = o.saga_id AND s.closed_at IS NOT NULL
            """,
            migrations.RunSQL.noop,
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=models.Q(("cancelled_at", None), ("fulfilled_at", None))
                | models.Q(("cancelled_at", None), ("closed_at", None))
                | models.Q(("closed_at", None), ("fulfilled_at", None)),
                name="orders_order_has_one_end",
            ),
        ),
    ]
