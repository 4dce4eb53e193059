"""Where things go in the picture of a saga's steps: actions and their undos, and the ways between them.

It is plain SVG, drawn by the server, in pixels: two columns are as wide as a telephone.
"""

import dataclasses
from collections.abc import Sequence

from sagas.console import history
from sagas.console.templatetags import console
from sagas.declaration.states import StepState

WIDTH, HEIGHT, GAP = 164, 46, 26
LEFT, RIGHT, TOP = 6, 190, 24
PITCH = HEIGHT + GAP
"""Pixels: of a node, of the columns' edges, and from one node to the next."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """An action, or its undo."""

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


def of(told: history.Story, rungs: Sequence[history.Rung]) -> Graph:
    """The actions down the left side, their undos up the right one."""
    nodes, edges = [], []
    pivot_y = None
    undone_above: int | None = None
    for number, rung in enumerate(rungs):
        y = TOP + number * PITCH
        if rung.pivot_above:
            pivot_y = y - GAP // 2
        nodes.append(_node(rung, rung.forward, LEFT, y, undo=False, current=not told.backward))
        if number:
            edges.append(_down(y, taken=rung.forward.state != StepState.PENDING))
        if rung.backward is not None:
            nodes.append(_node(rung, rung.backward, RIGHT, y, undo=True, current=told.backward))
            begun = rung.backward.state not in ("none", "due")
            edges.append(_across(y, taken=begun))
            if undone_above is not None:
                edges.append(_up(y, undone_above, taken=begun))
            undone_above = y
    return Graph(height=TOP + len(rungs) * PITCH, nodes=nodes, edges=edges, pivot_y=pivot_y)


def _node(rung: history.Rung, lane: history.Lane, x: int, y: int, *, undo: bool, current: bool) -> Node:
    return Node(
        x=x,
        y=y,
        name=rung.row.name,
        state=lane.state,
        word=console.words().get(lane.state, lane.state),
        glyph=console.GLYPHS.get(lane.state, "·"),
        undo=undo,
        current=rung.current and current,
    )


def _down(y: int, *, taken: bool) -> Edge:
    """From the action above."""
    return Edge(path=f"M{LEFT + WIDTH // 2} {y - GAP} V{y - 3}", taken=taken, undo=False)


def _across(y: int, *, taken: bool) -> Edge:
    """From an action to its undo."""
    return Edge(path=f"M{LEFT + WIDTH} {y + HEIGHT // 2} H{RIGHT - 3}", taken=taken, undo=True)


def _up(y: int, above: int, *, taken: bool) -> Edge:
    """To the undo that comes after this one."""
    return Edge(path=f"M{RIGHT + WIDTH // 2} {y} V{above + HEIGHT + 3}", taken=taken, undo=True)
