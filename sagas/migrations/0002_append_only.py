"""Events are only ever appended: the database itself refuses to change or delete one (A1)."""

from django.db import migrations

from sagas.dbrules import operations


class Migration(migrations.Migration):
    dependencies = [("sagas", "0001_initial")]

    operations = [operations.AppendOnly("sagas_event")]
