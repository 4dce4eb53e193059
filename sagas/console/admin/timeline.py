"""Where things go in the picture of a saga's time: attempts and waits as bars, events as marks above them.

It is plain SVG, drawn by the server. Places along the time are percentages, so that the picture fits a
telephone as it fits a desk; nothing has a style of its own, so that the strict policy holds.
"""

import dataclasses
import datetime
import math
from collections.abc import Sequence

from django.utils.translation import gettext as _

from sagas.console import event_names, families, formatting, history, marks, translation
from sagas.engine.kinds import EventKind

IDLE_SHARE = 0.4
"""All stretches in which nobody works have no more than this share of the picture together, a long one more
of it than a short one, however long they were."""

LONGEST_SHARE = 2.0
"""An attempt, such as one whose worker vanished, is drawn no longer than so many times all the other work."""

LABEL_SHARE, LABEL_HEIGHT = 24.0, 14
"""Percent of the width that the label of a gap takes on a telephone, and pixels from one line to the next:
labels that would collide stand in several lines."""

ROW_HEIGHT = 40
TOP = 34
"""Pixels: the height of a row, and of the row of marks above them."""

MARK_SHARE, MARK_WIDTH = 4.0, 13
"""Percent of the width that a mark takes on a telephone, and pixels: marks that are nearer to each other
stand side by side, each with its line where it belongs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
    """One attempt or wait."""

    x: float
    width: float
    y: int
    outcome: str
    undo: bool
    waits: bool
    title: str
    glyph: str
    glyph_x: float
    inside: bool
    """Whether its mark stands inside, for lack of space beside it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the timeline."""

    y: int
    name: str
    undo: bool
    note: str
    """How many of the children of the step are done, or undone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened at one moment."""

    x: float
    kind: str
    glyph: str
    title: str
    dx: int = 0
    """By so many pixels it stands beside its line, where another mark has that place."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gap:
    """A stretch in which nothing happened, drawn shorter than it was."""

    x: float
    width: float
    label: str
    label_y: int = 0
    """Where its label stands: in lines, where several would collide."""

    @property
    def anchor(self) -> str:
        """Towards which side its label goes on, so that none sticks out at an edge."""
        middle = self.x + self.width / 2
        return "start" if middle < LABEL_SHARE / 2 else "end" if middle > 100 - LABEL_SHARE / 2 else "middle"

    @property
    def label_x(self) -> float:
        """Where its label is fastened, in percent."""
        return {"start": self.x, "middle": self.x + self.width / 2, "end": self.x + self.width}[self.anchor]

    @property
    def label_from(self) -> float:
        """Where its label begins on a telephone, in percent."""
        back = {"start": 0.0, "middle": LABEL_SHARE / 2, "end": LABEL_SHARE}[self.anchor]
        return self.label_x - back


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timeline:
    """The whole picture."""

    height: int
    plot: int
    """Of that, what lies above the labels of the gaps."""

    rows: list[Row]
    bars: list[Bar]
    marks: list[Mark]
    gaps: list[Gap]
    began: datetime.datetime
    ended: datetime.datetime
    took: str
    live: bool


_MARKS: dict[str, tuple[str, str]] = {
    EventKind.SAGA_COMPENSATING: ("turn", "◀"),
    EventKind.SAGA_ATTENTION: ("attention", "!"),
    EventKind.SAGA_RESUMED: ("operator", "●"),
    EventKind.CANCEL_REQUESTED: ("operator", "●"),
    EventKind.SAGA_COMPLETED: ("end", "✓"),
    EventKind.SAGA_COMPENSATED: ("end", "↺"),
}


def of(record: history.History, attempts: Sequence[history.Attempt]) -> Timeline:
    """Attempts and waits as bars, one row for each action and undo; idle time is collapsed."""
    began = record.saga.created_at
    ended = max([record.saga.finished_at or record.now, *(event.at for event in record.events)])
    if record.saga.closed_at is not None or record.saga.finished_at is not None:
        ended = max([record.saga.finished_at or record.saga.closed_at or ended, *_ends(attempts)])
    scale = _Scale(began, ended, attempts, [event.at for event in record.events if _mark_kind(event.kind)])
    used = {(attempt.step, attempt.undo) for attempt in attempts}
    names = [(step.name, undo) for step in record.steps for undo in (False, True)]
    shown = [which for which in names if which in used or not which[1]]
    tops = {which: TOP + number * ROW_HEIGHT for number, which in enumerate(shown)}
    notes = {
        (step.name, goes_back): families.first_word(record.children[step.name], backward=goes_back)
        for step in record.steps
        if step.name in record.children
        for goes_back in [step.undo_started_at is not None]
    }
    plot = TOP + len(shown) * ROW_HEIGHT
    gaps = _in_lines(scale.gaps, plot)
    return Timeline(
        height=max([plot, *(gap.label_y for gap in gaps)]) + 6,
        plot=plot,
        rows=[
            Row(y=y, name=name, undo=undo, note=notes.get((name, undo), ""))
            for (name, undo), y in tops.items()
        ],
        bars=[_bar(attempt, scale, tops[attempt.step, attempt.undo], ended) for attempt in attempts],
        marks=_marks(record, scale),
        gaps=gaps,
        began=began,
        ended=ended,
        took=formatting.length(ended - began),
        live=record.saga.finished_at is None and record.saga.closed_at is None,
    )


def _ends(attempts: Sequence[history.Attempt]) -> list[datetime.datetime]:
    return [attempt.ended_at for attempt in attempts if attempt.ended_at is not None]


def _mark_kind(kind: str) -> tuple[str, str] | None:
    if kind.startswith("signal."):
        return ("callback", "◆")
    if kind.startswith(("operator.", "approval.")):
        return ("operator", "●")
    return _MARKS.get(kind)


