"""What a second person gives is called a consent: a saga's own approvals (`sagas.Approval`) are something else.

Only the model's name changes. The table, its constraints and what stands in it stay as they are; whoever might
see the rows still may.
"""

import django.db.models.deletion
from django.db import migrations, models


def rename(old, new):
    """Have the permissions of the model named anew, which groups and users then keep."""

    def run(apps, schema_editor):
        permissions = apps.get_model("auth", "Permission").objects.using(schema_editor.connection.alias)
        for action in ("add", "change", "delete", "view"):
            permissions.filter(content_type__app_label="sagas_console", codename=f"{action}_{old}").update(
                codename=f"{action}_{new}", name=f"Can {action} {new}"
            )

    return run


class Migration(migrations.Migration):
    dependencies = [
        ("sagas_console", "0010_archive"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.RenameModel("Approval", "Consent"),
        migrations.AlterModelOptions("consent", {"verbose_name": "consent"}),
        migrations.AlterField(
            model_name="consent",
            name="saga",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="consents",
                to="sagas.sagainstance",
            ),
        ),
        migrations.AlterField(
            model_name="consent",
            name="state",
            field=models.CharField(
                choices=[
                    ("asked", "Asked"), ("approved", "Agreed"), ("refused", "Refused"), ("void", "Void"),
                ],
                default="asked",
                max_length=10,
            ),
        ),
        migrations.RunPython(rename("approval", "consent"), rename("consent", "approval")),
    ]  # fmt: skip
