"""Invoices are never deleted, and their numbers never changed: the database itself refuses it (M4)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("invoicing", "0001_first")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE FUNCTION invoicing_invoice_is_a_document() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF TG_OP = 'DELETE' THEN
                    RAISE EXCEPTION 'invoices are never deleted' USING ERRCODE = 'restrict_violation';
                END IF;
                IF (NEW.key, NEW.kind, NEW.series_id, NEW.number, NEW.access_key, NEW.tax_id, NEW.amount)
                    IS DISTINCT FROM
                    (OLD.key, OLD.kind, OLD.series_id, OLD.number, OLD.access_key, OLD.tax_id, OLD.amount)
                THEN
                    RAISE EXCEPTION 'what an invoice says is never changed' USING ERRCODE = 'restrict_violation';
                END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER invoicing_invoice_document BEFORE UPDATE OR DELETE ON invoicing_invoice
                FOR EACH ROW EXECUTE FUNCTION invoicing_invoice_is_a_document();
            """,
            reverse_sql="""
            DROP TRIGGER invoicing_invoice_document ON invoicing_invoice;
            DROP FUNCTION invoicing_invoice_is_a_document();
            """,
        ),
    ]
