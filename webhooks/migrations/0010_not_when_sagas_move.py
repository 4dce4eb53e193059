"""An event that comes back from the archive was told when it happened: the outbox does not get it again."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("webhooks", "0002_in_sql"), ("sagas", "0010_archive")]

    operations = [
        migrations.RunSQL(
            sql="""
            DROP TRIGGER webhooks_event_written ON sagas_event;
            CREATE TRIGGER webhooks_event_written AFTER INSERT ON sagas_event
                REFERENCING NEW TABLE AS written FOR EACH STATEMENT
                WHEN (current_setting('sagas.moving', true) IS DISTINCT FROM 'on')
                EXECUTE FUNCTION webhooks_event_written();
            """,
            reverse_sql="""
            DROP TRIGGER webhooks_event_written ON sagas_event;
            CREATE TRIGGER webhooks_event_written AFTER INSERT ON sagas_event
                REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION webhooks_event_written();
            """,
        ),
    ]
