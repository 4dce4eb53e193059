
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Payment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=100)),
                ('method', models.CharField(blank=True, choices=[('card', 'Card'), ('pix', 'PIX')], max_length=8)),
                ('status', models.CharField(choices=[('requested', 'Requested'), ('pending', 'Pending'), ('declined', 'Declined'), ('expired', 'Expired'), ('cancelled', 'Cancelled'), ('voided', 'Voided'), ('captured', 'Captured'), ('refunded', 'Refunded')], default='requested', max_length=16)),
                ('amount', models.BigIntegerField(default=0, help_text='In minor units: centavos.')),
                ('currency', models.CharField(default='BRL', max_length=3)),
                ('captured_currency', models.CharField(blank=True, db_default='', default='', max_length=3)),
                ('captured', models.BigIntegerField(default=0, help_text='What the bank took, by its own word.')),
                ('refunded', models.BigIntegerField(default=0, help_text='What the bank gave back, by its own word.')),
                ('provider_ref', models.CharField(blank=True, max_length=100, verbose_name='provider reference')),
                ('mismatch', models.CharField(blank=True, db_default='', default='', help_text="Where the bank's word differs from what was asked.", max_length=600)),
                ('refusal', models.CharField(blank=True, help_text="The bank's code for its no.", max_length=64)),
                ('pix_copy_paste', models.TextField(blank=True, verbose_name='PIX code')),
                ('pix_expires_at', models.DateTimeField(blank=True, null=True, verbose_name='PIX code expires')),
                ('undo_requested_at', models.DateTimeField(blank=True, null=True)),
                ('undone_at', models.DateTimeField(blank=True, null=True)),
                ('asked_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'indexes': [models.Index(fields=['-created_at', '-id'], name='payments_payment_newest'), models.Index(condition=models.Q(('captured', 0), ('method', 'pix'), ('undone_at__isnull', False)), fields=['undone_at'], name='payments_payment_abandoned')],
                'constraints': [models.UniqueConstraint(fields=('key',), name='payments_payment_key'), models.CheckConstraint(condition=models.Q(('status__in', ['requested', 'pending', 'declined', 'expired', 'cancelled', 'voided', 'captured', 'refunded'])), name='payments_payment_status'), models.CheckConstraint(condition=models.Q(('method__in', ['card', 'pix', ''])), name='payments_payment_method'), models.CheckConstraint(condition=models.Q(('amount__gte', 0), ('captured__gte', 0), ('refunded__gte', 0)), name='payments_payment_no_negative_money'), models.UniqueConstraint(condition=models.Q(('provider_ref', ''), _negated=True), fields=('provider_ref',), name='payments_payment_provider_ref_once'), models.CheckConstraint(condition=models.Q(('refunded__lte', models.F('captured'))), name='payments_payment_refunds_within_captures'), models.CheckConstraint(condition=models.Q(('undone_at', None), models.Q(('refunded', models.F('captured')), ('undo_requested_at__isnull', False)), _connector='OR'), name='payments_payment_undone_holds_nothing')],
            },
        ),
        migrations.CreateModel(
            name='Operation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('charge', 'Charge'), ('capture', 'Capture'), ('refund', 'Refund'), ('cancel', 'Cancel')], max_length=8)),
                ('amount', models.BigIntegerField()),
                ('source', models.CharField(max_length=110)),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('payment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='operations', to='payments.payment')),
            ],
            options={
                'ordering': ['id'],
                'constraints': [models.CheckConstraint(condition=models.Q(('kind__in', ['charge', 'capture', 'refund', 'cancel'])), name='payments_operation_kind'), models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='payments_operation_moves_something')],
            },
        ),
    ]
