"""Where things go in the picture of a saga's steps: actions and their undos, and the arrows between them.

It is plain SVG, drawn by the server, in pixels: two columns are as wide as a telephone.
"""

import dataclasses
from collections.abc import Sequence

from sagas.console import history, marks
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
    label: str
    glyph: str
    undo: bool
    current: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edge:
    """An arrow from one to another."""

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


def of(record: history.History, views: Sequence[history.StepView]) -> Graph:
    """The actions down the left side, their undos up the right one."""
    nodes, edges = [], []
    pivot_y = None
    undone_above: int | None = None
    for number, view in enumerate(views):
        y = TOP + number * PITCH
        if view.pivot_above:
            pivot_y = y - GAP // 2
        nodes.append(_node(view, view.forward, LEFT, y, undo=False, current=not record.backward))
        if number:
            edges.append(_down(y, taken=view.forward.state != StepState.PENDING))
        if view.backward is not None:
            nodes.append(_node(view, view.backward, RIGHT, y, undo=True, current=record.backward))
            begun = view.backward.state not in ("none", "due")
            edges.append(_across(y, taken=begun))
            if undone_above is not None:
                edges.append(_up(y, undone_above, taken=begun))
            undone_above = y
    return Graph(height=TOP + len(views) * PITCH, nodes=nodes, edges=edges, pivot_y=pivot_y)


def _node(
    view: history.StepView, direction: history.DirectionView, x: int, y: int, *, undo: bool, current: bool
) -> Node:
    return Node(
        x=x,
        y=y,
        name=view.row.name,
        state=direction.state,
        label=marks.state_names().get(direction.state, direction.state),
        glyph=marks.GLYPHS.get(direction.state, "·"),
        undo=undo,
        current=view.current and current,
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
