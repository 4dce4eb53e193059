"""A saga's rows are written several times each: room is left on their pages, so that no index is."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("sagas", "0002_append_only")]

    operations = [
        migrations.RunSQL(
            sql="""
            ALTER TABLE sagas_saga SET (fillfactor = 70);
            ALTER TABLE sagas_step SET (fillfactor = 70);
            """,
            reverse_sql="""
            ALTER TABLE sagas_saga RESET (fillfactor);
            ALTER TABLE sagas_step RESET (fillfactor);
            """,
        ),
    ]
