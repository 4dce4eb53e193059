"""`manage.py saga_queues`: what workers must listen on, as `celery worker --queues=` takes it."""

import argparse
from typing import Any

from django.core.management import base

from sagas import conf


class Command(base.BaseCommand):
    """Name every queue that needs a worker."""

    help = (
        "Names every queue that needs a worker, separated by commas: of the steps, of the engine, and of the"
        ' project\'s own tasks. celery --app=... worker --queues="$(manage.py saga_queues)"'
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """`--lines` for people and scripts that start a worker for each."""
        parser.add_argument("--lines", action="store_true", help="one on a line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print them; the application's own default queue is the last.

        Raises:
            CommandError: the workers are not Celery's.
        """
        if not conf.uses_celery():
            raise base.CommandError(
                "SAGAS_TRANSPORT is not Celery's: its workers are `manage.py saga_worker`,"
                " which serves every queue unless it is told which."
            )
        from sagas import workers  # It needs Celery.

        default = conf.celery_app().conf.task_default_queue
        names = [name for name in workers.queues() if name != default]
        self.stdout.write(("\n" if options["lines"] else ",").join([*names, default]))
