"""A line is priced in its order's currency: the database itself refuses to add up BRL and USD."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("orders", "0006_orders_are_closed")]

    operations = [
        migrations.RunSQL(
            [
                "ALTER TABLE orders_order ADD CONSTRAINT orders_order_currency UNIQUE (id, currency)",
                # Not valid for what was written before: an older version may have added up several.
                "ALTER TABLE orders_orderline ADD CONSTRAINT orders_orderline_currency_of_its_order"
                " FOREIGN KEY (order_id, currency) REFERENCES orders_order (id, currency)"
                " DEFERRABLE INITIALLY DEFERRED NOT VALID",
            ],
            [
                "ALTER TABLE orders_orderline DROP CONSTRAINT orders_orderline_currency_of_its_order",
                "ALTER TABLE orders_order DROP CONSTRAINT orders_order_currency",
            ],
        )
    ]
