"""What a campaign leaves to look at and to read."""

import copy
import json
import pathlib
from xml.etree import ElementTree

import pytest

from saga_project.local.chaos import __main__ as command
from saga_project.local.chaos import catalogue, report

STRUCK = {
    "number": 1, "kind": "killed", "target": "worker1", "at_s": 2.0, "lasts_s": 0.0, "seed": 5,
    "struck_s": 2.1, "healed_s": 2.1, "told": "worker1: process <12> ended by SIGKILL", "why_not": "",
}  # fmt: skip
NOTHING = STRUCK | {
    "number": 2, "kind": "link-reset", "target": "web-db", "struck_s": 4.0, "healed_s": 5.5, "told": "",
    "why_not": "nothing passed over web-db meanwhile",
}  # fmt: skip


def kind(name, made, struck):
    return {"name": name, "group": "Some", "told": f"{name}?", "made": made, "struck": struck, "left_out": ""}


KEPT = {
    "command": "make chaos SEED=7 MINUTES=3", "seed": 7, "minutes": 3, "orders_per_second": 5.0,
    "machine": "2 cores", "holds": True, "wrong": [], "orders": 1200, "acknowledged": 1200, "ended": 1200,
    "gave_up": 3, "turned_away": 2, "kinds_of_wrong": {"lost": 0, "doubled": 0, "balance": 0, "order": 0},
    "rules": [{"name": "ended", "rule": "Every order has ended.", "broken": 0}],
    "requests": 5000, "failed_requests": 400, "orders_sent_more_than_once": 300, "median_s": 2.1,
    "ended_per_second": 9.5, "longest_s": 40.0, "faults": 1, "broke_nothing": 1,
    "calm_after_s": 8.0, "quiet_after_s": 4.5,
    "kinds": [kind("killed", 1, 1), kind("link-reset", 1, 0), kind("two-beats", 0, 0)],
    "strikes": [STRUCK, NOTHING],
    "samples": [[number / 2, number * 3, 2, number % 9, 0.25] for number in range(25)],
}  # fmt: skip


def page(path: pathlib.Path, **changes):
    report.write(path / "report.html", copy.deepcopy(KEPT) | changes)
    return (path / "report.html").read_text()


def drawn(text):
    (svg,) = [f"<svg{part.partition('</svg>')[0]}</svg>" for part in text.split("<svg")[1:]]
    return ElementTree.fromstring(svg)


def test_each_fault_is_a_bar_at_its_time_with_what_it_did(tmp_path):
    bars = {
        bar.find("title").text: bar
        for bar in drawn(page(tmp_path)).iter("rect")
        if bar.find("title") is not None
    }

    struck = bars["2.1 s: killed (worker1), worker1: process <12> ended by SIGKILL"]
    nothing = bars["4.0 s: link-reset (web-db), broke nothing: nothing passed over web-db meanwhile"]
    assert (struck.get("class"), nothing.get("class")) == ("struck", "nothing")
    assert float(struck.get("x")) < float(nothing.get("x"))
    # A second and a half of twelve.
    assert float(nothing.get("width")) == report.BARS * 1.5 / 12
    assert len(bars) == 2


def test_the_orders_in_flight_are_a_curve_over_the_same_time(tmp_path):
    curves = {path.get("class"): path.get("d") for path in drawn(page(tmp_path)).iter("path")}

    assert curves["flying"].count("L") == len(KEPT["samples"]) + 1
    assert f"{report.LABELS + report.BARS:.1f}" in curves["flying"]
    assert curves["calm"].startswith(f"M{report.LABELS + report.BARS * 8 / 12:.1f} ")


def test_a_rule_that_was_broken_is_told_with_what_broke_it(tmp_path):
    wrong = ["ended: ORD-1: it is <pending>"]
    rules = [{"name": "ended", "rule": "Every order has ended.", "broken": 1}]

    text = page(tmp_path, holds=False, wrong=wrong, rules=rules)

    assert "A rule was broken." in text
    assert "<li>ended: ORD-1: it is &lt;pending&gt;</li>" in text
    assert "Every rule holds." in page(tmp_path)


def test_a_campaign_without_faults_or_samples_can_be_drawn(tmp_path):
    assert drawn(page(tmp_path, strikes=[], samples=[], kinds=[]))


def test_the_documentation_gets_the_figures_and_no_single_strike():
    figures = report.figures(KEPT)
    before = "# Page\n<!-- campaigns -->old<!-- /campaigns -->\nrest\n"
    broken = {"name": "ended", "rule": "Every order has ended.", "broken": 7}
    control = figures | {"orders": 300, "rules": [broken]}

    after = report.written(before, {"without-sweep": control, "half": figures})

    assert not {"strikes", "samples"} & figures.keys()
    assert "old" not in after
    assert "|  | At half the capacity | Without the sweep |" in after
    assert "| Orders wanted | 1,200 | 300 |" in after
    assert "| Every order has ended. | 0 | 7 |" in after
    assert "| `killed` | 1 | 1 |" in after
    assert report.written(after, {"half": figures, "without-sweep": control}) == after


def test_the_page_lists_every_fault():
    text = catalogue.PAGE.read_text()

    assert catalogue.written(text) == text, "make docs"


def test_the_page_shows_the_campaigns_that_are_kept():
    kept = json.loads(command.KEPT.read_text())
    text = command.PAGE.read_text()

    assert report.written(text, kept) == text, 'make chaos ARGS="--record NAME"'


@pytest.mark.parametrize("name", report.COLUMNS)
def test_a_campaign_that_is_kept_breaks_nothing_and_a_negative_control_does(name):
    kept = json.loads(command.KEPT.read_text())[name]

    broken = [bar["name"] for bar in kept["rules"] if bar["broken"]]

    if name.startswith("without-"):
        assert set(broken) - {"quiet"}
    else:
        assert not set(broken) - {"quiet"}
        assert kept["wrong"] == []
