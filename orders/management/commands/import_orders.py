"""`manage.py import_orders`: places orders from a file."""

import itertools
import pathlib
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import base

from orders import importing
from sagas import errors

LOOK_AGAIN_S = 1.0
"""So long the import waits before it tries again, while no more orders are taken."""

SAY_AGAIN_S = 60.0
"""So often it says that it still waits."""


class Command(base.BaseCommand):
    """Place the orders of a file, batch by batch; to begin again doubles nothing."""

    help = (
        "Places the orders of a .jsonl or .csv file, each held to the rules of the REST API. Every line has a"
        " `key`: one that was placed before is not placed again, so an import that was cut off is simply"
        " begun again. A line that is wrong is named with its number and keeps no other from being placed;"
        " exit code 1 if there is any. docs/operations.md says what a line looks like."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """A file and whose orders they are."""
        parser.add_argument("file", type=pathlib.Path)
        parser.add_argument("--owner", required=True, help="the user who orders")
        parser.add_argument(
            "--batch", type=int, default=200, help="how many in a transaction (default 200)", metavar="N"
        )
        parser.add_argument("--check", action="store_true", help="only say what is wrong; place nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Place them, and say what became of each that is wrong."""
        owner = get_user_model().objects.filter(username=options["owner"]).first()
        if owner is None:
            raise base.CommandError(f"There is no user {options['owner']!r}.")
        if options["batch"] < 1:
            raise base.CommandError("--batch must be 1 or more.")
        report = importing.Report()
        told = 0
        try:
            lines = importing.read(options["file"])
            while batch := list(itertools.islice(lines, options["batch"])):
                self._place(batch, owner=owner, report=report, check=options["check"])
                told = self._tell(report, told)
        except importing.BadFile as error:
            self._sum_up(report, check=options["check"])
            raise base.CommandError(str(error)) from error
        self._sum_up(report, check=options["check"])
        if report.wrong:
            sys.exit(1)

    def _place(self, batch: list[importing.Line], **how: Any) -> None:
        """Place a batch; where so many orders wait that no more are taken, as soon as they are again."""
        waited_s = 0.0
        while True:
            try:
                return importing.place(batch, **how)
            except errors.LineFull as full:
                if waited_s % SAY_AGAIN_S == 0:
                    self.stderr.write(f"It waits, from line {batch[0].number} on: {full}")
                time.sleep(LOOK_AGAIN_S)
                waited_s += LOOK_AGAIN_S

    def _tell(self, report: importing.Report, told: int) -> int:
        """Say what is wrong with those that were not told of yet."""
        for line in sorted(report.wrong[told:], key=lambda line: line.number):
            for fault in line.faults:
                self.stderr.write(self.style.ERROR(f"line {line.number}: {fault}"))
        return len(report.wrong)

    def _sum_up(self, report: importing.Report, *, check: bool) -> None:
        placed = "would be placed" if check else "placed"
        self.stdout.write(
            f"{report.placed} {placed}, {report.repeated} placed before, {len(report.wrong)} wrong."
        )
