"""TRUNCATE is refused too: it fires no trigger of a row, so it would have emptied the events (A1)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("sagas", "0005_outages")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE TRIGGER sagas_event_not_truncated BEFORE TRUNCATE ON sagas_event
                FOR EACH STATEMENT EXECUTE FUNCTION sagas_event_is_append_only();
            """,
            reverse_sql="DROP TRIGGER sagas_event_not_truncated ON sagas_event",
        ),
    ]
