"""`manage.py migrate_pre`: the half of what is to be migrated beside which the version before runs."""

import argparse
import sys
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
        "the new code before the first process is restarted, and `migrate` after the last one is. A database "
        "that is empty gets them all: no version before runs on it."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """--plan only says what would be done; --check is for who waits until it is."""
        parser.add_argument("--plan", action="store_true", help="Say what would be done, and do nothing.")
        parser.add_argument(
            "--check", action="store_true",
            help="Do nothing, and exit with 1 while something is to be done before this code may run.",
        )  # fmt: skip

    def handle(self, *args: Any, plan: bool, check: bool, **options: Any) -> None:
        """Have `migrate` bring each app as far as it may go now."""
        found = executor.MigrationExecutor(connection)
        graph = found.loader.graph
        unapplied = [migration for migration, _ in found.migration_plan(graph.leaf_nodes())]
        now, later = halves.split(graph, unapplied) if found.loader.applied_migrations else (unapplied, [])
        if check:
            sys.exit(1 if now else 0)
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
