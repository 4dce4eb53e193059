

import django.db.models.deletion
import django.db.models.fields.json
import django.db.models.functions.datetime
import sagas.ids
import sagas.models
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('name', models.CharField(max_length=50, primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
            ],
            options={
                'verbose_name': 'heartbeat',
                'db_table': 'sagas_heartbeat',
            },
        ),
        migrations.CreateModel(
            name='Queue',
            fields=[
                ('name', models.CharField(max_length=50, primary_key=True, serialize=False)),
                ('probed_at', models.DateTimeField(null=True)),
                ('unanswered_since', models.DateTimeField(null=True)),
                ('heard_at', models.DateTimeField(null=True)),
                ('returned_sent_at', models.DateTimeField(null=True)),
                ('returned_at', models.DateTimeField(null=True)),
                ('worker', models.CharField(blank=True, default='', max_length=100)),
            ],
            options={
                'verbose_name': 'queue',
                'db_table': 'sagas_queue',
            },
        ),
        migrations.CreateModel(
            name='Circuit',
            fields=[
                ('name', models.CharField(max_length=50, primary_key=True, serialize=False)),
                ('failing', models.JSONField(default=list)),
                ('trips', models.PositiveIntegerField(default=0)),
                ('opened_at', models.DateTimeField(null=True)),
                ('open_until', models.DateTimeField(null=True)),
                ('probes', models.JSONField(db_default=[], default=list)),
                ('permits', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('permits_at', models.DateTimeField(null=True)),
                ('worked_at', models.DateTimeField(null=True)),
                ('woken_at', models.DateTimeField(null=True)),
                ('failures', models.PositiveIntegerField(db_default=0, default=0)),
                ('failing_since', models.DateTimeField(null=True)),
                ('error', models.JSONField(null=True)),
                ('needs_person', models.BooleanField(db_default=False, default=False)),
            ],
            options={
                'verbose_name': 'circuit',
                'db_table': 'sagas_circuit',
                'constraints': [models.CheckConstraint(condition=models.Q(('needs_person', False), ('opened_at__isnull', False), _connector='OR'), name='circuit_needs_person_while_open')],
            },
        ),
        migrations.CreateModel(
            name='SagaInstance',
            fields=[
                ('id', models.UUIDField(default=sagas.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=50)),
                ('version', models.PositiveSmallIntegerField()),
                ('fingerprint', models.CharField(max_length=16)),
                ('key', models.CharField(max_length=100)),
                ('state', models.CharField(choices=[('running', 'Running'), ('compensating', 'Compensating'), ('needs_attention', 'Needs attention'), ('completed', 'Completed'), ('compensated', 'Compensated')], default='running', max_length=20)),
                ('direction', models.SmallIntegerField(choices=[(1, 'Forward'), (-1, 'Backward')], default=1)),
                ('position', models.PositiveSmallIntegerField(default=0)),
                ('epoch', models.PositiveIntegerField(default=1)),
                ('facts', models.JSONField(default=dict)),
                ('wake_at', models.DateTimeField(null=True)),
                ('dispatched_at', models.DateTimeField(null=True)),
                ('parked_for', models.CharField(max_length=50, null=True)),
                ('parked_rank', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('dispatches', models.PositiveSmallIntegerField(default=1)),
                ('deadline_at', models.DateTimeField(null=True)),
                ('failure', models.JSONField(null=True)),
                ('attention', models.JSONField(null=True)),
                ('resumes', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('alerted_at', models.DateTimeField(null=True)),
                ('cancel_requested_at', models.DateTimeField(null=True)),
                ('cancel_reason', models.TextField(blank=True, default='')),
                ('cancel_actor', models.CharField(blank=True, default='', max_length=150)),
                ('held_at', models.DateTimeField(null=True)),
                ('closed_at', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('finished_at', models.DateTimeField(null=True)),
            ],
            options={
                'verbose_name': 'saga',
                'db_table': 'sagas_saga',
                'permissions': [('operate_saga', 'Can retry, hold, release and extend sagas'), ('compensate_saga', 'Can have sagas undone, which moves money'), ('resolve_saga', 'Can say what happened to a step, skip it, or close a saga')],
                'indexes': [models.Index(condition=models.Q(('wake_at__isnull', False)), fields=['wake_at'], name='saga_due'), models.Index(condition=models.Q(('parked_for__isnull', False)), fields=['parked_for', 'parked_rank', 'id'], name='saga_parked'), models.Index(fields=['state', '-created_at'], name='saga_by_state'), models.Index(fields=['-created_at'], name='saga_newest'), models.Index(fields=['key'], name='saga_by_key'), models.Index(django.db.models.fields.json.KeyTextTransform('step', 'failure'), models.OrderBy(models.F('created_at'), descending=True), condition=models.Q(('failure__isnull', False)), name='saga_failed_at_step'), models.Index(django.db.models.fields.json.KeyTextTransform('kind', 'failure'), models.OrderBy(models.F('created_at'), descending=True), condition=models.Q(('failure__isnull', False)), name='saga_failed_by_kind'), models.Index(condition=models.Q(('failure__isnull', False)), fields=['-created_at'], name='saga_failed_newest')],
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ['running', 'compensating', 'needs_attention', 'completed', 'compensated'])), name='saga_state_is_known'), models.CheckConstraint(condition=models.Q(('direction__in', [1, -1])), name='saga_direction_is_known'), models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', False), ('state__in', ['completed', 'compensated'])), models.Q(('finished_at__isnull', True), ('state__in', ['running', 'compensating', 'needs_attention'])), _connector='OR'), name='saga_finished_at_iff_final'), models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', True), ('wake_at__isnull', False)), models.Q(('finished_at__isnull', False), ('wake_at__isnull', True)), models.Q(('state', 'needs_attention'), ('wake_at__isnull', True)), _connector='OR'), name='saga_live_has_wake_at'), models.CheckConstraint(condition=models.Q(('parked_for__isnull', True), models.Q(('dispatched_at__isnull', True), ('state__in', ['running', 'compensating'])), _connector='OR'), name='saga_parked_has_no_message'), models.UniqueConstraint(condition=models.Q(('closed_at__isnull', True), ('finished_at__isnull', True)), fields=('name', 'key'), name='saga_one_live_per_key')],
            },
        ),
        migrations.CreateModel(
            name='Signal',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('source', models.CharField(max_length=30)),
                ('event_id', models.CharField(max_length=100)),
                ('step_key', models.CharField(max_length=100)),
                ('kind', models.CharField(blank=True, default='', max_length=40)),
                ('facts', models.JSONField(null=True)),
                ('refused', models.TextField(null=True)),
                ('fate', models.CharField(choices=[('stored', 'Stored'), ('applied', 'Applied'), ('noted', 'Noted'), ('late', 'Late'), ('unmatched', 'Unmatched'), ('mismatch', 'Mismatch'), ('unreadable', 'Unreadable')], default='stored', max_length=20)),
                ('received_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('matched_at', models.DateTimeField(null=True)),
                ('wake_at', models.DateTimeField(null=True)),
                ('compensation_attempts', models.PositiveSmallIntegerField(default=0)),
                ('compensated_at', models.DateTimeField(null=True)),
                ('compensation_error', models.TextField(blank=True, default='')),
                ('mismatch', models.TextField(blank=True, db_default='', default='')),
                ('attention', models.TextField(blank=True, db_default='', default='')),
                ('attention_at', models.DateTimeField(null=True)),
                ('settled_at', models.DateTimeField(null=True)),
                ('settled_by', models.CharField(blank=True, db_default='', default='', max_length=150)),
                ('settlement', models.TextField(blank=True, db_default='', default='')),
            ],
            options={
                'verbose_name': 'callback',
                'db_table': 'sagas_signal',
                'indexes': [models.Index(fields=['step_key'], name='signal_of_step'), models.Index(condition=models.Q(('wake_at__isnull', False)), fields=['wake_at'], name='signal_due'), models.Index(condition=models.Q(('attention_at__isnull', False), ('settled_at', None)), fields=['attention_at'], name='signal_needs_person')],
                'constraints': [models.UniqueConstraint(fields=('source', 'event_id'), name='signal_once_per_source'), models.CheckConstraint(condition=models.Q(('fate__in', ['stored', 'applied', 'noted', 'late', 'unmatched', 'mismatch', 'unreadable'])), name='signal_fate_is_known'), models.CheckConstraint(condition=models.Q(('settled_at', None), models.Q(('attention_at__isnull', False), models.Q(('settled_by', ''), _negated=True), models.Q(('settlement', ''), _negated=True)), _connector='OR'), name='signal_settled_by_somebody')],
            },
        ),
        migrations.CreateModel(
            name='Event',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('at', models.DateTimeField(db_default=sagas.models.ClockTimestamp())),
                ('kind', models.CharField(max_length=40)),
                ('subject', models.CharField(default='', max_length=50)),
                ('from_state', models.CharField(blank=True, default='', max_length=20)),
                ('to_state', models.CharField(blank=True, default='', max_length=20)),
                ('attempt', models.PositiveIntegerField(null=True)),
                ('actor', models.CharField(default='engine', max_length=150)),
                ('reason', models.TextField(blank=True, default='')),
                ('data', models.JSONField(default=dict)),
                ('saga', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='events', to='sagas.sagainstance')),
            ],
            options={
                'verbose_name': 'event',
                'db_table': 'sagas_event',
                'ordering': ['id'],
                'indexes': [models.Index(fields=['saga', 'id'], name='event_of_saga')],
            },
        ),
        migrations.CreateModel(
            name='StepInstance',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('position', models.PositiveSmallIntegerField()),
                ('name', models.CharField(max_length=50)),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('running', 'Running'), ('waiting', 'Waiting'), ('done', 'Done'), ('failed', 'Failed'), ('unknown', 'Unknown'), ('undoing', 'Undoing'), ('undone', 'Undone'), ('undo_failed', 'Undo failed'), ('skipped', 'Skipped')], default='pending', max_length=20)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('undo_attempts', models.PositiveIntegerField(default=0)),
                ('excused', models.PositiveIntegerField(db_default=0, default=0)),
                ('undo_excused', models.PositiveIntegerField(db_default=0, default=0)),
                ('fence', models.PositiveIntegerField(default=0)),
                ('lease_until', models.DateTimeField(null=True)),
                ('wait_until', models.DateTimeField(null=True)),
                ('facts', models.JSONField(null=True)),
                ('error', models.JSONField(null=True)),
                ('started_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('undo_started_at', models.DateTimeField(null=True)),
                ('undone_at', models.DateTimeField(null=True)),
                ('task_id', models.CharField(blank=True, default='', max_length=50)),
                ('worker', models.CharField(blank=True, default='', max_length=100)),
                ('saga', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='steps', to='sagas.sagainstance')),
            ],
            options={
                'verbose_name': 'step',
                'db_table': 'sagas_step',
                'ordering': ['position'],
                'constraints': [models.UniqueConstraint(fields=('saga', 'position'), name='step_once_per_saga'), models.UniqueConstraint(fields=('saga', 'name'), name='step_name_once_per_saga'), models.CheckConstraint(condition=models.Q(('state__in', ['pending', 'running', 'waiting', 'done', 'failed', 'unknown', 'undoing', 'undone', 'undo_failed', 'skipped'])), name='step_state_is_known')],
            },
        ),
    ]
