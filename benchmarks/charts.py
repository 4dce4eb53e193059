"""The figures as pictures: from each JSON file beside docs/benchmarks.md an SVG in docs/images.

`make bench ARGS="--write"` draws them anew; so does `make docs`, without measuring anything. A picture has
paper and ink of its own for light and for dark, as the reader's system asks for; else it is text and bars.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from xml.sax import saxutils

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = ROOT / "docs"
PICTURES = ROOT / "docs" / "images"

WIDTH, LABELS, VALUES = 760, 230, 70
"""Of the whole, of what stands left of the bars, and of what stands right of them."""

BAR, GAP, BETWEEN = 14, 3, 12
"""The height of a bar, between two bars, and between two rows of bars."""

STYLE = """
svg { --paper: #ffffff; --ink: #1f2328; --dim: #59636e; --rule: #d1d9e0;
      --c0: #afb8c1; --c1: #6e7781; --c2: #0969da; --c3: #0b3d91 }
@media (prefers-color-scheme: dark) {
  svg { --paper: #0d1117; --ink: #f0f6fc; --dim: #9198a1; --rule: #3d444d;
        --c0: #656c76; --c1: #9198a1; --c2: #4493f8; --c3: #a5d6ff }
}
text { font: 12px system-ui, sans-serif; fill: var(--ink) }
.dim { fill: var(--dim) }
.head { font-weight: 600; font-size: 13px }
.paper { fill: var(--paper) }
.rule { stroke: var(--rule) }
.c0 { fill: var(--c0) } .c1 { fill: var(--c1) } .c2 { fill: var(--c2) } .c3 { fill: var(--c3) }
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """Rows of bars on one scale."""

    title: str
    """What is measured, and in which unit."""

    series: Sequence[str]
    """What the bars of a row are, from the top."""

    rows: Sequence[tuple[str, Sequence[float | None]]]
    """A row's name, and a figure for each of the series; None where there is none."""

    decimals: int = 0
    absent: str = ""
    """What is written where there is no figure."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture of the figures in one file."""

    picture: str
    data: str
    panels: Callable[[Any], list[Panel]]


def _guarantees(answer: Any) -> list[Panel]:
    systems = ("plain", "floor", "ours")

    def panel(title: str, figure: str, decimals: int) -> Panel:
        rows = [
            (workload, [measured["systems"][system][figure] for system in systems])
            for workload, measured in answer["workloads"].items()
        ]
        return Panel(title=title, series=systems, rows=rows, decimals=decimals)

    idle = [(p, [answer["idle_ms"][system][p] for system in systems]) for p in ("p50", "p95", "p99")]
    return [
        panel("Sagas per second, working off a backlog: more is better", "orders_per_s", 0),
        panel("CPU per saga, ms (workers and servers): less is better", "cpu_ms", 1),
        Panel(title="One at a time, ms from the call to the end: less is better", series=systems, rows=idle),
    ]


def _full(answer: Any) -> list[Panel]:
    systems = ("plain", "floor", "ours")
    full = answer["full"]
    paced = [(p, [full["paced_ms"][system][p] for system in systems]) for p in ("p50", "p95", "p99")]
    ended = {of["system"]: of["seconds"] for of in full["recoveries"]}
    return [
        Panel(
            title=f"At {full['rate']:.0f} orders a second, ms from when an order was due: less is better",
            series=systems,
            rows=paced,
        ),
        Panel(
            title="Seconds after a worker was killed until all orders had ended: less is better",
            series=systems,
            rows=[("a worker killed", [ended[system] for system in systems])],
            decimals=1,
            absent="never: some are lost",
        ),
    ]


def _orders(answer: Any) -> list[Panel]:
    systems = ("floor", "ours")

    def panel(title: str, figure: str) -> Panel:
        figures = [answer["systems"][system][figure] for system in systems]
        return Panel(title=title, series=systems, rows=[("real orders", figures)], decimals=1)

    idle = [(p, [answer["idle_ms"][system][p] for system in systems]) for p in ("p50", "p95", "p99")]
    return [
        panel("Orders per second, working off a backlog: more is better", "orders_per_s"),
        panel("CPU per order, ms (workers and servers): less is better", "cpu_ms"),
        Panel(title="One at a time, ms from the call to the end: less is better", series=systems, rows=idle),
    ]


def _console(answer: Any) -> list[Panel]:
    series = [f"{answer['sagas'][size]:,} sagas" for size in ("few", "many")]
    rows = [(page, [ms["few"], ms["many"]]) for page, ms in answer["milliseconds"].items()]
    return [Panel(title="Milliseconds for a page: less is better", series=series, rows=rows)]


def _history(answer: Any) -> list[Panel]:
    sagas = answer["sagas"]
    series = ["next to nothing", f"{sagas['live']:,} live, {sagas['archived']:,} archived"]
    # Sagas through the engine take seconds, all else milliseconds: on one scale one would see nothing.
    few = {name: ms for name, ms in answer["milliseconds"].items() if ms["empty"] < 1000}
    rows = [(name, [ms["empty"], ms["full"]]) for name, ms in few.items()]
    return [Panel(title="Milliseconds for each: less is better", series=series, rows=rows, decimals=1)]


def _poison(answer: Any) -> list[Panel]:
    rows = [
        (f"{share} poisoned", [measured["median_wait_s"], measured["longest_wait_s"]])
        for share, measured in answer["shares"].items()
    ]
    title = "Seconds that a good order waits at most, in a campaign: less is better"
    return [Panel(title=title, series=["the median campaign", "the worst"], rows=rows, decimals=1)]


def _web(answer: Any) -> list[Panel]:
    servers = ("threads", "django", "ours")
    kinds = ("GET /livez", "GET /products", "POST /orders")

    def panel(title: str, place: int, decimals: int) -> Panel:
        rows = [
            (kind, [answer["servers"].get(server, {}).get(kind, [None] * 4)[place] for server in servers])
            for kind in kinds
        ]
        return Panel(title=title, series=servers, rows=rows, decimals=decimals)

    return [
        panel("Requests per second: more is better", 0, 0),
        panel("CPU each, ms: less is better", 3, 1),
    ]


def _peers(answer: Any) -> list[Panel]:
    def panel(title: str, figure: str, decimals: int) -> Panel:
        rows = [
            (workload, [measured["systems"][system][figure] for system in measured["systems"]])
            for workload, measured in answer["workloads"].items()
        ]
        systems = list(next(iter(answer["workloads"].values()))["systems"])
        return Panel(title=title, series=systems, rows=rows, decimals=decimals)

    return [
        panel("Sagas per second, working off a backlog: more is better", "orders_per_s", 0),
        panel("CPU per saga, ms: less is better", "cpu_ms", 1),
    ]


CHARTS = [
    Chart(picture="benchmarks.svg", data="benchmarks.json", panels=_guarantees),
    Chart(picture="benchmarks-full.svg", data="benchmarks-full.json", panels=_full),
    Chart(picture="benchmarks-orders.svg", data="benchmarks-orders.json", panels=_orders),
    Chart(picture="benchmarks-poison.svg", data="benchmarks-poison.json", panels=_poison),
    Chart(picture="benchmarks-console.svg", data="benchmarks-console.json", panels=_console),
    Chart(picture="benchmarks-history.svg", data="benchmarks-history.json", panels=_history),
    Chart(picture="benchmarks-web.svg", data="benchmarks-web.json", panels=_web),
    Chart(picture="benchmarks-peers.svg", data="benchmarks-peers.json", panels=_peers),
]


def write() -> None:
    """Draw every picture anew from the figures that are there."""
    for chart in CHARTS:
        (PICTURES / chart.picture).write_text(drawn(chart))


def drawn(chart: Chart) -> str:
    """The picture of the figures in the chart's file."""
    panels = chart.panels(json.loads((DATA / chart.data).read_text()))
    body: list[str] = []
    top = 8
    for panel in panels:
        lines, height = _panel(panel, top)
        body += lines
        top += height
    title = saxutils.escape("; ".join(panel.title for panel in panels))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{top}" rx="6"/>',
            *body,
            "</svg>\n",
        ]
    )


