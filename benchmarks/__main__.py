"""`make bench`: ask every question, and write the answers to docs/benchmarks.md and .json."""

import argparse

from benchmarks import guarantees


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved pairs per workload (default 5)")
    parser.add_argument("--orders", type=int, default=300, help="orders per run (default 300)")
    parser.add_argument(
        "--write", action="store_true", help="write docs/benchmarks.md and docs/benchmarks.json"
    )
    options = parser.parse_args()
    guarantees.run(rounds=options.rounds, orders=options.orders, write=options.write)


main()
