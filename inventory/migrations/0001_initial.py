
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Product',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sku', models.CharField(max_length=32, verbose_name='SKU')),
                ('name', models.CharField(max_length=120)),
                ('price_amount', models.BigIntegerField(help_text='In minor units: centavos.', verbose_name='price')),
                ('currency', models.CharField(default='BRL', max_length=3)),
                ('available', models.BigIntegerField(default=0, help_text='Free to be reserved.')),
                ('reserved', models.BigIntegerField(default=0, help_text='Held for orders that are not finished.')),
                ('shipped', models.BigIntegerField(default=0, help_text='Sold and gone.')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'ordering': ['sku'],
                'constraints': [models.UniqueConstraint(fields=('sku',), name='inventory_product_sku'), models.CheckConstraint(condition=models.Q(('price_amount__gte', 0)), name='inventory_product_price_not_negative'), models.CheckConstraint(condition=models.Q(('available__gte', 0), ('reserved__gte', 0), ('shipped__gte', 0)), name='inventory_product_stock_not_negative')],
            },
        ),
        migrations.CreateModel(
            name='Reservation',
            fields=[
                ('key', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('status', models.CharField(choices=[('held', 'Held'), ('released', 'Released'), ('shipped', 'Shipped')], max_length=8)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'indexes': [models.Index(fields=['-created_at'], name='inventory_reservation_newest')],
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['held', 'released', 'shipped'])), name='inventory_reservation_status')],
            },
        ),
        migrations.CreateModel(
            name='Movement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('received', 'Received'), ('reserved', 'Reserved'), ('released', 'Released'), ('shipped', 'Shipped')], max_length=8)),
                ('quantity', models.BigIntegerField()),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('product', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='movements', to='inventory.product', to_field='sku')),
                ('reservation', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='movements', to='inventory.reservation')),
            ],
            options={
                'ordering': ['id'],
                'indexes': [models.Index(fields=['product', 'id'], name='inventory_movement_product')],
                'constraints': [models.CheckConstraint(condition=models.Q(('kind__in', ['received', 'reserved', 'released', 'shipped'])), name='inventory_movement_kind'), models.CheckConstraint(condition=models.Q(('quantity__gt', 0)), name='inventory_movement_moves_something'), models.CheckConstraint(condition=models.Q(models.Q(('kind', 'received'), ('reservation', None)), models.Q(models.Q(('kind', 'received'), _negated=True), ('reservation__isnull', False)), _connector='OR'), name='inventory_movement_of_a_reservation'), models.UniqueConstraint(fields=('reservation', 'product', 'kind'), name='inventory_movement_once')],
            },
        ),
    ]
