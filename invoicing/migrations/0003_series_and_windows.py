"""The house's one series, and how long each state lets an invoice be cancelled.

24 hours is the rule of the whole country (ATO COTEPE/ICMS 33/2008, as changed by 35/2010). Some states
allow more, some on conditions: change the rows of those in which you issue.
"""

import datetime

from django.db import migrations

STATES = "AC AL AM AP BA CE DF ES GO MA MG MS MT PA PB PE PI PR RJ RN RO RR RS SC SE SP TO".split()


def write(apps, schema_editor):
    apps.get_model("invoicing", "Series").objects.create(number=1)
    window = apps.get_model("invoicing", "CancellationWindow")
    window.objects.bulk_create(window(state=state, length=datetime.timedelta(hours=24)) for state in STATES)


def erase(apps, schema_editor):
    apps.get_model("invoicing", "CancellationWindow").objects.all().delete()
    apps.get_model("invoicing", "Series").objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [("invoicing", "0002_never_deleted")]

    operations = [migrations.RunPython(write, erase)]
