"""Whether a user has, or had, a token of a merchant: asked with every event of a saga."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("api", "0001_initial")]

    operations = [
        migrations.AddIndex(
            model_name="token",
            index=models.Index(
                condition=models.Q(("scope", "merchant")), fields=["user"], name="api_token_of_merchant"
            ),
        ),
    ]
