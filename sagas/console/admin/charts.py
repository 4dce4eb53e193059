"""Where things go in the overview's charts, as plain SVG in percentages of the width."""

import dataclasses
import datetime

from sagas.console import formatting, health, marks
from sagas.console.templatetags import console
from sagas.declaration.states import SagaState

CHART_HEIGHT = 120
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
                title = f"{formatting.moment(bucket.at)}: {count} {marks.state_names()[state]}"
                blocks.append(_block(figures, number, y, height, state, title))
    return Chart(blocks=blocks, most=str(most), first=figures.buckets[0].at, last=figures.buckets[-1].at)


def failures(figures: health.Health) -> Chart:
    """Which share was turned back, or stands before a person."""
    blocks = []
    for number, bucket in enumerate(figures.buckets):
        if bucket.bad:
            share = bucket.bad / bucket.total
            height = max(share * (CHART_HEIGHT - 4), 2.0)
            title = f"{formatting.moment(bucket.at)}: {console.percent(share)} ({bucket.bad}/{bucket.total})"
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
