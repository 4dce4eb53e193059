"""Of an erased order: from when on what the tax law had us keep of it may be struck out, too.

Orders that were erased before look for it in the year in which an invoice of theirs can be due at the
earliest; the clean-up then finds out what they keep.
"""

from django.db import migrations, models

EARLIEST = """
UPDATE orders_order
SET kept_until = (
    date_trunc('year', created_at AT TIME ZONE 'America/Sao_Paulo') + interval '6 years'
)::date
WHERE erased_at IS NOT NULL
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0020_erasure")]

    operations = [
        migrations.AddField(
            model_name="order",
            name="kept_until",
            field=models.DateField(blank=True, editable=False, null=True),
        ),
        migrations.RunSQL(EARLIEST, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=models.Q(("kept_until", None), ("erased_at__isnull", False), _connector="OR"),
                name="orders_order_kept_until_erased",
            ),
        ),
        migrations.AddIndex(
            model_name="order",
            index=models.Index(
                fields=["kept_until"],
                condition=models.Q(("kept_until__isnull", False)),
                name="orders_order_kept_until",
            ),
        ),
    ]
