"""A terminal session as a picture that moves: rich draws the lines, and each appears when it was printed.

What was printed is drawn once, as rich exports it; style rules then let each line appear at its time, and the
whole move up when the window is full. A reader who wants no motion, or whose program knows none, sees the end
or the beginning of it, standing still.
"""

import math
import re
import time
from typing import Any

import rich.console
import rich.terminal_theme

WIDTH, HEIGHT = 124, 34
"""Of the window, in characters and lines."""

LONGEST_PAUSE_S = 1.0
"""Nobody wants to wait as long as the session did."""

READING_S = 0.1
"""How long a line is there before what comes after all that was printed with it; three seconds for many."""

FLOWING_S = 0.04
"""Between two lines that were printed at once."""

LINE = 24.4
"""The height of a line, as rich draws it."""

FORMAT = """\
{matrix}
<!-- {unique_id} -->
{styles}
"""
"""What of rich's picture is used; it has a frame, and a font from another server, that are not."""


class Recorder(rich.console.Console):
    """A console that remembers when it printed what."""

    def __init__(self, **more: Any) -> None:
        super().__init__(width=WIDTH, record=True, **more)
        self._printed: list[tuple[float, int]] = []

    def print(self, *objects: Any, **more: Any) -> None:
        """Print, and remember when."""
        super().print(*objects, **more)
        self._printed.append((time.monotonic(), self.export_text(clear=False).count("\n")))

    def picture(self, command: str) -> str:
        """What was printed so far, as an SVG that shows it line by line.

        Args:
            command: what the session was, for the head of the window.
        """
        theme = rich.terminal_theme.SVG_EXPORT_THEME
        drawn = self.export_svg(code_format=FORMAT, unique_id="t", clear=False, theme=theme)
        matrix, _, styles = drawn.partition("<!-- t -->")
        moments = _paced(self._printed)
        matrix = re.sub(
            r' clip-path="url\(#t-line-(\d+)\)"',
            lambda found: f' style="animation-delay:{moments[min(int(found[1]), len(moments) - 1)]:.2f}s"',
            matrix,
        )
        matrix = re.sub(r"<text[^>]*>\s*</text>", "", matrix)  # Ends of lines.
        width, height = math.ceil(WIDTH * 12.2) + 24, math.ceil(HEIGHT * LINE) + 60
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
                f"<title>{command}</title>",
                "<style>",
                styles.strip(),
                _motion(moments),
                "</style>",
                f'<rect width="{width}" height="{height}" rx="10" fill="#0d1117"/>',
                *(
                    f'<circle cx="{26 + 22 * place}" cy="24" r="7" fill="{colour}"/>'
                    for place, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
                ),
                f'<text class="head" x="{width / 2:g}" y="30">{command}</text>',
                f'<svg x="12" y="48" width="{width - 24}" height="{HEIGHT * LINE:g}">',
                f'<g class="lines scroll">{matrix.strip()}</g>',
                "</svg>",
                "</svg>\n",
            ]
        )


def _paced(printed: list[tuple[float, int]]) -> list[float]:
    """When each line appears, after which time: long pauses are shortened, and what is much can be read."""
    moments: list[float] = []
    at, before = 0.5, printed[0][0] if printed else 0.0
    for moment, until in printed:
        at += min(moment - before, LONGEST_PAUSE_S)
        new = until - len(moments)
        moments += [at + line * FLOWING_S for line in range(new)]
        at += new * FLOWING_S + min(new * READING_S, 3)
        before = moment
    return moments


def _motion(moments: list[float]) -> str:
    """The rules by which lines appear, and the window follows them."""
    end = moments[-1] if moments else 1.0
    stops = [
        f"{moment / end:.2%} {{ transform: translateY({-(line + 1 - HEIGHT) * LINE:.1f}px) }}"
        for line, moment in enumerate(moments)
        if line >= HEIGHT
    ]
    return "\n".join(
        [
            ".lines { font: 20px ui-monospace, monospace; white-space: pre }",
            ".head { font: 20px ui-monospace, monospace; fill: #9198a1; text-anchor: middle }",
            ".lines text { animation: appear .2s backwards }",
            "@keyframes appear { from { opacity: 0 } }",
            f".scroll {{ animation: follow {end:.1f}s step-end forwards }}",
            f"@keyframes follow {{ {' '.join(stops)} }}",
            "@media (prefers-reduced-motion: reduce) {",
            "  .lines text { animation: none } .scroll { animation-duration: 1ms }",
            "}",
        ]
    )
