"""`manage.py saga`, as far as it needs no console: the lock of declarations, and their rehearsal."""

import argparse
from typing import Any

from django.core.management import base

from sagas import locking, rehearsing

FUNCTIONS = ("lock", "rehearse")


class Command(base.BaseCommand):
    """Lock what is declared, and rehearse it with what happened. The console's command has more."""

    help = "Lock the declarations of sagas, and rehearse them with what happened."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The functions; those of the console have their own."""
        add_arguments(parser.add_subparsers(dest="function", required=True, metavar="COMMAND"))

    def execute(self, *args: Any, **options: Any) -> Any:
        """Do it. What a changed declaration is refused with is no reason to refuse to lock or rehearse it."""
        if options.get("function") in FUNCTIONS:
            options["skip_checks"] = True
        return super().execute(*args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        run(self, options)


def add_arguments(functions: Any) -> None:
    """The commands, for `manage.py saga`."""
    locking.add_arguments(functions)
    rehearsing.add_arguments(functions)


def run(command: base.BaseCommand, options: dict[str, Any]) -> None:
    """Carry out one of `FUNCTIONS`.

    Raises:
        CommandError: it is not possible, or what was asked is not so.
    """
    if options["function"] == "lock":
        locking.run(options, write=command.stdout.write)
    else:
        rehearsing.run(options, write=command.stdout.write)
