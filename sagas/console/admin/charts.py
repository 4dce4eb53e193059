"""Where things go in the overview's charts, as plain SVG in percentages of the width."""

import dataclasses
import datetime
from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sagas.console import formatting, health, marks
from sagas.console.templatetags import console
from sagas.declaration.states import SagaState

CHART_HEIGHT, TOP = 120, 16
"""Pixels: of the whole picture, and of what lies above the highest bar, where its number stands."""

DIGIT = 6.5
"""Pixels that a digit of such a number takes, and the space between two numbers."""

NARROW, WIDE = 310, 480
"""Pixels: a chart is at least as wide as the first on a telephone, and as the second at a desk."""

STACK = (
    SagaState.COMPLETED,
    SagaState.RUNNING,
    SagaState.COMPENSATED,
    SagaState.COMPENSATING,
    SagaState.NEEDS_ATTENTION,
    health.CLOSED,
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
class Number:
    """What a bar says above itself: as many do as there is room for, the highest first."""

    x: float
    anchor: str
    """Towards which side it goes on, so that none sticks out at an edge."""

    y: float
    text: str
    narrow: bool
    """Whether there is room for it on a telephone, too."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """Throughput, or the failure rate, over time."""

    blocks: list[Block]
    numbers: list[Number]
    most: str
    """What the line on top stands for, with its unit."""

    first: datetime.datetime
    last: datetime.datetime
    """When the last bar ends: now, or a little later."""

    height: int = CHART_HEIGHT
    top: int = TOP
    middle: int = (CHART_HEIGHT + TOP) // 2


def throughput(figures: health.Health) -> Chart:
    """How many began, stacked by what has become of them."""
    most = max([bucket.total for bucket in figures.buckets] + [1])
    blocks, tops = [], []
    for number, bucket in enumerate(figures.buckets):
        y = float(CHART_HEIGHT)
        for state in STACK:
            count = bucket.counts.get(state, 0)
            if count:
                # What is there is seen, however little it is beside the rest.
                height = max(count / most * (CHART_HEIGHT - TOP), 2.0)
                y -= height
                title = f"{formatting.moment(bucket.at)}: {count} {marks.state_names()[state]}"
                blocks.append(_block(figures, number, y, height, state, title))
        tops.append((y, str(bucket.total) if bucket.total else ""))
    unit = ngettext("%(n)s saga in %(width)s", "%(n)s sagas in %(width)s", most)
    return _chart(figures, blocks, tops, unit % {"n": most, "width": formatting.length(figures.width)})


def failures(figures: health.Health) -> Chart:
    """Which share was turned back, or stands before a person."""
    blocks, tops = [], []
    for number, bucket in enumerate(figures.buckets):
        y, said = float(CHART_HEIGHT), ""
        if bucket.bad:
            share = bucket.bad / bucket.total
            height = max(share * (CHART_HEIGHT - TOP), 2.0)
            y, said = CHART_HEIGHT - height, console.percent(share).replace(" ", "")
            title = f"{formatting.moment(bucket.at)}: {console.percent(share)} ({bucket.bad}/{bucket.total})"
            blocks.append(_block(figures, number, y, height, "failed", title))
        tops.append((y, said))
    unit = _("100 %% of those begun in %(width)s") % {"width": formatting.length(figures.width)}
    return _chart(figures, blocks, tops, unit)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long something takes, and how wide that is drawn, in percent of the longest of its kind."""

    kind: str
    p50: datetime.timedelta
    p95: datetime.timedelta
    p50_share: float
    p95_share: float


def longest(steps: Sequence[health.StepFigures]) -> dict[str, datetime.timedelta]:
    """What the whole width of each picture stands for."""
    none = datetime.timedelta(0)
    return {
        "work": max((step.p95 for step in steps if step.p95), default=none),
        "wait": max((step.wait_p95 for step in steps if step.wait_p95), default=none),
    }


def steps(
    figures: Sequence[health.StepFigures],
) -> list[tuple[health.StepFigures, Lengths | None, Lengths | None]]:
    """Each step with its work, and its wait where that is worth a word."""
    whole = longest(figures)
    return [
        (
            step,
            _lengths("work", step.p50, step.p95, whole["work"]),
            _lengths("wait", step.wait_p50, step.wait_p95, whole["wait"]) if step.waits else None,
        )
        for step in figures
    ]


def _lengths(
    kind: str, p50: datetime.timedelta | None, p95: datetime.timedelta | None, whole: datetime.timedelta
) -> Lengths | None:
    if p50 is None or p95 is None:
        return None
    seconds = whole.total_seconds() or 1.0
    return Lengths(
        kind=kind,
        p50=p50,
        p95=p95,
        p50_share=round(p50.total_seconds() / seconds * 100, 2),
        p95_share=round(p95.total_seconds() / seconds * 100, 2),
    )


def _chart(figures: health.Health, blocks: list[Block], tops: list[tuple[float, str]], most: str) -> Chart:
    narrow, wide = _shown(tops, NARROW), _shown(tops, WIDE)
    pitch = 100 / len(tops)
    numbers = []
    for number in sorted({*narrow, *wide}):
        y, said = tops[number]
        anchor = narrow.get(number) or wide[number]
        x = {"start": 0.0, "middle": (number + 0.5) * pitch, "end": 100.0}[anchor]
        numbers.append(
            Number(x=round(x, 3), anchor=anchor, y=round(y - 3, 2), text=said, narrow=number in narrow)
        )
    return Chart(
        blocks=blocks,
        numbers=numbers,
        most=most,
        first=figures.buckets[0].at,
        last=figures.buckets[-1].at + figures.width,
    )


def _shown(tops: list[tuple[float, str]], pixels: int) -> dict[int, str]:
    """Which bars say their number in a picture so wide, and towards which side.

    None stands in another, sticks out, or lies on a higher bar.
    """
    pitch = pixels / len(tops)
    taken: list[tuple[float, float]] = []
    found = {}
    for number in sorted(range(len(tops)), key=lambda one: tops[one][0]):
        y, said = tops[number]
        middle, half, anchor = (number + 0.5) * pitch, (len(said) + 1) * DIGIT / 2, "middle"
        if middle < half:
            middle, anchor = half, "start"
        elif middle > pixels - half:
            middle, anchor = pixels - half, "end"
        left, right = middle - half, middle + half
        over = tops[int(left // pitch) : int(right // pitch) + 1]
        if not said or any(top < y - 1 for top, _said in over):
            continue
        if all(right <= start or left >= end for start, end in taken):
            taken.append((left, right))
            found[number] = anchor
    return found


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
