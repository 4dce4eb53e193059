"""Where things go in the pictures: the timeline, the graph and the dashboard's charts.

All of it is plain SVG, drawn by the server. Places along the time are percentages, so that a picture
fits a telephone as it fits a desk; nothing has a style of its own, so that the strict policy holds.
"""

import dataclasses
import datetime
import math
from collections.abc import Sequence

from django.utils.translation import gettext as _

from sagas import health, phrases, story, words
from sagas.states import SagaState, StepState
from sagas.templatetags import console

IDLE_SHARE = 0.3
"""A stretch in which nobody works is drawn no longer than this share of all the work."""

ROW = 40
TOP = 34
"""Pixels: the height of a lane, and of the row of marks above them."""


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
    """Whether its mark stands inside, for lack of room beside it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lane:
    """A row of the timeline."""

    y: int
    name: str
    undo: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened at one moment."""

    x: float
    kind: str
    glyph: str
    title: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gap:
    """A stretch in which nothing happened, drawn shorter than it was."""

    x: float
    width: float
    label: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timeline:
    """The whole picture."""

    height: int
    lanes: list[Lane]
    bars: list[Bar]
    marks: list[Mark]
    gaps: list[Gap]
    began: datetime.datetime
    ended: datetime.datetime
    took: str
    live: bool


_MARKS = {
    "saga.compensating": ("turn", "◀"),
    "saga.attention": ("attention", "!"),
    "saga.resumed": ("operator", "●"),
    "cancel.requested": ("operator", "●"),
    "saga.completed": ("end", "✓"),
    "saga.compensated": ("end", "↺"),
}


def timeline(told: story.Story, attempts: Sequence[story.Attempt]) -> Timeline:
    """Attempts and waits as bars, one lane for each deed and undo; idle time is collapsed."""
    began = told.saga.created_at
    ended = max([told.saga.finished_at or told.now, *(event.at for event in told.events)])
    if told.saga.closed_at is not None or told.saga.finished_at is not None:
        ended = max([told.saga.finished_at or told.saga.closed_at or ended, *_ends(attempts)])
    scale = _Scale(began, ended, attempts, [event.at for event in told.events if _mark_kind(event.kind)])
    used = {(attempt.step, attempt.undo) for attempt in attempts}
    names = [(step.name, undo) for step in told.steps for undo in (False, True)]
    shown = [lane for lane in names if lane in used or not lane[1]]
    tops = {lane: TOP + number * ROW for number, lane in enumerate(shown)}
    return Timeline(
        height=TOP + len(shown) * ROW + 22,
        lanes=[Lane(y=y, name=name, undo=undo) for (name, undo), y in tops.items()],
        bars=[_bar(attempt, scale, tops[attempt.step, attempt.undo], ended) for attempt in attempts],
        marks=_marks(told, scale),
        gaps=scale.gaps,
        began=began,
        ended=ended,
        took=phrases.length(ended - began),
        live=told.saga.finished_at is None and told.saga.closed_at is None,
    )


def _ends(attempts: Sequence[story.Attempt]) -> list[datetime.datetime]:
    return [attempt.ended_at for attempt in attempts if attempt.ended_at is not None]


def _mark_kind(kind: str) -> tuple[str, str] | None:
    if kind.startswith("signal."):
        return ("callback", "◆")
    if kind.startswith("operator."):
        return ("operator", "●")
    return _MARKS.get(kind)


def _marks(told: story.Story, scale: "_Scale") -> list[Mark]:
    found = []
    for event in told.events:
        if (kind := _mark_kind(event.kind)) is not None:
            who = f" · {event.actor}" if event.actor != "engine" else ""
            title = f"{event.kind} {event.subject}{who} · {phrases.moment(event.at)}"
            found.append(Mark(x=scale.place(event.at), kind=kind[0], glyph=kind[1], title=title))
    return found


def _bar(attempt: story.Attempt, scale: "_Scale", y: int, now: datetime.datetime) -> Bar:
    start = scale.place(attempt.started_at)
    end = scale.place(attempt.ended_at or now)
    width = max(end - start, 0.4)
    states = console.words()
    if attempt.waits:
        what = _("waits")
    else:
        what = _("undo") if attempt.undo else _("deed")
        what += f" {attempt.number}" if attempt.number else ""
    parts = [
        f"{attempt.step}: {what}",
        states.get(attempt.outcome, attempt.outcome),
        phrases.length(attempt.took),
        words.say((attempt.error or {}).get("message", "")),
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
        glyph=console.GLYPHS.get(attempt.outcome, "·"),
        glyph_x=round(start if inside else start + width, 3),
        inside=inside,
    )


