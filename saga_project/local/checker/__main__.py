"""`python -m saga_project.local.checker HISTORY DATABASE PROVIDERS [--json]`: 1 if any rule is broken."""

import argparse
import pathlib
import sys

import psycopg

from saga_project.local.checker import report


def main() -> int:
    """Check, print every rule with its count, and say by the exit code whether all of them hold."""
    parser = argparse.ArgumentParser(prog="python -m saga_project.local.checker", description=__doc__)
    parser.add_argument("history", type=pathlib.Path, help="what the clients were told, as JSON lines")
    parser.add_argument("database", help="connection string, such as the stack's DATABASE_URL")
    parser.add_argument("providers", type=pathlib.Path, help="directory with the providers' books.json")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    options = parser.parse_args()
    try:
        found = report.check(options.history, options.database, options.providers)
    except (OSError, ValueError, psycopg.Error) as wrong:
        print(f"Not checked: {wrong}", file=sys.stderr)
        return 2
    print(report.dump(found) if options.json else found)
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
