"""`make bench`: ask a question, and write the answer to docs/benchmarks.md and, for programs, beside it."""

import argparse
import dataclasses
import functools
import signal
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import (
    backlog,
    capacity,
    charts,
    children,
    console,
    guarantees,
    history,
    idle,
    kill,
    orders,
    poison,
    stages,
    web,
)
from benchmarks.peers import compare


@dataclasses.dataclass(frozen=True)
class Question:
    """One that can be asked."""

    help: str
    ask: Callable[..., None]
    """It takes `write`, and each of the arguments by its name."""

    arguments: dict[str, dict[str, Any]]
    """By name, each as argparse takes it."""


def _many(default: int, help: str) -> dict[str, Any]:
    return {"type": int, "default": default, "help": f"{help} (default {default})"}


COSTS = {
    "rounds": _many(3, "interleaved, per workload"),
    "orders": _many(200, "orders per run"),
    "lane": {"choices": ["on", "off"], "help": "the engine's fast lane (default: its own)"},
}

UNNAMED = "guarantees"
"""What is asked when no question is named."""

QUESTIONS = {
    "guarantees": Question(
        "what the guarantees cost (asked when none is named)",
        guarantees.run,
        COSTS,
    ),
    "full": Question(
        "the same, and half load, recovery and memory",
        functools.partial(guarantees.run, full=True),
        COSTS,
    ),
    "orders": Question(
        "real orders through HTTP and the sandbox's providers",
        orders.run,
        {
            "rounds": _many(3, "interleaved, of every system"),
            "orders": _many(100, "orders per run"),
            "requests": _many(200, "per number of clients"),
            "followers": _many(0, "streams to open in one process"),
        },
    ),
    "kill": Question(
        "what becomes of sagas under way when workers are killed",
        kill.run,
        {
            "sagas": _many(500, "under way"),
            "kills": _many(5, "of a main process or a child"),
            "seed": {"type": int, "help": "repeats a run's choices (default: a new one)"},
            "system": {
                "choices": ["ours", "floor", "plain"],
                "default": "ours",
                "help": "(default ours)",
            },
        },
    ),
    "peers": Question(
        "what others cost on the same work; they are installed first",
        compare.run,
        {
            "rounds": _many(3, "interleaved, per workload"),
            "orders": _many(200, "orders per run"),
            "only": {"nargs": "+", "help": "some of them, by name"},
        },
    ),
    "console": Question(
        "whether the console stays quick however much has ended",
        console.run,
        {"sagas": _many(1_000_000, "how many have ended")},
    ),
    "history": Question(
        "whether anything is slower for what has ended and was archived",
        history.run,
        {"live": _many(100_000, "that ended lately"), "archived": _many(1_000_000, "in the archive")},
    ),
    "capacity": Question(
        "what one PostgreSQL carries, and what a hundred million sagas a day would need",
        capacity.run,
        {"rounds": _many(5, "the medians count"), "orders": _many(400, "sagas per round")},
    ),
    "idle": Question(
        "what a stack without orders costs PostgreSQL in an hour",
        idle.run,
        {"seconds": _many(120, "how long to count")},
    ),
    "poison": Question(
        "how long good orders wait beside poisoned ones and an outage",
        poison.run,
        {
            "seeds": _many(20, "campaigns per share"),
            "orders": _many(60, "orders per campaign"),
            "shares": {
                "type": float,
                "nargs": "+",
                "default": [0.04, 0.2, 0.5],
                "help": "that are poisoned (default .04 .2 .5)",
            },
        },
    ),
    "web": Question(
        "how many a web process can serve, and who can stop it",
        web.run,
        {
            "rounds": _many(3, "of every server"),
            "requests": _many(800, "of each kind, in a round"),
            "connections": _many(1000, "half-sent requests, and then streams"),
        },
    ),
    "stages": Question(
        "whether steps at once take little more than the time of one",
        stages.run,
        {"rounds": _many(10, "of each")},
    ),
    "children": Question(
        "whether a child that ends costs as much however many siblings it has",
        children.run,
        {
            "counts": {"type": int, "nargs": "+", "default": [100, 1_000], "help": "(default 100 1000)"},
            "limit": _many(8, "how many run at once, where not all do"),
        },
    ),
    "backlog": Question(
        "how long live orders wait beside thousands that are due",
        backlog.run,
        {
            "due": _many(10_000, "how many are due"),
            "share": {
                "type": float,
                "default": 1 / 3,
                "help": "live orders, of the workers' rate (default .33)",
            },
            "seconds": _many(20, "of live orders alone"),
        },
    ),
}


def main() -> None:
    """Ask what the guarantees cost, or another question that is named."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the answer into docs/")
    _let_ask(parser, QUESTIONS[UNNAMED])
    parsers = parser.add_subparsers(dest="question", metavar="QUESTION")
    for name, question in QUESTIONS.items():
        _let_ask(parsers.add_parser(name, help=question.help), question)
    options = parser.parse_args()
    asked = QUESTIONS[options.question or UNNAMED]
    asked.ask(write=options.write, **{name: getattr(options, name) for name in asked.arguments})
    if options.write:
        charts.write()


def _let_ask(parser: argparse.ArgumentParser, question: Question) -> None:
    for name, argument in question.arguments.items():
        parser.add_argument(f"--{name}", **argument)


# Whoever ends us has all that we started ended, as Ctrl-C has.
for _number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, lambda *_: sys.exit(1))
try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
