"""TRUNCATE is refused too: it fires no trigger of a row, so it would have deleted all invoices (M4)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("invoicing", "0002_never_deleted")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE FUNCTION invoicing_invoice_is_never_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'invoices are never deleted: % is refused', TG_OP
                    USING ERRCODE = 'restrict_violation';
            END $$;
            CREATE TRIGGER invoicing_invoice_not_truncated BEFORE TRUNCATE ON invoicing_invoice
                FOR EACH STATEMENT EXECUTE FUNCTION invoicing_invoice_is_never_deleted();
            """,
            reverse_sql="""
            DROP TRIGGER invoicing_invoice_not_truncated ON invoicing_invoice;
            DROP FUNCTION invoicing_invoice_is_never_deleted();
            """,
        ),
    ]
