"""What a trial that failed says: what is wrong, and the shortest run that shows it, as a timeline."""

import datetime
from collections.abc import Sequence

from sagas.testing.trials import faults, runs

LINES_AT_MOST = 80


def report(
    *, saga: str, promise: str, problem: str, wrong: Sequence[faults.Fault], timeline: Sequence[runs.Entry]
) -> str:
    """All of it, as text."""
    count = {0: "without any fault", 1: "with 1 fault"}.get(len(wrong), f"with {len(wrong)} faults")
    parts = [
        f"{saga}: {problem}",
        f"What is promised: {promise}",
        "",
        f"The shortest run that shows it, {count}:",
    ]
    parts += [f"  {number}. {fault}" for number, fault in enumerate(wrong, 1)]
    return "\n".join([*parts, "", *_table(timeline)])


def _table(timeline: Sequence[runs.Entry]) -> list[str]:
    """A line each; what a fault did has an exclamation mark."""
    shown = list(timeline[:LINES_AT_MOST])
    rows = [("time", "who", "step", "try", "what happens")]
    rows += [
        (_clock(entry.after), entry.who, entry.step, str(entry.attempt or ""), entry.what) for entry in shown
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    marks = [" ", *("!" if entry.fault else " " for entry in shown)]
    lines = [
        f"{mark} "
        + "  ".join([*(word.ljust(width) for word, width in zip(row, widths, strict=False)), row[4]])
        for mark, row in zip(marks, rows, strict=True)
    ]
    left = len(timeline) - len(shown)
    return [line.rstrip() for line in lines] + ([f"  ... and {left} lines more"] if left > 0 else [])


def _clock(after: datetime.timedelta) -> str:
    """How long after the beginning, such as `1d 02:03:04`."""
    whole = int(after.total_seconds())
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}d {clock}" if days else clock
