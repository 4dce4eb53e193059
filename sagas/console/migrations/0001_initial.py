

import django.db.models.deletion
import django.db.models.functions.datetime
import sagas.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('sagas', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='FailureNote',
            fields=[
                ('signature', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('text', models.TextField()),
                ('actor', models.CharField(max_length=150)),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'verbose_name': 'failure note',
                'db_table': 'sagas_console_failure_note',
            },
        ),
        migrations.CreateModel(
            name='BulkRun',
            fields=[
                ('id', models.UUIDField(default=sagas.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('intervention', models.CharField(max_length=30)),
                ('actor', models.CharField(max_length=150)),
                ('reason', models.TextField()),
                ('state', models.CharField(choices=[('asked', 'Waits for a second person'), ('running', 'Running'), ('stopped', 'Stopped'), ('finished', 'Finished')], default='running', max_length=10)),
                ('wave', models.PositiveSmallIntegerField(default=0)),
                ('stopped_why', models.TextField(blank=True, default='')),
                ('approved_by', models.CharField(blank=True, default='', max_length=150)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('finished_at', models.DateTimeField(null=True)),
            ],
            options={
                'verbose_name': 'bulk run',
                'db_table': 'sagas_console_bulk_run',
                'indexes': [models.Index(fields=['-created_at'], name='bulk_run_newest'), models.Index(condition=models.Q(('state', 'running')), fields=['id'], name='bulk_run_live')],
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ['asked', 'running', 'stopped', 'finished'])), name='bulk_run_state_is_known'), models.CheckConstraint(condition=models.Q(('approved_by', models.F('actor')), _negated=True), name='bulk_run_by_somebody_else')],
            },
        ),
        migrations.CreateModel(
            name='Approval',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('intervention', models.CharField(max_length=30)),
                ('seen', models.CharField(blank=True, db_default='', default='', max_length=100)),
                ('arguments', models.JSONField(default=dict)),
                ('actor', models.CharField(max_length=150)),
                ('reason', models.TextField()),
                ('asked_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('state', models.CharField(choices=[('asked', 'Asked'), ('approved', 'Approved'), ('refused', 'Refused'), ('void', 'Void')], default='asked', max_length=10)),
                ('decided_by', models.CharField(blank=True, default='', max_length=150)),
                ('decided_at', models.DateTimeField(null=True)),
                ('decision', models.TextField(blank=True, default='')),
                ('saga', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='approvals', to='sagas.sagainstance')),
            ],
            options={
                'verbose_name': 'approval',
                'db_table': 'sagas_console_approval',
                'indexes': [models.Index(fields=['-asked_at'], name='approval_newest')],
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ['asked', 'approved', 'refused', 'void'])), name='approval_state_is_known'), models.CheckConstraint(condition=models.Q(models.Q(('state', 'approved'), _negated=True), models.Q(('decided_by', models.F('actor')), _negated=True), _connector='OR'), name='approval_by_somebody_else'), models.UniqueConstraint(condition=models.Q(('state', 'asked')), fields=('saga', 'intervention'), name='approval_asked_once')],
            },
        ),
        migrations.CreateModel(
            name='BulkItem',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('number', models.PositiveIntegerField()),
                ('wave', models.PositiveSmallIntegerField(default=0)),
                ('state', models.CharField(choices=[('pending', 'Not tried yet'), ('sent', 'Under way'), ('helped', 'Helped'), ('failed', 'Failed again'), ('refused', 'Did not apply'), ('moved', 'Moved on')], default='pending', max_length=10)),
                ('message', models.TextField(blank=True, default='')),
                ('seen', models.CharField(blank=True, db_default='', default='', max_length=100)),
                ('position', models.PositiveSmallIntegerField(default=0)),
                ('sent_at', models.DateTimeField(null=True)),
                ('settled_at', models.DateTimeField(null=True)),
                ('saga', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='sagas.sagainstance')),
                ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='items', to='sagas_console.bulkrun')),
            ],
            options={
                'verbose_name': 'saga of a bulk run',
                'verbose_name_plural': 'sagas of bulk runs',
                'db_table': 'sagas_console_bulk_item',
                'ordering': ['number'],
                'constraints': [models.UniqueConstraint(fields=('run', 'saga'), name='bulk_item_once'), models.UniqueConstraint(fields=('run', 'number'), name='bulk_item_number'), models.CheckConstraint(condition=models.Q(('state__in', ['pending', 'sent', 'helped', 'failed', 'refused', 'moved'])), name='bulk_item_state_is_known')],
            },
        ),
    ]
