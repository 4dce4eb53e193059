"""`make bench`: ask a question, and write the answer to docs/benchmarks.md and, for programs, beside it."""

import argparse
import signal
import sys

from benchmarks import backlog, console, guarantees, history, idle, kill, orders, poison, web
from benchmarks.peers import compare


def main() -> None:
    """Ask what the guarantees cost, or another question that is named."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the answer into docs/")
    questions = parser.add_subparsers(dest="question", metavar="QUESTION")
    costs = questions.add_parser("guarantees", help="what the guarantees cost (asked when none is named)")
    whole = questions.add_parser("full", help="the same, and half load, recovery and memory")
    for known in (parser, costs, whole):
        known.add_argument("--rounds", type=int, default=3, help="interleaved, per workload (default 3)")
        known.add_argument("--orders", type=int, default=200, help="orders per run (default 200)")
        known.add_argument("--lane", choices=["on", "off"], help="the engine's fast lane (default: its own)")
    shop = questions.add_parser("orders", help="real orders through HTTP and the sandbox's providers")
    shop.add_argument("--rounds", type=int, default=3, help="interleaved, of every system (default 3)")
    shop.add_argument("--orders", type=int, default=100, help="orders per run (default 100)")
    shop.add_argument("--requests", type=int, default=200, help="per number of clients (default 200)")
    shop.add_argument(
        "--followers", type=int, default=0, help="streams to open in one process (default none)"
    )
    dying = questions.add_parser("kill", help="what becomes of sagas under way when workers are killed")
    dying.add_argument("--sagas", type=int, default=500, help="under way (default 500)")
    dying.add_argument("--kills", type=int, default=5, help="of a main process or a child (default 5)")
    dying.add_argument("--seed", type=int, help="repeats a run's choices (default: a new one)")
    dying.add_argument("--system", choices=["ours", "floor", "plain"], default="ours", help="(default ours)")
    others = questions.add_parser("peers", help="what others cost on the same work; they are installed first")
    others.add_argument("--rounds", type=int, default=3, help="interleaved, per workload (default 3)")
    others.add_argument("--orders", type=int, default=200, help="orders per run (default 200)")
    others.add_argument("--only", nargs="+", help="some of them, by name")
    pages = questions.add_parser("console", help="whether the console stays quick however much has ended")
    pages.add_argument("--sagas", type=int, default=1_000_000, help="how many have ended (default a million)")
    past = questions.add_parser(
        "history", help="whether anything is slower for what has ended and was archived"
    )
    past.add_argument("--live", type=int, default=100_000, help="that ended lately (default 100 000)")
    past.add_argument("--archived", type=int, default=1_000_000, help="in the archive (default a million)")
    rest = questions.add_parser("idle", help="what a stack without orders costs PostgreSQL in an hour")
    rest.add_argument("--seconds", type=int, default=120, help="how long to count (default 120)")
    bad = questions.add_parser("poison", help="how long good orders wait beside poisoned ones and an outage")
    bad.add_argument("--seeds", type=int, default=20, help="campaigns per share (default 20)")
    bad.add_argument("--orders", type=int, default=60, help="orders per campaign (default 60)")
    bad.add_argument(
        "--shares",
        type=float,
        nargs="+",
        default=[0.04, 0.2, 0.5],
        help="that are poisoned (default .04 .2 .5)",
    )
    served = questions.add_parser("web", help="how many a web process can serve, and who can stop it")
    served.add_argument("--rounds", type=int, default=3, help="of every server (default 3)")
    served.add_argument("--requests", type=int, default=800, help="of each kind, in a round (default 800)")
    served.add_argument(
        "--connections", type=int, default=1000, help="half-sent requests, and then streams (default 1000)"
    )
    behind = questions.add_parser("backlog", help="how long live orders wait beside thousands that are due")
    behind.add_argument("--due", type=int, default=10_000, help="how many are due (default 10000)")
    behind.add_argument(
        "--share", type=float, default=1 / 3, help="live orders, of the workers' rate (default .33)"
    )
    behind.add_argument("--seconds", type=int, default=20, help="of live orders alone (default 20)")
    options = parser.parse_args()
    if options.question == "backlog":
        backlog.run(due=options.due, share=options.share, seconds=options.seconds, write=options.write)
    elif options.question == "idle":
        idle.run(seconds=options.seconds, write=options.write)
    elif options.question == "poison":
        poison.run(seeds=options.seeds, orders=options.orders, shares=options.shares, write=options.write)
    elif options.question == "history":
        history.run(live=options.live, archived=options.archived, write=options.write)
    elif options.question == "console":
        console.run(sagas=options.sagas, write=options.write)
    elif options.question == "web":
        web.run(
            rounds=options.rounds,
            requests=options.requests,
            connections=options.connections,
            write=options.write,
        )
    elif options.question == "orders":
        orders.run(
            rounds=options.rounds,
            orders=options.orders,
            requests=options.requests,
            followers=options.followers,
            write=options.write,
        )
    elif options.question == "kill":
        kill.run(
            sagas=options.sagas,
            kills=options.kills,
            seed=options.seed,
            name=options.system,
            write=options.write,
        )
    elif options.question == "peers":
        compare.run(rounds=options.rounds, orders=options.orders, only=options.only, write=options.write)
    else:
        guarantees.run(
            rounds=options.rounds,
            orders=options.orders,
            write=options.write,
            full=options.question == "full",
            lane=options.lane,
        )


# Whoever ends us has all that we started ended, as Ctrl-C has.
for _number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, lambda *_: sys.exit(1))
try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
