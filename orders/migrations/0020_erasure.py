"""Requests that a customer's data be erased, each decided by two people; and when an order was erased.

A request is the proof that it was granted: the database refuses to delete one, or to change what was asked for.
"""

import django.db.models.functions.datetime
import sagas.ids
from sagas.dbrules import operations as rules
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('orders', '0010_saga_may_be_archived'),
    ]

    operations = [
        migrations.AddField(
            model_name='order',
            name='erased_at',
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.CreateModel(
            name='Erasure',
            fields=[
                ('id', models.UUIDField(default=sagas.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('reason', models.CharField(max_length=200)),
                ('order_ids', models.JSONField(default=list, verbose_name='orders')),
                ('customer_salt', models.CharField(editable=False, max_length=32)),
                ('customer_digest', models.CharField(editable=False, max_length=64)),
                ('state', models.CharField(choices=[('asked', 'Asked'), ('approved', 'Approved'), ('refused', 'Refused'), ('done', 'Done')], default='asked', max_length=8)),
                ('asked_by', models.CharField(max_length=150)),
                ('asked_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('decided_by', models.CharField(blank=True, default='', max_length=150)),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('done_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'permissions': [('erase_customer', "Can have a customer's data erased, or agree to it")],
                'indexes': [models.Index(condition=models.Q(('state', 'approved')), fields=['id'], name='orders_erasure_under_way')],
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ['asked', 'approved', 'refused', 'done'])), name='orders_erasure_state'), models.CheckConstraint(condition=models.Q(('state__in', ['asked', 'refused']), models.Q(models.Q(('decided_by', ''), _negated=True), models.Q(('decided_by', models.F('asked_by')), _negated=True)), _connector='OR'), name='orders_erasure_by_two'), models.CheckConstraint(condition=models.Q(models.Q(('done_at__isnull', False), ('state', 'done')), models.Q(models.Q(('state', 'done'), _negated=True), ('done_at', None)), _connector='OR'), name='orders_erasure_done_at')],
            },
        ),
        rules.NeverDeleted(
            "orders_erasure",
            fixed=["id", "reason", "order_ids", "customer_salt", "customer_digest", "asked_by", "asked_at"],
        ),
    ]