class _Scale:
    """Time to percent, with idle stretches drawn short."""

    def __init__(
        self,
        began: datetime.datetime,
        ended: datetime.datetime,
        attempts: Sequence[story.Attempt],
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
        busy = sum(length for length, quiet in zip(real, idle, strict=True) if not quiet)
        # What nobody works at is drawn short beside the work, however long it was.
        longest = busy * IDLE_SHARE if busy else math.inf
        drawn = [min(length, longest) if quiet else length for length, quiet in zip(real, idle, strict=True)]
        whole = sum(drawn) or 1.0
        self.places = [0.0]
        for length in drawn:
            self.places.append(self.places[-1] + length / whole * 100)
        self.gaps = [
            Gap(
                x=round(self.places[number], 3),
                width=round(self.places[number + 1] - self.places[number], 3),
                label=phrases.length(datetime.timedelta(seconds=length)),
            )
            for number, (length, shown) in enumerate(zip(real, drawn, strict=True))
            if length > shown * 1.5 and shown / whole > 0.02
        ]

    def place(self, at: datetime.datetime) -> float:
        """Where a moment lies, in percent."""
        for number, (before, after) in enumerate(zip(self.points, self.points[1:], strict=False)):
            if at <= after:
                span = (after - before).total_seconds()
                share = (at - before).total_seconds() / span if span else 0.0
                room = self.places[number + 1] - self.places[number]
                return round(self.places[number] + max(share, 0.0) * room, 3)
        return 100.0


# --- The graph ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """A deed, or its undo."""

    x: int
    y: int
    name: str
    state: str
    word: str
    glyph: str
    undo: bool
    current: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edge:
    """A way from one to another."""

    path: str
    taken: bool
    undo: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graph:
    """The whole picture."""

    height: int
    nodes: list[Node]
    edges: list[Edge]
    pivot_y: int | None


NODE_WIDTH, NODE_HEIGHT, NODE_GAP = 164, 46, 26
LEFT, RIGHT = 6, 190


def graph(told: story.Story, rungs: Sequence[story.Rung]) -> Graph:
    """The deeds down the left side, their undos up the right one."""
    pitch = NODE_HEIGHT + NODE_GAP
    nodes, edges = [], []
    pivot_y = None
    middle = NODE_HEIGHT // 2
    previous: story.Rung | None = None
    undone_above: int | None = None
    for number, rung in enumerate(rungs):
        y = 24 + number * pitch
        nodes.append(
            _node(
                rung.row.name,
                rung.forward.state,
                LEFT,
                y,
                undo=False,
                current=rung.current and not told.backward,
            )
        )
        if rung.pivot_above:
            pivot_y = y - NODE_GAP // 2
        if previous is not None:
            x = LEFT + NODE_WIDTH // 2
            edges.append(
                Edge(
                    path=f"M{x} {y - NODE_GAP} V{y - 3}",
                    taken=rung.forward.state not in (StepState.PENDING,),
                    undo=False,
                )
            )
        if rung.backward is not None:
            nodes.append(
                _node(
                    rung.row.name,
                    rung.backward.state,
                    RIGHT,
                    y,
                    undo=True,
                    current=rung.current and told.backward,
                )
            )
            begun = rung.backward.state not in ("none", "due")
            edges.append(Edge(path=f"M{LEFT + NODE_WIDTH} {y + middle} H{RIGHT - 3}", taken=begun, undo=True))
            if undone_above is not None:
                x = RIGHT + NODE_WIDTH // 2
                edges.append(Edge(path=f"M{x} {y} V{undone_above + NODE_HEIGHT + 3}", taken=begun, undo=True))
            undone_above = y
        previous = rung
    return Graph(height=24 + len(rungs) * pitch, nodes=nodes, edges=edges, pivot_y=pivot_y)


def _node(name: str, state: str, x: int, y: int, *, undo: bool, current: bool) -> Node:
    return Node(
        x=x,
        y=y,
        name=name,
        state=state,
        word=console.words().get(state, state),
        glyph=console.GLYPHS.get(state, "·"),
        undo=undo,
        current=current,
    )


# --- The charts -----------------------------------------------------------------------------------

CHART_HEIGHT = 120
STACK = (
    SagaState.COMPLETED,
    SagaState.RUNNING,
    SagaState.COMPENSATED,
    SagaState.COMPENSATING,
    SagaState.NEEDS_ATTENTION,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a stacked bar."""

    x: float
    y: float
    width: float
    height: float
    state: str
    title: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """Throughput, or the failure rate, over time."""

    blocks: list[Block]
    most: str
    first: datetime.datetime
    last: datetime.datetime


def throughput(figures: health.Health) -> Chart:
    """How many began, stacked by what has become of them."""
    most = max([bucket.total for bucket in figures.buckets] + [1])
    blocks = []
    for number, bucket in enumerate(figures.buckets):
        y = float(CHART_HEIGHT)
        for state in STACK:
            count = bucket.counts.get(state, 0)
            if count:
                # What is there is seen, however little it is beside the rest.
                height = max(count / most * (CHART_HEIGHT - 4), 2.0)
                y -= height
                title = f"{phrases.moment(bucket.at)}: {count} {console.words()[state]}"
                blocks.append(_block(figures, number, y, height, state, title))
    return Chart(blocks=blocks, most=str(most), first=figures.buckets[0].at, last=figures.buckets[-1].at)


def failures(figures: health.Health) -> Chart:
    """Which share was turned back, or stands before a person."""
    blocks = []
    for number, bucket in enumerate(figures.buckets):
        if bucket.bad:
            share = bucket.bad / bucket.total
            height = max(share * (CHART_HEIGHT - 4), 2.0)
            title = f"{phrases.moment(bucket.at)}: {console.percent(share)} ({bucket.bad}/{bucket.total})"
            blocks.append(_block(figures, number, CHART_HEIGHT - height, height, "failed", title))
    return Chart(blocks=blocks, most="100 %", first=figures.buckets[0].at, last=figures.buckets[-1].at)


def _block(figures: health.Health, number: int, y: float, height: float, state: str, title: str) -> Block:
    pitch = 100 / len(figures.buckets)
    return Block(
        x=round(number * pitch + pitch * 0.08, 3),
        y=round(y, 2),
        width=round(pitch * 0.84, 3),
        height=round(height, 2),
        state=str(state),
        title=title,
    )
