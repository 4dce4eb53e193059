"""An order outlives the rows of its saga, which go to the archive: no constraint holds them any more."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orders", "0002_in_sql"), ("sagas", "0010_archive")]

    operations = [
        migrations.AlterField(
            model_name="order",
            name="saga",
            field=models.OneToOneField(
                db_constraint=False,
                editable=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="order",
                to="sagas.sagainstance",
            ),
        ),
    ]
