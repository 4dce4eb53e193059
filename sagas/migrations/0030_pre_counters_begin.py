"""The counters of a database that has sagas already begin with this upgrade, at nothing.

From the first event on, the first fold would add what happened in years to sums that Prometheus has seen at 0:
to `rate()`, an hour of every alert. Who wants the history counted asks for it: `saga_metrics --rebuild`.
"""

from django.db import migrations

BEGIN = """
INSERT INTO sagas_event_cursor (name, read_to, mark)
SELECT 'metrics', newest.id, newest.id FROM (SELECT COALESCE(max(id), 0) AS id FROM sagas_event) newest
ON CONFLICT (name) DO NOTHING
"""


class Migration(migrations.Migration):

    dependencies = [("sagas", "0027_observability")]

    operations = [migrations.RunSQL(BEGIN, reverse_sql=migrations.RunSQL.noop)]
