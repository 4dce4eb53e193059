"""What the demo leaves to look at: a page with the orders on a time line, and a picture of its terminal."""

import datetime
import io
import pathlib
import re
from typing import Any
from xml.etree import ElementTree

from saga_project.local import recording, report

START = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def at(seconds: float | None) -> str | None:
    return None if seconds is None else (START + datetime.timedelta(seconds=seconds)).isoformat()


def step(
    name: str,
    began: float | None = None,
    ended: float | None = None,
    undo: float | None = None,
    undone: float | None = None,
    state: str = "done",
) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "started_at": at(began),
        "finished_at": at(ended),
        "undo_started_at": at(undo),
        "undone_at": at(undone),
    }


def row(number: str, *, placed: float, over: float, steps: list[dict[str, Any]], ended: str) -> report.Row:
    saga = {"created_at": at(placed), "finished_at": at(over), "updated_at": at(over), "steps": steps}
    return report.Row(number=number, name="card & <reply> lost", ended=ended, saga=saga)


FULFILLED = row(
    "ORD-AAAA0001",
    placed=0,
    over=4,
    ended="fulfilled",
    steps=[
        step("review-order", state="skipped"),
        step("take-payment", 0.1, 1),
        step("reserve-stock", 1, 1.1),
        step("issue-invoice", 1.1, 2),
        step("deliver-order", 2, 4),
    ],
)
CANCELLED = row(
    "ORD-AAAA0002",
    placed=10,
    over=20,
    ended="cancelled",
    steps=[
        step("review-order", state="skipped"),
        step("take-payment", 10.1, 12, 18, 20, "undone"),
        step("reserve-stock", 12, 12.1, 17, 17.5, "undone"),
        step("issue-invoice", 12.1, None, 16, 17, "undone"),
        step("deliver-order", state="pending"),
    ],
)


def test_the_page_has_a_bar_for_each_action_and_each_undo_where_it_was_in_time(
    tmp_path: pathlib.Path,
) -> None:
    page = tmp_path / "report.html"
    disaster = report.Disaster(what="A worker dies", at=START + datetime.timedelta(seconds=10))

    report.write(page, fated=[FULFILLED, CANCELLED], crowd=[FULFILLED, CANCELLED], disasters=[disaster])

    text = page.read_text()
    assert "ORD-AAAA0001 (card &amp; &lt;reply&gt; lost), take-payment: 0.90 s, done" in text
    assert "take-payment undone: 2.00 s, undone" in text
    # It failed without an end of its own: the action lasted until its undo began.
    assert "issue-invoice: 3.90 s" in text
    assert text.count("<title>ORD-") == 2 * (4 + 6)
    assert "1 fulfilled" not in text
    assert "2 fulfilled, 2 cancelled" in text
    assert "A worker dies after 10 s" in text

    # In the crowd the second stands where it was: at the half of twenty seconds, on the disaster's line.
    crowd = text.partition("<h2>The crowd</h2>")[2]
    began = float(re.search(r'x="([\d.]+)"[^>]*><title>ORD-AAAA0002[^<]*take-payment:', crowd)[1])  # type: ignore[index]
    line = float(re.search(r'class="disaster" d="M([\d.]+) ', crowd)[1])  # type: ignore[index]
    assert line == report.LABELS + report.BARS / 2
    assert 0 < began - line < 10

    # Nothing of it is anywhere else, and each drawing is a whole one.
    assert not re.search(r"https?:|src=|href=|@import|url\(", text)
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_each_line_of_a_recording_appears_after_those_before_it() -> None:
    console = recording.Recorder(file=io.StringIO(), force_terminal=False)
    for number in range(50):
        console.print(f"[green]line[/] {number} of <50> & more", highlight=False)

    picture = ElementTree.fromstring(console.picture("make demo"))

    svg = "{http://www.w3.org/2000/svg}"
    texts = ["".join(text.itertext()).replace("\xa0", " ").strip() for text in picture.iter(f"{svg}text")]
    assert texts[0] == "make demo"
    assert [text for text in texts if text.endswith("more")] == [f"{n} of <50> & more" for n in range(50)]
    delays = [
        float(found[1])
        for text in picture.iter(f"{svg}text")
        if (found := re.search(r"animation-delay:([\d.]+)s", text.get("style", "")))
    ]
    assert len(delays) == 2 * 50
    assert delays == sorted(delays)
    # The window follows: at the end the last line is its last one.
    style = "".join(picture.find(f"{svg}style").itertext())  # type: ignore[union-attr]
    last = -(50 - recording.HEIGHT) * recording.LINE
    assert f"100.00% {{ transform: translateY({last:.1f}px) }}" in style
    assert "prefers-reduced-motion" in style
    assert "url(" not in style


def test_a_recording_does_not_make_anybody_wait_as_long_as_the_session_did() -> None:
    moments = recording._paced([(100.0, 2), (160.0, 3), (160.2, 63)])

    assert len(moments) == 63
    assert moments == sorted(moments)
    # A minute passed before the third line; and much that comes at once is there in a few seconds.
    assert moments[2] - moments[1] < 60 / 10
    assert moments[-1] < 60 / 10
