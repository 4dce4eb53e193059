"""Operators look orders up by customer: by how the name begins, by e-mail, by tax id."""

from django.db import migrations


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
    ]
