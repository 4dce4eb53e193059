"""What the models have no words for: a table that is not logged, a trigger, indexes and a key of two columns.

An event of an order's saga wakes those who follow it. Operators look orders up by customer: by how the name
begins, by e-mail, by tax id. A line is priced in its order's currency: the database itself refuses to add up
BRL and USD.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_initial")]

    operations = [
        # Of no worth after a crash, and written often: it is not logged.
        migrations.RunSQL("ALTER TABLE orders_follower SET UNLOGGED", migrations.RunSQL.noop),
        migrations.RunSQL(
            sql="""
            CREATE FUNCTION orders_event_written() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                -- Only for those who are followed: transactions that notify commit one after the other.
                IF EXISTS (SELECT FROM orders_follower) THEN
                    PERFORM pg_notify('orders', saga.id::text)
                    FROM (SELECT DISTINCT saga_id AS id FROM written) saga
                    WHERE EXISTS (
                        SELECT FROM orders_follower f
                        WHERE f.saga_id = saga.id AND f.until > clock_timestamp()
                    );
                END IF;
                RETURN NULL;
            END $$;
            CREATE TRIGGER orders_event_written AFTER INSERT ON sagas_event
                REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION orders_event_written();
            """,
            reverse_sql="""
            DROP TRIGGER orders_event_written ON sagas_event;
            DROP FUNCTION orders_event_written();
            """,
        ),
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
        migrations.RunSQL(
            [
                "ALTER TABLE orders_order ADD CONSTRAINT orders_order_currency UNIQUE (id, currency)",
                "ALTER TABLE orders_orderline ADD CONSTRAINT orders_orderline_currency_of_its_order"
                " FOREIGN KEY (order_id, currency) REFERENCES orders_order (id, currency)"
                " DEFERRABLE INITIALLY DEFERRED",
            ],
            [
                "ALTER TABLE orders_orderline DROP CONSTRAINT orders_orderline_currency_of_its_order",
                "ALTER TABLE orders_order DROP CONSTRAINT orders_order_currency",
            ],
        ),
    ]
