"""The ledger is only ever appended to: the database itself refuses to change or delete a line of it."""

from django.db import migrations

from sagas.dbrules import operations


class Migration(migrations.Migration):
    dependencies = [("payments", "0001_initial")]

    operations = [operations.AppendOnly("payments_operation")]
