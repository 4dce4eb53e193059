"""The stock book is only ever appended to: the database itself refuses to change or delete a line of it."""

from django.db import migrations

from sagas.dbrules import operations


class Migration(migrations.Migration):
    dependencies = [("inventory", "0001_initial")]

    operations = [operations.AppendOnly("inventory_movement")]
