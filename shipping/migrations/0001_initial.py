
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Shipment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=100)),
                ('status', models.CharField(choices=[('requested', 'Requested'), ('refused', 'Refused'), ('booked', 'Booked'), ('handed_over', 'Handed over'), ('failed', 'Delivery failed'), ('delivered', 'Delivered'), ('recalled', 'Recalled'), ('returned', 'Returned')], default='requested', max_length=16)),
                ('access_key', models.CharField(blank=True, max_length=44)),
                ('parcels', models.PositiveSmallIntegerField(default=0)),
                ('tracking', models.CharField(blank=True, max_length=64, verbose_name='tracking code')),
                ('mismatch', models.CharField(blank=True, db_default='', default='', help_text="Where the carrier's word differs from what was asked.", max_length=600)),
                ('refusal', models.CharField(blank=True, help_text="The carrier's code for its no.", max_length=64)),
                ('undo_requested_at', models.DateTimeField(blank=True, null=True)),
                ('undone_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'indexes': [models.Index(fields=['-created_at', '-id'], name='shipping_shipment_newest'), models.Index(fields=['tracking'], name='shipping_shipment_tracking')],
                'constraints': [models.UniqueConstraint(fields=('key',), name='shipping_shipment_key'), models.CheckConstraint(condition=models.Q(('status__in', ['requested', 'refused', 'booked', 'handed_over', 'failed', 'delivered', 'recalled', 'returned'])), name='shipping_shipment_status'), models.CheckConstraint(condition=models.Q(('undone_at', None), models.Q(('status__in', ['recalled', 'returned']), ('undo_requested_at__isnull', False)), _connector='OR'), name='shipping_shipment_undone_is_undone')],
            },
        ),
        migrations.CreateModel(
            name='TrackingEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('status', models.CharField(choices=[('requested', 'Requested'), ('refused', 'Refused'), ('booked', 'Booked'), ('handed_over', 'Handed over'), ('failed', 'Delivery failed'), ('delivered', 'Delivered'), ('recalled', 'Recalled'), ('returned', 'Returned')], max_length=16)),
                ('occurred_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('source', models.CharField(max_length=110)),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('shipment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='tracking_events', to='shipping.shipment')),
            ],
            options={
                'ordering': ['id'],
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['requested', 'refused', 'booked', 'handed_over', 'failed', 'delivered', 'recalled', 'returned'])), name='shipping_trackingevent_status'), models.UniqueConstraint(fields=('shipment', 'status'), name='shipping_trackingevent_once')],
            },
        ),
    ]
