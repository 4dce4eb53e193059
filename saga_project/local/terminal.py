"""What the terminal of `make up` shows of the programs' logs: how orders fare, and what went wrong.

The files under `.run/log` have every line; `make up ARGS=--verbose` shows them here, too.
"""

import json
import re
from typing import NamedTuple

ORDERS = "orders.outcome"
"""The logger that has a line for each order that ends, or needs a person."""

LINE = re.compile(r"\d\S+ \S+ (?P<level>[A-Z]+) (?P<logger>\S+) \[[^\]]*\] (?P<text>.*)")
"""As settings.LOGGING writes it for people; what does not begin so belongs to the line before."""

SERIOUS = frozenset({"WARNING", "ERROR", "CRITICAL"})

TOLD_AS_AN_ORDER = re.compile(r"saga \S+ \(order-fulfilment\) needs attention: ")
"""The engine's line of a saga that needs a person, where ORDERS has one with the order's number."""

NO_ALARM = frozenset({"django.request", "flower.inspector"})
"""Loggers whose warnings are none here: of each request that is refused, whose sender was told why; and of
workers that do not answer Flower yet, because they start beside it."""


class Record(NamedTuple):
    """What a line says that begins a record."""

    level: str
    logger: str
    text: str


def read(line: str) -> Record | None:
    """The record that a line begins, in whichever `LOG_FORMAT`; None where it belongs to the one before."""
    if found := LINE.match(line):
        return Record(**found.groupdict())
    if not line.startswith('{"time": '):
        return None
    told = json.loads(line)
    return Record(
        told["level"], told["logger"], "\n".join([told["message"], *told.get("error", "").splitlines()])
    )


class Choice:
    """Chooses line by line; what follows a line that was chosen, such as a traceback, is chosen with it."""

    def __init__(self) -> None:
        self._goes_on: set[str] = set()
        """The programs whose last line was shown."""

    def __call__(self, program: str, line: str) -> tuple[str, str] | None:
        """Whose name stands before the line, and how it reads; None where only the file has it."""
        found = read(line)
        if found is None:
            return (program, line) if program in self._goes_on else None
        self._goes_on.discard(program)
        if found.logger == ORDERS:
            return "orders", found.text
        if found.level not in SERIOUS or (found.logger in NO_ALARM and found.level == "WARNING"):
            return None
        if found.logger == "sagas" and TOLD_AS_AN_ORDER.match(found.text):
            return None
        self._goes_on.add(program)
        return program, f"{found.level} {found.text}"
