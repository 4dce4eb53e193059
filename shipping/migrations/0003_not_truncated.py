"""TRUNCATE is refused too: it fires no trigger of a row, so it would have emptied the tracking."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("shipping", "0002_append_only")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE TRIGGER shipping_trackingevent_not_truncated BEFORE TRUNCATE ON shipping_trackingevent
                FOR EACH STATEMENT EXECUTE FUNCTION shipping_trackingevent_is_append_only();
            """,
            reverse_sql="DROP TRIGGER shipping_trackingevent_not_truncated ON shipping_trackingevent",
        ),
    ]
