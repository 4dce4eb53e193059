"""The console's own task: bulk runs are taken further with every tick of a clock."""

import celery

from sagas import conf, ticks
from sagas.console import bulk

app: celery.Celery = conf.celery_app()


@app.task(name=conf.BULK_TASK, base=ticks.Tick, queue=conf.BULK_QUEUE)
def drive_bulk_runs() -> None:
    """Take operators' bulk runs a bit further."""
    bulk.drive()