def _marks(record: history.History, scale: "_Scale") -> list[Mark]:
    found = []
    for event in record.events:
        if (kind := _mark_kind(event.kind)) is not None:
            who = f" · {event.actor}" if event.actor != "engine" else ""
            title = f"{event_names.name(event.kind)} {event.subject}{who} · {formatting.moment(event.at)}"
            found.append(Mark(x=scale.place(event.at), kind=kind[0], glyph=kind[1], title=title))
    return _side_by_side(found)


def _side_by_side(marks_: Sequence[Mark]) -> list[Mark]:
    """The same, those beside each other that would lie upon each other: towards the side that has room."""
    groups: list[list[Mark]] = []
    for mark in marks_:
        if groups and mark.x - groups[-1][0].x < MARK_SHARE * len(groups[-1]):
            groups[-1].append(mark)
        else:
            groups.append([mark])
    return [
        dataclasses.replace(mark, dx=MARK_WIDTH * (number if group[0].x < 50 else number + 1 - len(group)))
        for group in groups
        for number, mark in enumerate(group)
    ]


def _bar(attempt: history.Attempt, scale: "_Scale", y: int, now: datetime.datetime) -> Bar:
    start = scale.place(attempt.started_at)
    end = scale.place(attempt.ended_at or now)
    width = max(end - start, 0.4)
    states = marks.state_names()
    if attempt.waits:
        what = _("waits")
    else:
        what = _("undo") if attempt.undo else _("action")
        what += f" {attempt.number}" if attempt.number else ""
    parts = [
        f"{attempt.step}: {what}",
        states.get(attempt.outcome, attempt.outcome),
        formatting.length(attempt.took),
        translation.translate((attempt.error or {}).get("message", "")),
    ]
    inside = start + width > 96
    return Bar(
        x=round(min(start, 99.6), 3),
        width=round(min(width, 100 - min(start, 99.6)), 3),
        y=y + 18,
        outcome=attempt.outcome,
        undo=attempt.undo,
        waits=attempt.waits,
        title=" · ".join(part for part in parts if part),
        glyph=marks.GLYPHS.get(attempt.outcome, "·"),
        glyph_x=round(start if inside else start + width, 3),
        inside=inside,
    )


class _Scale:
    """Time to percent, with idle stretches drawn short."""

    def __init__(
        self,
        began: datetime.datetime,
        ended: datetime.datetime,
        attempts: Sequence[history.Attempt],
        moments: Sequence[datetime.datetime],
    ) -> None:
        work = [(a.started_at, a.ended_at or ended) for a in attempts if not a.waits]
        points = {began, ended, *moments}
        points.update(
            point for attempt in attempts for point in (attempt.started_at, attempt.ended_at or ended)
        )
        self.points = sorted(point for point in points if began <= point <= ended)
        pairs = list(zip(self.points, self.points[1:], strict=False))
        real = [(after - before).total_seconds() for before, after in pairs]
        idle = [not any(a <= before and after <= b for a, b in work) for before, after in pairs]
        drawn = _drawn(real, idle)
        whole = sum(drawn) or 1.0
        self.places = [0.0]
        for length in drawn:
            self.places.append(self.places[-1] + length / whole * 100)
        # What is drawn short is told from the rest by how many seconds a share of the picture stands for.
        usual = min((length / share for length, share in zip(real, drawn, strict=True) if share), default=1.0)
        self.gaps = [
            Gap(
                x=round(self.places[number], 3),
                width=round(self.places[number + 1] - self.places[number], 3),
                label=formatting.length(datetime.timedelta(seconds=length)),
            )
            for number, (length, shown) in enumerate(zip(real, drawn, strict=True))
            if length > shown * usual * 1.5 and shown / whole > 0.02
        ]

    def place(self, at: datetime.datetime) -> float:
        """Where a moment lies, in percent."""
        for number, (before, after) in enumerate(zip(self.points, self.points[1:], strict=False)):
            if at <= after:
                span = (after - before).total_seconds()
                share = (at - before).total_seconds() / span if span else 0.0
                width = self.places[number + 1] - self.places[number]
                return round(self.places[number] + max(share, 0.0) * width, 3)
        return 100.0


def _drawn(real: Sequence[float], idle: Sequence[bool]) -> list[float]:
    """How long each stretch is drawn: work to scale; what nobody works at beside it, however long it was."""
    work = [length for length, quiet in zip(real, idle, strict=True) if not quiet]
    longest = max(work, default=0.0)
    others = sum(work) - longest
    cap = others * LONGEST_SHARE if others else math.inf
    busy = sum(min(length, cap) for length in work)
    # Square roots tell a long wait from a short one, and let neither squeeze what is beside it.
    roots = sum(math.sqrt(length) for length, quiet in zip(real, idle, strict=True) if quiet) or 1.0
    room = busy * IDLE_SHARE / (1 - IDLE_SHARE) if busy else roots
    return [
        (min(length, math.sqrt(length) / roots * room) if busy else math.sqrt(length))
        if quiet
        else min(length, cap)
        for length, quiet in zip(real, idle, strict=True)
    ]


def _in_lines(gaps: Sequence[Gap], below: int) -> list[Gap]:
    """The same, the label of each in the first line below the picture in which there is room for it."""
    ends: list[float] = []
    placed = []
    for gap in gaps:
        line = next((n for n, end in enumerate(ends) if end <= gap.label_from), len(ends))
        ends[line : line + 1] = [gap.label_from + LABEL_SHARE]
        placed.append(dataclasses.replace(gap, label_y=below + LABEL_HEIGHT * (line + 1)))
    return placed
