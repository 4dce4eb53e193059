"""Lines: what the sweep sends on goes at the pace at which each queue takes."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sagas', '0003_room_for_updates'),
    ]

    operations = [
        migrations.AddField(
            model_name='queue',
            name='line_asked_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='queue',
            name='line_batch',
            field=models.PositiveSmallIntegerField(db_default=2, default=2),
        ),
        migrations.AddField(
            model_name='queue',
            name='line_unconfirmed',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='sagainstance',
            name='in_line_for',
            field=models.CharField(max_length=50, null=True),
        ),
        migrations.AddIndex(
            model_name='sagainstance',
            index=models.Index(condition=models.Q(('in_line_for__isnull', False)), fields=['in_line_for', 'id'], name='saga_in_line'),
        ),
    ]
