"""An order of which nothing ships may have no address. What old code writes has one, as before.

The rule is put anew under a name of its own, and looked after in the rows that are there without keeping
anybody from writing.
"""

from django.contrib.postgres.operations import AddConstraintNotValid, ValidateConstraint
from django.db import migrations, models

STATES = [
    "AC", "AL", "AM", "AP", "BA", "CE", "DF", "ES", "GO", "MA", "MG", "MS", "MT", "PA", "PB", "PE", "PI", "PR",
    "RJ", "RN", "RO", "RR", "RS", "SC", "SE", "SP", "TO",
]  # fmt: skip


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("orders", "0023_ended")]

    operations = [
        AddConstraintNotValid(
            "order",
            models.CheckConstraint(
                condition=models.Q(country="BR", state__in=STATES) | models.Q(country="", state=""),
                name="orders_order_in_brazil_if_anywhere",
            ),
        ),
        ValidateConstraint("order", "orders_order_in_brazil_if_anywhere"),
        migrations.RemoveConstraint("order", "orders_order_in_brazil"),
    ]
