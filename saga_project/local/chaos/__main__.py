"""`make chaos`: orders over HTTP while a nemesis breaks everything, and every rule with its count at the end.

The local stack on servers and ports of its own, with every link between two parts led through a proxy.
Customers order at a steady pace, and send again what was not answered under the same key. From a seed
processes are killed and stopped, sessions ended, messages lost and doubled, links cut, providers and disks
fail, clocks jump, and a new release rolls out. The exit code is 0 if every rule holds.
"""

import argparse
import contextlib
import json
import sys

from saga_project.local import breaking, load, maimed, runfile
from saga_project.local.chaos import campaign, disks, faults, report

KEPT = runfile.ROOT / "docs" / "chaos.json"
PAGE = runfile.ROOT / "docs" / "guarantees.md"


def main() -> int:
    """Run it; the exit code."""
    options = _options()
    with contextlib.suppress(disks.NotPossible):  # The campaign says what it leaves out.
        disks.enter(["-m", "saga_project.local.chaos", *sys.argv[1:]])
    wanted = campaign.Plan(
        seed=options.seed,
        minutes=options.minutes,
        per_second=options.per_second,
        every_s=options.every,
        faults=options.faults,
        quiet_within_s=options.quiet_within,
        longest_line=options.longest_line,
        without=options.without,
    )
    console = breaking.console()
    code, kept = campaign.run(wanted, options.run, console)
    if kept is not None:
        (options.run / "chaos.json").write_text(json.dumps(kept, indent=1) + "\n")
        report.write(options.run / "report.html", kept)
        console.print(f"The report: {options.run / 'report.html'}", soft_wrap=True, highlight=False)
        if options.record:
            recorded = json.loads(KEPT.read_text()) | {options.record: report.figures(kept)}
            KEPT.write_text(json.dumps(recorded, indent=1) + "\n")
            PAGE.write_text(report.written(PAGE.read_text(), recorded))
    return code


def _options() -> argparse.Namespace:
    usual = campaign.Plan()
    parser = breaking.options("make chaos", __doc__, usual, campaign.RUN)
    parser.add_argument(
        "--every",
        type=breaking.positive,
        default=usual.every_s,
        help="one fault in so many seconds, on average",
    )
    parser.add_argument(
        "--quiet-within",
        type=breaking.positive,
        default=usual.quiet_within_s,
        help="every order has ended so many seconds after the last fault",
    )
    parser.add_argument(
        "--longest-line",
        type=breaking.count,
        default=usual.longest_line,
        help="with so many orders in a line the shop takes no more, and customers who would wait for longer"
        f" than {load.PATIENT_FOR_S:g} s go elsewhere; by default it takes them all",
    )
    parser.add_argument(
        "--faults",
        type=breaking.faults_of(faults.FAULTS),
        default=usual.faults,
        help=f"which, separated by commas: {', '.join(faults.FAULTS)}",
    )
    parser.add_argument(
        "--without",
        choices=maimed.IN_A_CAMPAIGN,
        default=usual.without,
        help="take a safeguard away: a negative control, which must fail",
    )
    parser.add_argument(
        "--record",
        choices=report.COLUMNS,
        metavar="NAME",
        help=f"write docs/chaos.json and a column of docs/guarantees.md: {', '.join(report.COLUMNS)}",
    )
    options = parser.parse_args()
    control = f"without-{options.without}"
    is_control = bool(options.without) or (options.record or "").startswith("without-")
    if options.record and is_control and options.record != control:
        parser.error(f"--record {options.record} and --without {options.without or 'nothing'} differ")
    return options


if __name__ == "__main__":
    sys.exit(main())
