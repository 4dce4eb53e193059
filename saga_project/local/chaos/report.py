"""What a campaign leaves: a page with the faults on a time line under the orders, made of nothing else."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax import saxutils

from saga_project.local.chaos import rules

Json = dict[str, Any]

LABELS, BARS, MARGIN = 210, 960, 30
"""How wide a row is: what stands left of the bars, they themselves, and what is free right of them."""

CURVE = 170
"""The height of the orders' curve."""

ROW = 16

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --dim: #59636e; --rule: #d1d9e0;
  --bad: #cf222e; --good: #1a7f37; --orders: #0969da; --waits: #bc4c00; --nothing: #afb8c1 }
@media (prefers-color-scheme: dark) { :root {
  --paper: #0d1117; --ink: #f0f6fc; --dim: #9198a1; --rule: #3d444d; --bad: #ff7b72; --good: #3fb950;
  --orders: #4493f8; --waits: #f0883e; --nothing: #59636e } }
body { margin: 2rem auto; max-width: 1280px; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
table { border-collapse: collapse; margin: 1rem 0 } th { text-align: left }
td, th { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--rule); vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
.bad { color: var(--bad) } .good { color: var(--good) } .dim { color: var(--dim); fill: var(--dim) }
.wide { overflow-x: auto } svg { display: block; min-width: 900px; width: 100%; height: auto }
text { font: 12px system-ui, sans-serif; fill: var(--ink) }
.rule { stroke: var(--rule) } .calm { stroke: var(--good); stroke-dasharray: 4 3 }
.flying { fill: var(--orders); fill-opacity: .35; stroke: var(--orders) }
.waiting { fill: var(--waits); fill-opacity: .35; stroke: var(--waits) }
.failing { fill: var(--bad) } .struck { fill: var(--bad); fill-opacity: .8 } .nothing { fill: var(--nothing) }
"""


def write(path: Path, kept: Json) -> None:
    """Write the page.

    Args:
        path: of the file.
        kept: the report, as the campaign gives it.
    """
    holds = '<span class="good">Every rule holds.</span>'
    if not kept["holds"]:
        holds = '<span class="bad">A rule was broken.</span>'
    path.write_text(
        f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>make chaos: {kept["orders"]} orders, {kept["faults"]} faults</title>
<style>{STYLE}</style>
<h1>{kept["orders"]} orders, {kept["faults"]} faults</h1>
<p>{holds} Quiet {kept["quiet_after_s"]:g} s after the last fault and the last order.</p>
<p class="dim"><code>{_escaped(kept["command"])}</code>, {_escaped(kept["machine"])}</p>
<h2>Every rule</h2>
{_rules(kept)}
{_wrong(kept["wrong"])}
<h2>Orders in flight, and what was broken</h2>
<p class="dim">Blue: orders that were acknowledged and have not ended. Orange: wanted and not yet
acknowledged. The red line above them: the share of requests that failed. A red bar is a fault while it
lasted, a grey one
broke nothing. Point at it to read what it did. The green line is where all was whole again and nobody ordered
any more.</p>
<div class="wide">{_drawn(kept)}</div>
<h2>Every kind of fault</h2>
{_kinds(kept["kinds"])}
<h2>Figures</h2>
{_table(("", ""), [(name, value) for name, value in _figures(kept)])}
</html>
""",
        encoding="utf-8",
    )


WRONG_KEPT = 20
"""So many of the violations of a negative control are kept as examples."""


def figures(kept: Json) -> Json:
    """What is kept of a report in the documentation: all but single strikes and samples."""
    short = {name: value for name, value in kept.items() if name not in ("strikes", "samples")}
    return short | {"wrong": kept["wrong"][:WRONG_KEPT]}


COLUMNS = {
    "capacity": "Nothing broken, more orders than it can carry",
    "half": "At half the capacity",
    "full": "At full capacity",
    "bounded": "At full capacity, with a bound to what waits",
    "without-sweep": "Without the sweep",
    "without-fences": "Without fences",
}
"""The campaigns of which the documentation keeps the figures, and what it calls them.

The last ones are negative controls (`saga_project.local.maimed`), which have to fail.
"""


def written(page: str, kept: Mapping[str, Json]) -> str:
    """The page with the figures in it, between its marks.

    Args:
        page: the page of the documentation.
        kept: the figures of each campaign, by its name in `COLUMNS`.
    """
    return re.sub(
        r"<!-- campaigns -->.*<!-- /campaigns -->",
        lambda _: f"<!-- campaigns -->\n{markdown(kept)}<!-- /campaigns -->",
        page,
        flags=re.DOTALL,
    )


def markdown(kept: Mapping[str, Json]) -> str:
    """The figures for the documentation, a column for each campaign."""
    named = {COLUMNS[name]: kept[name] for name in COLUMNS if name in kept}
    told = [f"- {name}: `{one['command']}`, on {one['machine']}." for name, one in named.items()]
    rules_of = [{bar["rule"]: str(bar["broken"]) for bar in one["rules"]} for one in named.values()]
    struck = [
        {
            f"`{kind['name']}`": "left out" if kind["left_out"] else f"{kind['struck']:,}"
            for kind in one["kinds"]
        }
        for one in named.values()
    ]
    told += ["", *_columns("", named, [dict(_figures(one)) for one in named.values()])]
    told += ["", *_columns("Rule: how often it was broken", named, rules_of)]
    told += ["", *_columns("Fault: how often it struck", named, struck)]
    return "\n".join(told) + "\n"


def _columns(head: str, names: Mapping[str, Json], columns: Sequence[Mapping[str, str]]) -> list[str]:
    """A table with a row for whatever any of the columns has."""
    rows = dict.fromkeys(row for column in columns for row in column)
    return [
        f"| {' | '.join([head, *names])} |",
        f"| --- |{' ---: |' * len(names)}",
        *(f"| {' | '.join([row, *(column.get(row, '') for column in columns)])} |" for row in rows),
    ]


def _figures(kept: Json) -> list[tuple[str, str]]:
    return [
        ("Orders wanted", f"{kept['orders']:,}"),
        ("Orders acknowledged", f"{kept['acknowledged']:,}"),
        ("Orders that have ended", f"{kept['ended']:,}"),
        ("Orders that were sent more than once", f"{kept['orders_sent_more_than_once']:,}"),
        ("Orders that were turned back because somebody was away for too long", f"{kept['gave_up']:,}"),
        ("Orders that customers took elsewhere, for the shop took no more", f"{kept['turned_away']:,}"),
        *((rules.KINDS[kind], f"{count:,}") for kind, count in kept["kinds_of_wrong"].items()),
        ("Requests", f"{kept['requests']:,}"),
        ("Requests that failed", f"{kept['failed_requests']:,}"),
        ("Orders wanted, a second", f"{kept['orders_per_second']:g}"),
        ("Orders that ended, a second", f"{kept['ended_per_second']:g}"),
        ("From an order's first request to its end, median", f"{kept['median_s']} s"),
        ("The slowest order", f"{kept['longest_s']} s"),
        ("Faults that struck", f"{kept['faults']:,}"),
        ("Faults that broke nothing, and are not counted", f"{kept['broke_nothing']:,}"),
        ("Quiet after the last fault", f"{kept['quiet_after_s']:g} s"),
    ]


def _rules(kept: Json) -> str:
    rows = [(bar["rule"], str(bar["broken"])) for bar in kept["rules"]]
    return _table(("Rule", "Broken"), rows, bad=[place for place, row in enumerate(rows) if row[1] != "0"])


def _wrong(wrong: Sequence[str]) -> str:
    lines = "".join(f"<li>{_escaped(told)}</li>" for told in wrong[:200])
    return f'<ul class="bad">{lines}</ul>' if lines else ""


def _kinds(kinds: Sequence[Json]) -> str:
    rows = [
        (kind["group"], kind["name"], kind["told"], kind["left_out"] or f"{kind['struck']} of {kind['made']}")
        for kind in kinds
    ]
    return _table(("", "Fault", "What it does", "Struck"), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], bad: Sequence[int] = ()) -> str:
    last = len(heads) - 1

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if place == last else ''}>{_escaped(cell)}</{tag}>"
            for place, cell in enumerate(row)
        )

    lines = "".join(
        f"<tr{' class=bad' if place in bad else ''}>{cells(row, 'td')}</tr>" for place, row in enumerate(rows)
    )
    head = f"<tr>{cells(heads, 'th')}</tr>" if any(heads) else ""
    return f"<table>{head}{lines}</table>"


