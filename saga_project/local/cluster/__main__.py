"""`make cluster`: a cluster on this machine, and orders in it while one host after the other fails.

Three RabbitMQ nodes, PostgreSQL with a synchronous standby, PgBouncer, two web hosts behind HAProxy, two
worker hosts, beat, and the sandbox: each host is a network namespace. Customers order over HTTP all the time,
and send again what was not answered. At the end the books are held against what the customers were told. The
exit code is 0 if nothing is lost, doubled or out of balance, and the API answered again in time after each
fault.
"""

import argparse
import json
import re
import sys

from saga_project.local import breaking, runfile
from saga_project.local.cluster import drill, faults, hosts, network, verdict

PAGE = runfile.ROOT / "docs" / "cluster.md"
KEPT = runfile.ROOT / "docs" / "drill.json"


def main() -> int:
    """Run it; the exit code."""
    options = _options()
    try:
        network.enter(["-m", "saga_project.local.cluster", *sys.argv[1:]])
    except network.NotPossible as reason:
        print(reason, file=sys.stderr)
        return 2
    plan = drill.Plan(
        seed=options.seed,
        minutes=options.minutes,
        faults=options.faults,
        per_second=options.per_second,
        shape=hosts.SMALL if options.small else hosts.WHOLE,
    )
    console = breaking.console()
    code, kept = drill.run(plan, options.run, console)
    if kept is not None:
        options.run.mkdir(exist_ok=True)
        (options.run / "drill.json").write_text(json.dumps(kept, indent=1) + "\n")
        console.print(f"The report: {options.run / 'drill.json'}", soft_wrap=True, highlight=False)
        if options.record:
            KEPT.write_text(json.dumps(kept, indent=1) + "\n")
            PAGE.write_text(written(PAGE.read_text(), kept))
    return code


def written(page: str, kept: drill.Json) -> str:
    """The page with the report's table in it."""
    table = f"<!-- drill -->\n`{kept['command']}`\n\n{verdict.markdown(drill.rows(kept))}<!-- /drill -->"
    return re.sub(r"<!-- drill -->.*<!-- /drill -->", lambda _: table, page, flags=re.DOTALL)


def _options() -> argparse.Namespace:
    plan = drill.Plan()
    parser = breaking.options("make cluster", __doc__, plan, drill.RUN)
    parser.add_argument(
        "--faults",
        type=breaking.faults_of(faults.FAULTS),
        default=plan.faults,
        help=f"which, one after the other, separated by commas: {', '.join(faults.FAULTS)}",
    )
    parser.add_argument(
        "--small", action="store_true", help="one broker and one worker host: starts sooner, proves less"
    )
    parser.add_argument(
        "--record", action="store_true", help="write docs/drill.json and the table of docs/cluster.md"
    )
    options = parser.parse_args()
    if options.small and "broker-cut-off" in options.faults:
        parser.error("--small has one broker, which nothing can be cut off from: name other --faults")
    return options


if __name__ == "__main__":
    sys.exit(main())
