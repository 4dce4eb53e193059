"""Invoices are never deleted, and what they say is never changed: the database itself refuses it (M4)."""

from django.db import migrations

from sagas.dbrules import operations


class Migration(migrations.Migration):
    dependencies = [("invoicing", "0001_initial")]

    operations = [
        operations.NeverDeleted(
            "invoicing_invoice",
            fixed=["key", "kind", "series_id", "number", "access_key", "tax_id", "amount"],
        ),
    ]
