"""TRUNCATE is refused too: it fires no trigger of a row, so it would have emptied the ledger."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("payments", "0002_append_only")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE TRIGGER payments_operation_not_truncated BEFORE TRUNCATE ON payments_operation
                FOR EACH STATEMENT EXECUTE FUNCTION payments_operation_is_append_only();
            """,
            reverse_sql="DROP TRIGGER payments_operation_not_truncated ON payments_operation",
        ),
    ]