def _panel(panel: Panel, top: int) -> tuple[list[str], int]:
    """What it is made of, and how high it is."""
    most = max(figure for _, figures in panel.rows for figure in figures if figure is not None)
    scale = (WIDTH - LABELS - VALUES - 12) / most
    lines = [_text(12, top + 18, panel.title, "head")]
    x = LABELS
    for number, name in enumerate(panel.series):
        lines.append(f'<rect x="{x}" y="{top + 29}" width="11" height="11" rx="2" {_fill(panel, number)}/>')
        lines.append(_text(x + 16, top + 39, name, "dim"))
        x += 32 + 7 * len(name)
    y = top + 52
    for name, figures in panel.rows:
        height = len(figures) * (BAR + GAP) - GAP
        lines.append(_text(LABELS - 10, y + height / 2 + 4, name, anchor="end"))
        lines += _bars(panel, figures, y, scale)
        y += height + BETWEEN
    lines.append(f'<path class="rule" d="M{LABELS} {top + 50}V{y - BETWEEN + 2}"/>')
    return lines, y - top + 8


def _bars(panel: Panel, figures: Sequence[float | None], y: int, scale: float) -> Iterator[str]:
    for number, figure in enumerate(figures):
        if figure is None:
            yield _text(LABELS + 6, y + BAR - 3, panel.absent, "dim")
        else:
            width = max(figure * scale, 1)
            yield (
                f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"'
                f" {_fill(panel, number)}/>"
            )
            yield _text(LABELS + width + 6, y + BAR - 3, f"{figure:,.{panel.decimals}f}", "dim")
        y += BAR + GAP


def _fill(panel: Panel, number: int) -> str:
    """The last of the series is the one that is looked for."""
    colours = {1: [2], 2: [1, 2], 3: [0, 1, 2], 4: [0, 1, 3, 2]}[len(panel.series)]
    return f'class="c{colours[number]}"'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    said = saxutils.escape(text)
    more = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{more}>{said}</text>'


if __name__ == "__main__":
    write()
