"""Where things go in the picture of a saga's steps: actions and their undos, and the arrows between them.

It is plain SVG, drawn by the server, in pixels: two columns are as wide as a telephone. Steps that are done
at once stand side by side in a box, each with its undo below it: the whole picture stays as wide.
"""

import dataclasses
from collections.abc import Sequence

from sagas.console import history, marks
from sagas.declaration.states import StepState

WIDTH, HEIGHT, GAP = 164, 46, 26
LEFT, RIGHT, TOP = 6, 190, 24
"""Pixels: of a node, between one row and the next, and of the columns' edges."""

LANES = 3
"""So many steps stand side by side; more of them stand in several rows."""

LANE_GAP, LANE_HEAD, LANE_UNDO, LANE_PAD = 8, 22, 14, 8
"""Pixels: between lanes, for the name of their stage, from an action to its undo, and round them."""

WHOLE = RIGHT + WIDTH - LEFT
"""Pixels between the outer edges of the two columns."""

LETTER, STATE_LETTER, LINE, MARGIN, PERSON = 7.2, 6.4, 15, 8, 20
"""Pixels: of a letter of a node's name, and of its state's, at most; from line to line; beside the text; of a
person's mark."""


NOT_BEGUN = ("none", "kept", "due")
"""What stands for the state of an undo that has not begun."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """An action, or its undo."""

    x: int
    y: int
    width: int
    height: int
    lines: list[str]
    """The name, as far as there is room for it."""

    name: str
    state: str
    label: str
    glyph: str
    undo: bool
    current: bool
    approval: bool
    note: str
    """Why it was left out, or under which facts it is done; or how its children stand."""

    children: str = ""
    """How many of its children are done, or undone; empty where it has none, or they are told beside it."""

    stacked: bool = False
    """Whether it is a saga, or many: it is drawn as a pile."""

    @property
    def state_text(self) -> str:
        """The mark of its state and what that is called, as far as there is room for it."""
        room = int((self.x + self.width - self.text_x) / STATE_LETTER)
        if len(self.label) + 2 > room and self.state in ("none", "kept"):
            return self.glyph  # Nothing is so, and nothing is lost.
        return _cut(f"{self.glyph} {self.children or self.label}", room)

    @property
    def text_x(self) -> int:
        """Where its lines begin: beyond the mark of a person, where it has one."""
        return self.x + MARGIN + (PERSON if self.approval else 0)

    @property
    def texts(self) -> list[tuple[int, int, str]]:
        """The lines of the name, each with its place."""
        return [(self.text_x, self.y + 19 + LINE * number, line) for number, line in enumerate(self.lines)]

    @property
    def person(self) -> str:
        """The mark of a person: head and shoulders."""
        x, y = self.x + MARGIN + 9, self.y + self.height // 2
        return f"M{x - 4} {y - 5} a4 4 0 1 1 8 0 a4 4 0 1 1 -8 0 M{x - 7} {y + 9} a7 7 0 0 1 14 0 z"

    @property
    def label_y(self) -> int:
        """Where the state stands."""
        return self.y + self.height - 10

    @property
    def round(self) -> int:
        """How round its corners are: an approval is told by its shape, too."""
        return self.height // 2 if self.approval else 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """Why a step was left out, beside its node."""

    x: int
    y: int
    width: int
    lines: list[str]

    @property
    def texts(self) -> list[tuple[int, int, str]]:
        """The lines, each with its place."""
        return [(self.x, self.y + 13 * number, line) for number, line in enumerate(self.lines)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    """What surrounds steps that are done at once."""

    x: int
    y: int
    width: int
    height: int
    name: str
    current: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edge:
    """An arrow from one to another."""

    path: str
    taken: bool
    undo: bool


@dataclasses.dataclass(kw_only=True)
class Graph:
    """The whole picture."""

    height: int = TOP
    nodes: list[Node] = dataclasses.field(default_factory=list)
    notes: list[Note] = dataclasses.field(default_factory=list)
    boxes: list[Box] = dataclasses.field(default_factory=list)
    edges: list[Edge] = dataclasses.field(default_factory=list)
    lane_edges: list[Edge] = dataclasses.field(default_factory=list)
    """Those inside a box, which are drawn above it."""

    pivot_y: int | None = None


def of(record: history.History, views: Sequence[history.StepView]) -> Graph:
    """The actions down the left side, their undos up the right one; what is done at once side by side."""
    graph = Graph()
    groups = _groups(views)
    reached = max((number for number, group in enumerate(groups) if any(map(_begun, group))), default=-1)
    undo_above: int | None = None
    for number, group in enumerate(groups):
        y = graph.height
        if group[0].pivot_above:
            graph.pivot_y = y - GAP // 2
        if number:
            graph.edges.append(_down(y, taken=number <= reached))
        bottom = _lanes(graph, record, group, y) if len(group) > 1 else _pair(graph, record, group[0], y)
        undos = [view.backward for view in group if view.backward is not None]
        if undos:
            if undo_above is not None:
                taken = any(one.state not in NOT_BEGUN for one in undos)
                graph.edges.append(_up(y, undo_above, taken=taken))
            undo_above = bottom
        graph.height = bottom + GAP
    return graph


def _groups(views: Sequence[history.StepView]) -> list[list[history.StepView]]:
    """Each step that comes alone, and together those that are done at once."""
    groups: list[list[history.StepView]] = []
    for view in views:
        if groups and view.stage is not None and view.stage is groups[-1][0].stage:
            groups[-1].append(view)
        else:
            groups.append([view])
    return groups


def _begun(view: history.StepView) -> bool:
    return view.forward.state not in (StepState.PENDING, StepState.SKIPPED, history.NOT_REACHED)


def _pair(graph: Graph, record: history.History, view: history.StepView, y: int) -> int:
    """A step that comes alone, with its undo to the right of it; returns where they end."""
    height = HEIGHT
    graph.nodes.append(_node(record, view, LEFT, y, WIDTH, height, undo=False))
    if view.backward is not None:
        begun = view.backward.state not in NOT_BEGUN
        graph.nodes.append(_node(record, view, RIGHT, y, WIDTH, height, undo=True))
        graph.edges.append(_across(y, taken=begun))
    elif _reason(view):
        graph.notes.append(_note(_reason(view), RIGHT, y + 14, WIDTH))
    return y + height


def _lanes(graph: Graph, record: history.History, group: Sequence[history.StepView], y: int) -> int:
    """Steps that are done at once, side by side in a box, each above its undo; returns where it ends."""
    stage = group[0].stage
    assert stage is not None, "they are declared as done at once"
    assert stage.parallel is not None, "they are declared as done at once"
    rows = -(-len(group) // LANES)
    columns = -(-len(group) // rows)
    width = (WHOLE - 2 * LANE_PAD - (columns - 1) * LANE_GAP) // columns
    x_of = [LEFT + LANE_PAD + column * (width + LANE_GAP) for column in range(columns)]
    drawn = len(graph.nodes)
    top = y + LANE_HEAD
    for first in range(0, len(group), columns):
        row = group[first : first + columns]
        # Those of a row are as high: a long name takes two lines.
        height = HEIGHT + LINE * max(len(_wrapped(view.row.name, _room(view, width), 2)) - 1 for view in row)
        under = top + height + LANE_UNDO
        for view, x in zip(row, x_of, strict=False):
            _lane(graph, record, view, x, top, under, width, height)
        has_under = any(view.backward is not None or _reason(view) for view in row)
        top = (under if has_under else top) + height + LANE_PAD
    graph.boxes.append(
        Box(
            x=LEFT, y=y, width=WHOLE, height=top - y, name=stage.parallel.name,
            current=any(node.current for node in graph.nodes[drawn:]),
        )
    )  # fmt: skip
    return top


def _lane(
    graph: Graph,
    record: history.History,
    view: history.StepView,
    x: int,
    top: int,
    under: int,
    width: int,
    height: int,
) -> None:
    """One of them, with its undo under it, or with why it was left out."""
    graph.nodes.append(_node(record, view, x, top, width, height, undo=False))
    if view.backward is not None:
        begun = view.backward.state not in NOT_BEGUN
        graph.nodes.append(_node(record, view, x, under, width, height, undo=True))
        path = f"M{x + width // 2} {top + height} V{under - 3}"
        graph.lane_edges.append(Edge(path=path, taken=begun, undo=True))
    elif _reason(view):
        graph.notes.append(_note(_reason(view), x + 2, top + height + 14, width))


def _reason(view: history.StepView) -> str:
    """Why a step was left out."""
    return view.condition if view.skipped else ""


def _room(view: history.StepView, width: int) -> int:
    """How many letters of its name have room in a line."""
    person = PERSON if view.approval is not None else 0
    return int((width - 2 * MARGIN - person) / LETTER)


def _node(
    record: history.History, view: history.StepView, x: int, y: int, width: int, height: int, *, undo: bool
) -> Node:
    direction = view.backward if undo else view.forward
    assert direction is not None, "what is drawn is there"
    many = (height - HEIGHT) // LINE + 1
    brood = view.brood if view.brood is not None and view.brood.backward == undo else None
    return Node(
        x=x,
        y=y,
        width=width,
        height=height,
        lines=_wrapped(view.row.name, _room(view, width), many),
        name=view.row.name,
        state=direction.state,
        label=marks.state_names().get(direction.state, direction.state),
        glyph=marks.GLYPHS.get(direction.state, "·"),
        undo=undo,
        current=view.current and record.backward == undo,
        approval=view.approval is not None,
        note=brood.words if brood is not None else "" if undo else view.condition,
        children=brood.short if brood is not None else "",
        stacked=view.child is not None and not undo,
    )


def _note(text: str, x: int, y: int, width: int) -> Note:
    return Note(x=x, y=y, width=width, lines=_filled(text, int(width / 5.6), 4))


def _wrapped(name: str, letters: int, lines: int) -> list[str]:
    """A step's name in lines of so many letters, broken at its dashes; cut where it is too long for them."""
    if len(name) <= letters or lines == 1:
        return [_cut(name, letters)]
    head = ""
    for part in name.split("-")[:-1]:
        if len(head) + len(part) + 1 > letters:
            break
        head += f"{part}-"
    rest = name.removeprefix(head)
    return [head, *_wrapped(rest, letters, lines - 1)] if head else [_cut(name, letters)]


def _filled(text: str, letters: int, lines: int) -> list[str]:
    """A sentence in at most so many lines."""
    found = [""]
    for word in text.split():
        if found[-1] and len(found[-1]) + 1 + len(word) > letters:
            found.append(word)
        else:
            found[-1] = f"{found[-1]} {word}".strip()
    if len(found) > lines:
        found = [*found[: lines - 1], " ".join(found[lines - 1 :])]
    return [_cut(line, letters) for line in found]


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _down(y: int, *, taken: bool) -> Edge:
    """From the action above."""
    return Edge(path=f"M{LEFT + WIDTH // 2} {y - GAP} V{y - 3}", taken=taken, undo=False)


def _across(y: int, *, taken: bool) -> Edge:
    """From an action to its undo."""
    return Edge(path=f"M{LEFT + WIDTH} {y + HEIGHT // 2} H{RIGHT - 3}", taken=taken, undo=True)


def _up(y: int, above: int, *, taken: bool) -> Edge:
    """To the undo that comes after this one."""
    return Edge(path=f"M{RIGHT + WIDTH // 2} {y} V{above + 3}", taken=taken, undo=True)
