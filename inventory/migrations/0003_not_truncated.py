"""TRUNCATE is refused too: it fires no trigger of a row, so it would have emptied the stock book."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("inventory", "0002_append_only")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE TRIGGER inventory_movement_not_truncated BEFORE TRUNCATE ON inventory_movement
                FOR EACH STATEMENT EXECUTE FUNCTION inventory_movement_is_append_only();
            """,
            reverse_sql="DROP TRIGGER inventory_movement_not_truncated ON inventory_movement",
        ),
    ]
