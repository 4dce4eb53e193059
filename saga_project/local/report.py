"""What `make demo` leaves: a page with a time line of each order, made of nothing but itself.

One row is an order; each of its steps is a bar from its first attempt to its end, with what it waited for in
between, and an undo a striped one. Orders of each fate begin at the left edge; those of the crowd stand where
they were in time, with the disasters as lines across all of them.
"""

import dataclasses
import datetime
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax import saxutils

Json = dict[str, Any]

LABELS, BARS, ENDS = 360, 720, 170
"""How wide a row is: what stands left of the bars, they themselves, and how it ended."""

HUES = ("payment", "stock", "invoice", "delivery")

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --dim: #59636e; --rule: #d1d9e0;
  --bad: #cf222e; --payment: #0969da; --stock: #8250df; --invoice: #1a7f37; --delivery: #bc4c00;
  --other: #6e7781 }
@media (prefers-color-scheme: dark) { :root {
  --paper: #0d1117; --ink: #f0f6fc; --dim: #9198a1; --rule: #3d444d; --bad: #ff7b72;
  --payment: #4493f8; --stock: #ab7df8; --invoice: #3fb950; --delivery: #f0883e; --other: #9198a1 } }
body { margin: 2rem auto; max-width: 1280px; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
.wide { overflow-x: auto }
svg { display: block; min-width: 900px; width: 100%; height: auto }
text { font: 12px system-ui, sans-serif; fill: var(--ink) }
.dim { fill: var(--dim); color: var(--dim) }
.rule { stroke: var(--rule) } .told { fill: var(--bad) }
.disaster { stroke: var(--bad); stroke-dasharray: 4 3 }
.payment { fill: var(--payment) } .stock { fill: var(--stock) } .invoice { fill: var(--invoice) }
.delivery { fill: var(--delivery) } .other { fill: var(--other) } .undo { fill-opacity: .35; stroke-width: 1 }
.undo.payment { stroke: var(--payment) } .undo.stock { stroke: var(--stock) }
.undo.invoice { stroke: var(--invoice) } .undo.delivery { stroke: var(--delivery) }
.key span { margin-right: 1.2em; white-space: nowrap } .key svg { display: inline; min-width: 0; width: 14px }
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """An order as it is drawn."""

    number: str
    name: str
    """Its fate."""
    ended: str
    saga: Json
    """As the API shows it to the staff."""

    @property
    def began_at(self) -> datetime.datetime:
        """When it was placed."""
        return _moment(self.saga["created_at"])

    @property
    def ended_at(self) -> datetime.datetime:
        """When its saga ended; of one that needs a person, when it last moved."""
        return _moment(self.saga["finished_at"] or self.saga["updated_at"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disaster:
    """What was done to all of them at once."""

    what: str
    at: datetime.datetime


def write(
    path: pathlib.Path, *, fated: Sequence[Row], crowd: Sequence[Row], disasters: Sequence[Disaster]
) -> None:
    """Write the page.

    Args:
        path: of the file.
        fated: the orders of each fate.
        crowd: those that came at once.
        disasters: what befell the crowd.
    """
    counts: dict[str, int] = {}
    for row in (*fated, *crowd):
        counts[row.ended] = counts.get(row.ended, 0) + 1
    told = ", ".join(f"{count} {ended}" for ended, count in sorted(counts.items(), key=lambda one: -one[1]))
    key = "".join(_key(hue, hue) for hue in HUES)
    key += _key("undo payment", "paler: its undo") + _key("other", "a person's answer")
    path.write_text(
        f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>make demo: {len(fated) + len(crowd)} orders</title>
<style>{STYLE}</style>
<h1>{len(fated) + len(crowd)} orders</h1>
<p>{told}. Point at a bar to read what it is.</p>
<p class="key">{key}</p>
<h2>One of each fate</h2>
<p class="dim">Seconds since the order was placed. A bar lasts from the first attempt to the end,
waits included.</p>
<div class="wide">{_apart(fated)}</div>
<h2>The crowd</h2>
<p class="dim">Seconds since the first of them was placed, under random faults of the bank,
the fiscal authority and the carrier.</p>
<div class="wide">{_together(crowd, disasters)}</div>
</html>
""",
        encoding="utf-8",
    )


def _key(kind: str, name: str) -> str:
    mark = f'<rect class="{kind}" x=".5" y=".5" width="13" height="11" rx="2"/>'
    return f'<span><svg viewBox="0 0 14 12">{mark}</svg> {name}</span>'


def _apart(rows: Sequence[Row]) -> str:
    """Each from its own beginning."""
    longest = max((_seconds(row.began_at, row.ended_at) for row in rows), default=1.0)
    height, scale = 22, BARS / max(longest, 0.1)
    parts = _axis(longest, scale, len(rows) * height)
    for place, row in enumerate(rows):
        y = 24 + place * height
        parts.append(_text(0, y + 14, row.name))
        parts.append(_text(LABELS - 12, y + 14, row.number, "dim", "end"))
        parts += _bars(row, row.began_at, scale, y + 3, height - 6)
        took = f"{row.ended}, {_seconds(row.began_at, row.ended_at):.1f} s"
        parts.append(_text(LABELS + BARS + 12, y + 14, took))
    return _svg(24 + len(rows) * height + 4, parts)


def _together(rows: Sequence[Row], disasters: Iterable[Disaster]) -> str:
    """All on one clock, a thin row for each, in the order in which they were placed."""
    if not rows:
        return ""
    rows = sorted(rows, key=lambda row: row.began_at)
    first, last = rows[0].began_at, max(row.ended_at for row in rows)
    height, longest = 6, _seconds(first, last)
    scale = BARS / max(longest, 0.1)
    parts = _axis(longest, scale, len(rows) * height)
    for place, row in enumerate(rows):
        parts += _bars(row, first, scale, 24 + place * height, height - 1)
    for place, disaster in enumerate(disasters):
        x = LABELS + _seconds(first, disaster.at) * scale
        parts.append(f'<path class="disaster" d="M{x:.1f} 20V{24 + len(rows) * height}"/>')
        y = 40 + 18 * place
        told = f"{disaster.what} after {_seconds(first, disaster.at):.0f} s"
        parts.append(_text(LABELS - 12, y, told, "told", "end"))
        parts.append(f'<path class="disaster" d="M{LABELS - 8} {y - 4}H{x:.1f}"/>')
    return _svg(24 + len(rows) * height + 4, parts)


def _axis(longest: float, scale: float, height: int) -> list[str]:
    """A line for every so many seconds."""
    every = next((step for step in (1, 2, 5, 10, 20, 30, 60, 120) if longest / step <= 12), 300)
    parts = []
    for number in range(int(longest // every) + 1):
        x = LABELS + number * every * scale
        parts.append(f'<path class="rule" d="M{x:.1f} 18V{24 + height}"/>')
        parts.append(_text(x, 13, f"{number * every} s", "dim", "middle"))
    return parts


def _bars(row: Row, start: datetime.datetime, scale: float, y: int, height: int) -> list[str]:
    parts = []
    for name, hue, kind, began, ended, state in _spans(row):
        x = LABELS + _seconds(start, began) * scale
        width = max(_seconds(began, ended) * scale, 2)
        what = f"{name} undone" if kind else name
        title = f"{row.number} ({row.name}), {what}: {_seconds(began, ended):.2f} s, {state}"
        parts.append(
            f'<rect class="{kind}{hue}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" rx="2">'
            f"<title>{saxutils.escape(title)}</title></rect>"
        )
    return parts


def _spans(row: Row) -> list[tuple[str, str, str, datetime.datetime, datetime.datetime, str]]:
    """What was under way from when to when: step, hue, `undo ` or nothing, and what became of it."""
    spans = []
    for step, hue in zip(row.saga["steps"], _hues(row.saga["steps"]), strict=True):
        if step["started_at"]:
            began = _moment(step["started_at"])
            over = step["finished_at"] or step["undo_started_at"]
            ended = _moment(over) if over else row.ended_at
            spans.append((step["name"], hue, "", began, max(began, ended), step["state"]))
        if step["undo_started_at"]:
            began = _moment(step["undo_started_at"])
            ended = _moment(step["undone_at"]) if step["undone_at"] else row.ended_at
            spans.append((step["name"], hue, "undo ", began, max(began, ended), step["state"]))
    return spans


def _hues(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The last four are those of the services; what comes before them is a person's."""
    return ["other"] * (len(steps) - len(HUES)) + list(HUES)


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {LABELS + BARS + ENDS} {height}" role="img">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{saxutils.escape(text)}</text>'


def _seconds(began: datetime.datetime, ended: datetime.datetime) -> float:
    return (ended - began).total_seconds()


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
