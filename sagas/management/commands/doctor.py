"""`manage.py doctor`: what hurts, what it does to sagas, and the line to change."""

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management import base

from sagas import doctor

HEADINGS = {doctor.Severity.ERROR: "ERROR", doctor.Severity.WARNING: "WARNING"}


class Command(base.BaseCommand):
    """Examine a running installation."""

    help = (
        "Examines a running installation: settings, database, broker, workers. Prints what hurts, what it"
        " does"
        " to sagas, and the line to change; then what is well. Exit code 1 if anything hurts. It changes"
        " nothing."
    )
    # It tells what they find, beside the rest.
    requires_system_checks = ()
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--json` for programs."""
        parser.add_argument("--json", action="store_true", help="the letter as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Examine, tell, and say by the exit code whether anything hurts."""
        letter = doctor.examine()
        if options["json"]:
            self.stdout.write(json.dumps(as_json(letter), indent=2))
        else:
            self._print(letter)
        if letter.findings:
            sys.exit(1)

    def _print(self, letter: doctor.Letter) -> None:
        for number, (title, finding) in enumerate(letter.findings, 1):
            grave = finding.severity is doctor.Severity.ERROR
            head = f"{number}. {HEADINGS[finding.severity]} {finding.id}  {title}"
            self.stdout.write(self.style.ERROR(head) if grave else self.style.WARNING(head))
            self.stdout.write(f"   {finding.what}")
            if finding.effect:
                self.stdout.write(f"   {finding.effect}")
            self.stdout.write(f"   -> {finding.change}\n\n")
        titles = list(dict.fromkeys(title for title, _ in letter.well))
        if titles:
            self.stdout.write("Well:")
        for title in titles:
            said = "; ".join(text for other, text in letter.well if other == title)
            self.stdout.write(f"   {title}: {said}.")
        if letter.left_out:
            self.stdout.write("Not examined:")
        for title, why in letter.left_out:
            self.stdout.write(f"   {title}: {why}.")
        count = len(letter.findings)
        self.stdout.write(f"{count} finding{'' if count == 1 else 's'}." if count else "Nothing hurts.")


def as_json(letter: doctor.Letter) -> dict[str, Any]:
    """The letter for programs: `findings`, `well` and `left_out`."""
    return {
        "findings": [
            {"examination": title, **asdict(finding), "severity": finding.severity.value}
            for title, finding in letter.findings
        ],
        "well": [{"examination": title, "what": text} for title, text in letter.well],
        "left_out": [{"examination": title, "why": why} for title, why in letter.left_out],
    }
