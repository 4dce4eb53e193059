"""`manage.py audit`: does everything add up?"""

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

import httpx
from django.core.management import base

from orders import audit


class Command(base.BaseCommand):
    """Compare orders, sagas, money, stock, invoices, shipments and the providers' books."""

    help = (
        "Compares orders, sagas, payments, stock, invoices, shipments and the providers' books; prints each"
        " discrepancy with its order. Exit code 1 if there is any. Safe on a live system."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--json` for programs."""
        parser.add_argument("--json", action="store_true", help="the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Audit, print, and say by the exit code whether all is well."""
        try:
            report = audit.run()
        except httpx.HTTPError as error:
            raise base.CommandError(f"The providers' books cannot be read at SANDBOX_URL: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(asdict(report), indent=2))
        else:
            self._print(report)
        if report.discrepancies:
            sys.exit(1)

    def _print(self, report: audit.Report) -> None:
        for discrepancy in report.discrepancies:
            self.stdout.write(self.style.ERROR(str(discrepancy)))
        for discrepancy in report.answered:
            self.stdout.write(str(discrepancy))
        books = (
            "compared with one another and with the providers' books"
            if report.books
            else "compared with one another (SANDBOX_URL unset: not with the providers' books)"
        )
        count = len(report.discrepancies)
        verdict = f"{count} discrepanc{'y' if count == 1 else 'ies'}" if count else "everything adds up"
        if report.answered:
            verdict += f", but for {len(report.answered)} that an operator answers for"
        ended = f"{report.ended} ended order{'' if report.ended == 1 else 's'}"
        self.stdout.write(f"{ended} {books}, {report.live} still open: {verdict}.")
