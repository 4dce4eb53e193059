"""Operators look orders up by customer: by how the name begins, by e-mail, by tax id; and by amount."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orders", "0002_events_are_told")]

    operations = [
        migrations.RunSQL(
            [
                # As Django asks for `istartswith` and `iexact`, in any collation.
                "CREATE INDEX orders_order_customer_name ON orders_order"
                " (upper(customer_name::text) text_pattern_ops)",
                "CREATE INDEX orders_order_customer_email ON orders_order (upper(customer_email::text))",
                "CREATE INDEX orders_order_customer_tax_id ON orders_order (customer_tax_id)",
            ],
            [
                "DROP INDEX orders_order_customer_name",
                "DROP INDEX orders_order_customer_email",
                "DROP INDEX orders_order_customer_tax_id",
            ],
        ),
        migrations.AddIndex(
            model_name="order",
            index=models.Index(fields=["total_amount"], name="orders_order_total"),
        ),
    ]
