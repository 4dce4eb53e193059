"""`make chaos`: orders over HTTP while a nemesis breaks everything, and every rule with its count at the end.

The local stack on servers and ports of its own, with every link between two parts led through a proxy.
Customers order at a steady pace, and send again what was not answered under the same key. From a seed
processes are killed and stopped, sessions ended, messages lost and doubled, links cut, providers and disks
fail, clocks jump, and a new release rolls out. The exit code is 0 if every rule holds.
"""

import argparse
import contextlib
import json
import pathlib
import sys

import rich.console

from saga_project.local import runfile
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
    )
    console = rich.console.Console(width=None if sys.stdout.isatty() else 150)
    code, kept = campaign.run(wanted, options.run, console)
    if kept is not None:
        (options.run / "chaos.json").write_text(json.dumps(kept, indent=1) + "\n")
        report.write(options.run / "report.html", kept)
        console.print(f"The report: {options.run / 'report.html'}", soft_wrap=True, highlight=False)
        if options.record:
            KEPT.write_text(json.dumps(report.figures(kept), indent=1) + "\n")
            PAGE.write_text(report.written(PAGE.read_text(), report.figures(kept)))
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    usual = campaign.Plan()
    parser.add_argument(
        "--seed", type=int, default=usual.seed, help="who orders what, and what strikes when and where"
    )
    parser.add_argument("--minutes", type=_positive, default=usual.minutes, help="how long orders are placed")
    parser.add_argument("--per-second", type=_positive, default=usual.per_second, help="orders")
    parser.add_argument(
        "--every", type=_positive, default=usual.every_s, help="one fault in so many seconds, on average"
    )
    parser.add_argument(
        "--quiet-within",
        type=_positive,
        default=usual.quiet_within_s,
        help="every order has ended so many seconds after the last fault",
    )
    parser.add_argument(
        "--faults",
        type=_faults,
        default=usual.faults,
        help=f"which, separated by commas: {', '.join(faults.FAULTS)}",
    )
    parser.add_argument("--run", type=pathlib.Path, default=campaign.RUN, help="the directory of it all")
    parser.add_argument(
        "--record", action="store_true", help="write docs/chaos.json and the figures of docs/guarantees.md"
    )
    return parser.parse_args()


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 10_000:
        raise ValueError
    return number


def _faults(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in names if name not in faults.FAULTS]:
        raise argparse.ArgumentTypeError(
            f"there is no fault {', '.join(unknown)}; there are {', '.join(faults.FAULTS)}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())
