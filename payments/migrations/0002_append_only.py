"""The ledger is only ever appended to: the database itself refuses to change or delete a line of it."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("payments", "0001_first")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE FUNCTION payments_operation_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'the ledger of payments is append-only: % is refused', TG_OP
                    USING ERRCODE = 'restrict_violation';
            END $$;
            CREATE TRIGGER payments_operation_append_only BEFORE UPDATE OR DELETE ON payments_operation
                FOR EACH ROW EXECUTE FUNCTION payments_operation_is_append_only();
            """,
            reverse_sql="""
            DROP TRIGGER payments_operation_append_only ON payments_operation;
            DROP FUNCTION payments_operation_is_append_only();
            """,
        ),
    ]
