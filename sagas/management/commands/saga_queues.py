"""`manage.py saga_queues`: what workers must listen on, as `celery worker --queues=` takes it."""

import argparse
from typing import Any

from django.core.management import base

from sagas import conf, workers


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
        """Print them; the application's own default queue is the last."""
        default = conf.celery_app().conf.task_default_queue
        names = [name for name in workers.queues() if name != default]
        self.stdout.write(("\n" if options["lines"] else ",").join([*names, default]))
