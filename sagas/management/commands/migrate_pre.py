"""`manage.py migrate_pre`: the half of what is to be migrated beside which the version before runs."""

import argparse
from typing import Any

from django.core import management
from django.core.management import base
from django.db import connection
from django.db.migrations import executor

from sagas.dbrules import halves


class Command(base.BaseCommand):
    """Apply all but the post halves; `migrate` applies these, when no process runs the version before."""

    help = (
        "Apply the migrations beside which the version before goes on: all but the post halves. Run it with "
        "the new code before the first process is restarted, and `migrate` after the last one is."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """--plan only says what would be done."""
        parser.add_argument("--plan", action="store_true", help="Say what would be done, and do nothing.")

    def handle(self, *args: Any, plan: bool, **options: Any) -> None:
        """Have `migrate` bring each app as far as it may go now."""
        found = executor.MigrationExecutor(connection)
        graph = found.loader.graph
        unapplied = [migration for migration, _ in found.migration_plan(graph.leaf_nodes())]
        now, later = halves.split(graph, unapplied)
        # In the order of the plan: the last one of an app brings those before it.
        targets = [*{migration.app_label: migration.name for migration in now}.items()] if later else [()]
        for migration in now if plan else ():
            self.stdout.write(f"now    {migration.app_label}.{migration.name}")
        if not plan:
            for target in targets:
                management.call_command(
                    "migrate", *target, interactive=False, verbosity=options["verbosity"],
                    stdout=self.stdout, stderr=self.stderr,
                )  # fmt: skip
        for migration in later:
            self.stdout.write(f"later  {migration.app_label}.{migration.name}")
        if later:
            self.stdout.write(
                "What waits: run `manage.py migrate` when no process runs the old code any more."
            )
        elif not now:
            self.stdout.write("Nothing to migrate.")
