"""What is digital goes to nobody in a parcel. Every product that was there before ships."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("inventory", "0002_append_only")]

    operations = [
        migrations.AddField(
            model_name="product",
            name="ships",
            field=models.BooleanField(
                db_default=True,
                default=True,
                help_text="Goes to the customer in a parcel.",
                verbose_name="ships",
            ),
        ),
    ]
