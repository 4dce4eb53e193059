"""`make explore`: every way through the shapes, and what was seen. The first broken rule ends it."""

import argparse
import decimal
import math
import os

import django

from tests.support import servers


def _faults(text):
    return math.inf if text == "any" else int(text)


def main():
    os.environ |= {**servers.NO_SERVERS, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    django.setup()
    from tests.sagas.explorer import search, shapes  # They need Django's settings.

    parser = argparse.ArgumentParser(
        prog='make explore ARGS="..."', description="Goes every way through small sagas."
    )
    parser.add_argument(
        "--faults", type=_faults, metavar="N",
        help="faults, and interventions that nobody called for, in a run: a number, or `any`;"
        " by default as many as are gone through in minutes",
    )  # fmt: skip
    parser.add_argument(
        "shapes", nargs="*", metavar="SHAPE", help=f"by default all of them: {', '.join(shapes.SHAPES)}"
    )
    chosen = parser.parse_args()
    print(f"{'Shape':24} {'Faults':>6} {'States':>9} {'Moves':>10} {'Runs':>9} {'Seconds':>8}  Ends")
    states = moves = runs = seconds = 0
    for name in chosen.shapes or shapes.SHAPES:
        faults = shapes.LONG[name] if chosen.faults is None else chosen.faults
        found = search.explore(shapes.SHAPES[name], faults)
        ends = ", ".join(f"{state} {count:,}" for state, count in sorted(found.ends.items()))
        bound = "any" if faults == math.inf else faults
        print(_line(name, bound, found.nodes, found.moves, found.runs, found.seconds), ends, flush=True)
        states, moves, runs = states + found.nodes, moves + found.moves, runs + found.runs
        seconds += found.seconds
    print(_line("All", "", states, moves, runs, seconds))


def _line(name, bound, states, moves, runs, seconds):
    told = f"{runs:,}" if runs < 10**6 else f"{decimal.Decimal(runs):.1e}"
    return f"{name:24} {bound:>6} {states:9,} {moves:10,} {told:>9} {seconds:8.1f} "


if __name__ == "__main__":
    main()
