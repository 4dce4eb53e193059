"""The recipient of an invoice may be struck out, on request, once the law no longer has it kept.

A transaction that says that it strikes may empty `tax_id` of a document that never came to be, or of which
five years have passed since the first day of the year after its own (CTN, arts. 173, I, and 195). Otherwise
invoices are never deleted, and what they say is never changed, as before.
"""

from django.db import migrations

FIXED = ["key", "kind", "series_id", "number", "access_key", "amount"]
KEPT = """
CREATE OR REPLACE FUNCTION invoicing_invoice_is_never_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF ROW({new}) IS DISTINCT FROM ROW({old}) {and_tax_id} THEN
            RAISE EXCEPTION '% has columns that never change: % is refused', TG_TABLE_NAME, TG_OP
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% is never deleted from: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
"""

UNLESS_STRUCK = """
    OR NEW.tax_id IS DISTINCT FROM OLD.tax_id AND NOT (
        NEW.tax_id = ''
        AND current_setting('invoicing.striking', true) IS NOT DISTINCT FROM 'on'
        AND (
            OLD.authorized_at IS NULL AND OLD.undone_at IS NOT NULL
            OR statement_timestamp() >= (
                date_trunc('year', coalesce(OLD.authorized_at, OLD.created_at) AT TIME ZONE 'America/Sao_Paulo')
                + interval '6 years'
            ) AT TIME ZONE 'America/Sao_Paulo'
        )
    )
"""


def function(and_tax_id):
    new, old = (", ".join(f"{row}.{column}" for column in FIXED) for row in ("NEW", "OLD"))
    return KEPT.format(new=new, old=old, and_tax_id=and_tax_id)


class Migration(migrations.Migration):
    dependencies = [("invoicing", "0002_never_deleted")]

    operations = [
        migrations.RunSQL(
            function(UNLESS_STRUCK), function("OR NEW.tax_id IS DISTINCT FROM OLD.tax_id")
        )
    ]
