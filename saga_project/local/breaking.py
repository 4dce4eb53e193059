"""What `make chaos` and `make cluster` have in common."""

import argparse
import os
import pathlib
import platform
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import httpx
import psycopg
import rich.console

from saga_project.local import ledger, supervisor

Json = dict[str, Any]

SETTLES_WITHIN_S = 240.0
"""What was wanted has ended so long after the last order, or counts as lost: what only a process knew that is
gone is found again by the sweep when its lease is over."""


class Plan(Protocol):
    """What both plans say."""

    @property
    def seed(self) -> int:
        """Of all chance."""

    @property
    def minutes(self) -> float:
        """How long orders are placed."""

    @property
    def per_second(self) -> float:
        """Orders."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Which may strike."""

    @property
    def command(self) -> str:
        """What repeats it."""


# --- The command line ------------------------------------------------------------------------


def options(prog: str, about: str | None, usual: Plan, run: pathlib.Path) -> argparse.ArgumentParser:
    """A parser with what both take, but for their faults.

    Args:
        prog: the command, as it is typed.
        about: what it does.
        usual: where the defaults are from.
        run: the usual directory of it all.
    """
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument(
        "--seed", type=int, default=usual.seed, help="who orders what, and what strikes when and where"
    )
    parser.add_argument("--minutes", type=positive, default=usual.minutes, help="how long orders are placed")
    parser.add_argument("--per-second", type=positive, default=usual.per_second, help="orders")
    parser.add_argument("--run", type=pathlib.Path, default=run, help="the directory of it all")
    return parser


def positive(text: str) -> float:
    """A number above 0, for argparse.

    Raises:
        ValueError: it is none.
    """
    number = float(text)
    if not 0 < number < 10_000:
        raise ValueError
    return number


def count(text: str) -> int:
    """A whole number above 0, for argparse.

    Raises:
        ValueError: it is none.
    """
    number = int(text)
    if not 0 < number < 1_000_000:
        raise ValueError
    return number


def faults_of(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """What reads the names of faults, separated by commas, for argparse; `none` is none of them."""

    def faults(text: str) -> tuple[str, ...]:
        if text.strip() == "none":
            return ()
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(
                f"there is no fault {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return names

    return faults


def console() -> rich.console.Console:
    """The terminal; or wide lines, for a file."""
    return rich.console.Console(width=None if sys.stdout.isatty() else 150)


# --- Its programs ----------------------------------------------------------------------------


def keeper(run: pathlib.Path, shown: rich.console.Console) -> supervisor.Supervisor | None:
    """Who starts the programs, and is told by signals to stop; None where another run is under way."""
    try:
        found = supervisor.Supervisor(run, choice=lambda _, __: None)
    except supervisor.Taken as taken:
        shown.print(taken)
        return None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, found.ask_to_stop)
    return found


# --- What became of it -----------------------------------------------------------------------


def have_settled(book: ledger.Ledger) -> bool:
    """Whether all that was wanted was seen to end, was refused, or was taken elsewhere."""
    return all(one.seen_ended_at or one.refused or one.turned_away for one in book.wanted)


def books(sandbox_url: str) -> Json:
    """What the providers have written down."""
    told: Json = httpx.get(f"{sandbox_url}/books", timeout=30, trust_env=False).json()
    return told


def versions(database: str) -> dict[str, int]:
    """How many sagas of each version of the order's declaration there are; JSON has text for keys."""
    with psycopg.connect(database) as link:
        found = link.execute(
            "SELECT version, count(*) FROM sagas_saga WHERE name = 'order-fulfilment'"
            " GROUP BY version ORDER BY version"
        ).fetchall()
    return {str(version): count for version, count in found}


def figures(plan: Plan, book: ledger.Ledger, of_versions: Json) -> Json:
    """What the reports of both say of a run."""
    return {
        "command": plan.command,
        "seed": plan.seed,
        "minutes": plan.minutes,
        "orders_per_second": plan.per_second,
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "orders": len(book.wanted),
        "requests": len(book.requests),
        "failed_requests": sum(1 for request in book.requests if request.failure),
        "orders_sent_more_than_once": sum(1 for one in book.wanted if one.requests > 1),
        "sagas_by_version": of_versions,
    }
