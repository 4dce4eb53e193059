"""`manage.py saga watch`: one saga as it goes on, until it has ended or needs a person."""

import datetime
import itertools
import os
import re
import shutil
import textwrap
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.core.management import base
from django.utils import timezone

from sagas import models
from sagas.console import formatting, history, panels, summary
from sagas.declaration.states import SagaState

PAUSE_S = 0.5
"""Between two looks; each is what the saga's page costs."""

EXIT_CODES = {
    "completed": 0,
    "compensated": 4,
    "needs_attention": 5,
    "put aside": 6,
    "under way": 124,
}
"""What the command ends with. Below 4 others mean something already: 1 an error, 2 a wrong argument, 3 that
an intervention waits for a second person. 124 is what `timeout` says."""

GREEN, YELLOW, RED, MAGENTA, BLUE, CYAN = 32, 33, 31, 35, 34, 36

STATES = {
    "done": GREEN,
    "completed": GREEN,
    "undone": YELLOW,
    "undoing": YELLOW,
    "compensating": YELLOW,
    "compensated": YELLOW,
    "failed": RED,
    "undo_failed": RED,
    "needs_attention": MAGENTA,
    "unknown": MAGENTA,
    "waiting": BLUE,
    "running": CYAN,
}

MARKS = {"█": GREEN, "▒": YELLOW, "▓": RED, "?": MAGENTA, ".": BLUE, ">": CYAN}
"""The bars of the timeline by what they are drawn with."""

_STEP = re.compile(r"(?P<name>.{24} )(?P<state>\S+)(?P<tries> *\S* )\|(?P<bar>[^|]*)(?P<rest>.*)")
"""A line of the timeline; in a narrow window its end is cut off."""

Draw = Callable[[history.History], Iterable[str]]


def add_arguments(functions: Any, which: str) -> None:
    """The command, for `manage.py saga`; `which` says how a saga is named there."""
    codes = ", ".join(f"{code} {state}" for state, code in EXIT_CODES.items())
    watching = functions.add_parser(
        "watch",
        help="follow one until it has ended or needs a person",
        epilog=f"It exits with {codes}.",
    )
    watching.add_argument("saga", help=which)
    watching.add_argument("--seconds", type=float, help="for so long at most")


def run(saga_id: uuid.UUID, options: Mapping[str, Any], *, out: base.OutputWrapper, draw: Draw) -> int:
    """Show the saga until it has ended, was put aside or needs a person; or the time is over.

    On a terminal one picture is kept up to date: what happened, what comes next, and the timeline. Elsewhere
    each event is a line. Colours are for terminals, and not where NO_COLOR is set.

    Args:
        saga_id: of the saga.
        options: `seconds`, as the command has it.
        out: where it is shown.
        draw: the timeline of a saga, line by line.

    Returns:
        The exit code, which says how the saga stands.

    Raises:
        NotFound: there is no such saga.
    """
    on_terminal = out.isatty()
    screen = _Screen(out) if on_terminal else None
    until = None if options["seconds"] is None else time.monotonic() + options["seconds"]
    shown = 0
    while True:
        record = history.read(saga_id)
        if screen is not None:
            screen.show(_picture(record, draw, screen.width))
        else:
            if not shown:
                out.write(f"{_head(record)}\n")
            out.writelines(f"{_event(event)}\n" for event in record.events[shown:])
            out.flush()
            shown = len(record.events)
        outcome = _outcome(record)
        if outcome != "under way" or (until is not None and time.monotonic() > until):
            if screen is None:
                out.write(f"{summary.of(record).what}\n")
            return EXIT_CODES[outcome]
        time.sleep(PAUSE_S)


def _outcome(record: history.History) -> str:
    saga = record.saga
    if saga.closed_at is not None:
        return "put aside"
    return saga.state if saga.is_final or saga.state == SagaState.NEEDS_ATTENTION else "under way"


def _head(record: history.History) -> str:
    saga = record.saga
    subject = panels.describe([saga]).get(saga.pk)
    number = subject.number if subject is not None and subject.number else saga.key
    return f"{number}  {saga.name} v{saga.version}  {saga.pk}"


def _picture(record: history.History, draw: Draw, width: int) -> list[str]:
    said = summary.of(record)
    held = "held, " if record.saga.held_at else ""
    state = "put aside" if record.saga.closed_at else held + record.saga.state
    return [
        _head(record),
        f"{state}, {formatting.length(_whole_seconds(record))}",
        "",
        *textwrap.wrap(said.what, width),
        *textwrap.wrap(f"Next: {said.next}", width),
        "",
        *draw(record),
    ]


def _whole_seconds(record: history.History) -> datetime.timedelta:
    """Its age; while it goes on, without the fractions that would flicker."""
    return record.age if not record.live else datetime.timedelta(seconds=int(record.age.total_seconds()))


def _event(event: models.Event) -> str:
    at = timezone.localtime(event.at).strftime("%H:%M:%S.%f")[:-3]
    change = f"{event.from_state} -> {event.to_state}" if event.to_state else ""
    by = "" if event.actor == "engine" else f"by {event.actor}"
    return f"{at}  {event.kind:20} {event.subject:16} {change:28} {by}".rstrip()


class _Screen:
    """One picture at the end of a terminal, drawn over the last one."""

    def __init__(self, out: base.OutputWrapper) -> None:
        self._out = out
        self._colourful = "NO_COLOR" not in os.environ
        self._last: list[str] = []

    @property
    def width(self) -> int:
        """Of the window, less the place of the cursor."""
        return shutil.get_terminal_size().columns - 1

    def show(self, lines: Sequence[str]) -> None:
        lines_at_most = shutil.get_terminal_size().lines - 1
        # A line that wraps, or a picture higher than the window, would be drawn over in the wrong place.
        lines = [line[: self.width] for line in lines][:lines_at_most]
        if lines == self._last:
            return
        up = f"\x1b[{len(self._last)}F\x1b[J" if self._last else ""
        self._last = list(lines)
        self._out.write(up + "".join(f"{coloured(line) if self._colourful else line}\n" for line in lines))
        self._out.flush()


def coloured(line: str) -> str:
    """A line of the picture, with its states and its bars in colours."""
    step = _STEP.fullmatch(line)
    if step is None:
        state = re.match(r"(?:held, )?(\w+)(?=, )", line)
        return line if state is None else _paint(state[0], STATES.get(state[1])) + line[state.end() :]
    marks = MARKS | ({"█": YELLOW} if step["name"].startswith("  undo ") else {})
    bar = "".join(_paint("".join(run), marks.get(mark)) for mark, run in itertools.groupby(step["bar"]))
    painted = _paint(step["state"], STATES.get(step["state"]))
    return f"{step['name']}{painted}{step['tries']}|{bar}{step['rest']}"


def _paint(text: str, colour: int | None) -> str:
    return text if colour is None else f"\x1b[{colour}m{text}\x1b[0m"