def _drawn(kept: Json) -> str:
    """The curve above, a row of bars for each kind of fault below, on one clock."""
    samples, kinds = kept["samples"], [kind["name"] for kind in kept["kinds"] if kind["made"]]
    last_s = max([*(sample[0] for sample in samples), kept["calm_after_s"], 1.0])
    scale, height = BARS / last_s, 24 + CURVE + 20 + ROW * len(kinds)
    parts = _axis(last_s, scale, height)
    parts += _curve(samples, scale)
    calm = LABELS + kept["calm_after_s"] * scale
    parts.append(f'<path class="calm" d="M{calm:.1f} 18V{height}"/>')
    for place, name in enumerate(kinds):
        y = 24 + CURVE + 20 + place * ROW
        parts.append(_text(LABELS - 10, y + 11, name, "", "end"))
        parts += [_bar(one, scale, y) for one in kept["strikes"] if one["kind"] == name]
    return f'<svg viewBox="0 0 {LABELS + BARS + MARGIN} {height + 6}" role="img">{"".join(parts)}</svg>'


def _curve(samples: Sequence[Sequence[float]], scale: float) -> list[str]:
    if not samples:
        return []
    most = max(1, *(sample[2] + sample[3] for sample in samples))
    floor = 24 + CURVE

    def line(values: Sequence[float]) -> str:
        points = [
            f"{LABELS + sample[0] * scale:.1f} {floor - value / most * (CURVE - 20):.1f}"
            for sample, value in zip(samples, values, strict=True)
        ]
        first, last = (LABELS + samples[place][0] * scale for place in (0, -1))
        return f"M{first:.1f} {floor}L{'L'.join(points)}L{last:.1f} {floor}Z"

    both, acknowledged = [sample[2] + sample[3] for sample in samples], [sample[3] for sample in samples]
    failing = "".join(
        f'<rect class="failing" x="{LABELS + sample[0] * scale:.1f}" y="{24 + 12 * (1 - sample[4]):.1f}"'
        f' width="{max(0.5 * scale, 1):.1f}" height="{12 * sample[4]:.1f}"/>'
        for sample in samples
        if sample[4]
    )
    return [
        _text(LABELS - 10, 36, "requests failing", "dim", "end"),
        _text(LABELS - 10, floor - 4, "orders in flight", "dim", "end"),
        _text(LABELS - 10, 60, f"{most:.0f}", "dim", "end"),
        f'<path class="waiting" d="{line(both)}"/>',
        f'<path class="flying" d="{line(acknowledged)}"/>',
        failing,
    ]


def _bar(one: Mapping[str, Any], scale: float, y: int) -> str:
    x, width = LABELS + one["struck_s"] * scale, (one["healed_s"] - one["struck_s"]) * scale
    kind = "nothing" if one["why_not"] else "struck"
    told = (one["why_not"] and f"broke nothing: {one['why_not']}") or one["told"]
    title = f"{one['struck_s']:.1f} s: {one['kind']} ({one['target']}), {told}"
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{max(width, 2.5):.1f}" height="{ROW - 3}" rx="1">'
        f"<title>{_escaped(title)}</title></rect>"
    )


def _axis(last_s: float, scale: float, height: int) -> list[str]:
    """A line for every so many seconds."""
    every = next((step for step in (1, 2, 5, 10, 20, 30, 60, 120) if last_s / step <= 16), 300)
    parts = []
    for number in range(int(last_s // every) + 1):
        x = LABELS + number * every * scale
        parts.append(f'<path class="rule" d="M{x:.1f} 18V{height}"/>')
        parts.append(_text(x, 13, f"{number * every} s", "dim", "middle"))
    return parts


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    return saxutils.escape(str(text))
