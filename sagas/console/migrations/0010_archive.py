"""A bulk run goes on naming sagas that have gone to the archive; which of them wait for a turn has an index."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sagas_console", "0001_initial"), ("sagas", "0010_archive")]

    operations = [
        migrations.AlterField(
            model_name="bulkitem",
            name="saga",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="sagas.sagainstance",
            ),
        ),
        migrations.AddIndex(
            model_name="bulkitem",
            index=models.Index(
                condition=models.Q(("state__in", ["pending", "sent"])),
                fields=["saga"],
                name="bulk_item_unfinished",
            ),
        ),
    ]
