"""The indexes of stages and of children. No row enters one when it is made, and yet the whole table is read.

So they are built beside the workers that write to it, each in transactions of its own. A run that was broken off
is begun again.
"""

from django.db import migrations, models

from sagas.dbrules import indexes


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("sagas", "0025_families")]

    operations = [
        indexes.AddIndexLive(
            "stepinstance",
            models.Index(
                name="step_due",
                fields=["wake_at"],
                condition=models.Q(("wake_at__isnull", False)),
            ),
        ),
        indexes.AddIndexLive(
            "stepinstance",
            models.Index(
                name="step_parked",
                fields=["parked_for", "parked_rank", "id"],
                condition=models.Q(("parked_for__isnull", False)),
            ),
        ),
        indexes.AddIndexLive(
            "stepinstance",
            models.Index(
                name="step_asked",
                fields=["name", "saga"],
                condition=models.Q(("asked_at__isnull", False)),
            ),
        ),
        indexes.AddUniqueLive(
            "sagainstance",
            models.UniqueConstraint(
                name="saga_one_child_per_element",
                fields=["parent_id", "parent_step", "parent_item"],
                condition=models.Q(("parent_id__isnull", False)),
            ),
        ),
        indexes.AddIndexLive(
            "sagainstance",
            models.Index(
                name="saga_tells_parent",
                fields=["tells_parent_at"],
                condition=models.Q(("tells_parent_at__isnull", False)),
            ),
        ),
        indexes.AddIndexLive(
            "sagainstance",
            models.Index(
                name="saga_told",
                fields=["parent_id", "parent_step"],
                condition=models.Q(("tells_parent_at__isnull", False)),
            ),
        ),
    ]
