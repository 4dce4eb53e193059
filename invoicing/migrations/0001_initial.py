
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='CancellationWindow',
            fields=[
                ('state', models.CharField(max_length=2, primary_key=True, serialize=False)),
                ('length', models.DurationField(help_text='From the authorisation on.')),
            ],
            options={
                'ordering': ['state'],
            },
        ),
        migrations.CreateModel(
            name='Series',
            fields=[
                ('number', models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
                ('next_number', models.PositiveIntegerField(default=1)),
            ],
            options={
                'verbose_name_plural': 'series',
                'ordering': ['number'],
                'constraints': [models.CheckConstraint(condition=models.Q(('next_number__gte', 1), ('next_number__lte', 999999999), ('number__lte', 999)), name='invoicing_series_fits_the_access_key')],
            },
        ),
        migrations.CreateModel(
            name='Invoice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=110)),
                ('kind', models.CharField(choices=[('sale', 'Sale'), ('return', 'Return')], default='sale', max_length=8)),
                ('status', models.CharField(choices=[('requested', 'Requested'), ('authorized', 'Authorised'), ('rejected', 'Rejected'), ('number-voided', 'Number voided'), ('cancelled', 'Cancelled'), ('returned', 'Returned'), ('never-issued', 'Never issued')], default='requested', max_length=16)),
                ('number', models.PositiveIntegerField(blank=True, null=True)),
                ('access_key', models.CharField(blank=True, max_length=44)),
                ('protocol', models.CharField(blank=True, help_text="The authority's word for its yes.", max_length=64)),
                ('mismatch', models.CharField(blank=True, db_default='', default='', help_text="Where the authority's word differs from what was asked.", max_length=600)),
                ('refusal', models.CharField(blank=True, help_text="The authority's code for its no.", max_length=64)),
                ('tax_id', models.CharField(blank=True, max_length=14)),
                ('lines', models.JSONField(default=list)),
                ('amount', models.BigIntegerField(default=0, help_text='In minor units: centavos.')),
                ('currency', models.CharField(default='BRL', max_length=3)),
                ('authorized_at', models.DateTimeField(blank=True, null=True)),
                ('goods_left_at', models.DateTimeField(blank=True, null=True)),
                ('undo_requested_at', models.DateTimeField(blank=True, null=True)),
                ('undone_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('references', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='return_note', to='invoicing.invoice')),
                ('series', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='invoices', to='invoicing.series')),
            ],
            options={
                'indexes': [models.Index(fields=['-created_at', '-id'], name='invoicing_invoice_newest')],
                'constraints': [models.UniqueConstraint(fields=('key',), name='invoicing_invoice_key'), models.UniqueConstraint(fields=('series', 'number'), name='invoicing_invoice_number'), models.UniqueConstraint(condition=models.Q(('access_key', ''), _negated=True), fields=('access_key',), name='invoicing_invoice_access_key'), models.CheckConstraint(condition=models.Q(('status__in', ['requested', 'authorized', 'rejected', 'number-voided', 'cancelled', 'returned', 'never-issued'])), name='invoicing_invoice_status'), models.CheckConstraint(condition=models.Q(models.Q(('access_key', ''), ('number', None), ('series', None), ('status', 'never-issued')), models.Q(models.Q(('status', 'never-issued'), _negated=True), ('number__isnull', False), ('series__isnull', False), models.Q(('access_key', ''), _negated=True)), _connector='OR'), name='invoicing_invoice_has_its_number'), models.CheckConstraint(condition=models.Q(models.Q(('kind', 'sale'), ('references', None)), models.Q(('kind', 'return'), ('references__isnull', False)), _connector='OR'), name='invoicing_invoice_return_references_its_sale'), models.CheckConstraint(condition=models.Q(('undone_at', None), models.Q(('status__in', ['cancelled', 'never-issued', 'number-voided', 'returned']), ('undo_requested_at__isnull', False)), _connector='OR'), name='invoicing_invoice_undone_is_undone')],
            },
        ),
    ]
