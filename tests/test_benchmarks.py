"""The benchmark's shop is a project of its own, whose workers start."""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from benchmarks import capacity, charts, systems, teams
from saga_project.local import runfile

SVG = "{http://www.w3.org/2000/svg}"

PEERS = runfile.ROOT / "benchmarks" / "peers"

LOADED = {
    "benchmarks.settings": "benchmarks.shop.tasks, benchmarks.guarantees, benchmarks.kill, benchmarks.orders,"
    " benchmarks.peers.compare, saga_project.admin",
    # The plain chain's workers, which load nothing of this project's own application.
    "benchmarks.plain_settings": "benchmarks.shop.plain, sys;"
    " assert 'saga_project.celery' not in sys.modules",
    "saga_project.settings": "benchmarks.real_chain",
}
"""What the workers of each system load, with which settings."""


@pytest.mark.parametrize("settings", LOADED)
def test_the_workers_of_the_benchmark_find_what_they_load(environment, settings):
    loaded = f"import django; django.setup(); import {LOADED[settings]}"

    run = subprocess.run(
        [sys.executable, "-c", loaded],
        cwd=runfile.ROOT,
        env=environment | {"DJANGO_SETTINGS_MODULE": settings},
        capture_output=True,
        text=True,
    )

    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.integration
def test_processes_end_with_the_benchmark_though_it_is_not_their_turn():
    with pathlib.Path(os.devnull).open("wb") as log:
        team = teams.Team("sleepers", [[sys.executable, "-c", "import time; time.sleep(600)"]] * 2, log)
        team.pause()

        team.end()

    assert not team.mains()


def test_books_are_right_only_if_nothing_is_lost_doubled_or_turned_back():
    right = systems.Books(orders=5, ended=5, lost=0, doubled=0, turned_back=0, off_the_shelf=0)

    assert right.right
    for wrong in ("lost", "doubled", "turned_back", "off_the_shelf"):
        assert not dataclasses.replace(right, **{wrong: 1}).right


@pytest.mark.parametrize("pins", sorted(PEERS.glob("*.txt")), ids=lambda path: path.stem)
def test_a_peer_is_installed_in_the_very_version_that_is_named(pins: pathlib.Path):
    lines = pins.read_text().splitlines()

    assert all(re.fullmatch(r"[A-Za-z0-9_-]+==[\w.]+", line) for line in lines)
    assert any(line.startswith(f"{pins.stem}==") for line in lines)
    assert (PEERS / f"{pins.stem.replace('-', '_')}_peer.py").exists()


@pytest.mark.parametrize("chart", charts.CHARTS, ids=lambda chart: chart.picture)
def test_each_picture_shows_the_figures_that_are_beside_the_page(chart):
    drawn = charts.drawn(chart)

    assert (charts.PICTURES / chart.picture).read_text() == drawn, "run `make docs`"
    root = ElementTree.fromstring(drawn)
    bars = [float(bar.get("width")) for bar in root.iter(f"{SVG}rect") if bar.get("rx")]
    assert all(0 < width <= charts.WIDTH for width in bars)
    # Nothing sticks out to the right: letters of 12 pixels are not wider than 8 on the average.
    for text in root.iter(f"{SVG}text"):
        if text.get("text-anchor") == "start":
            assert float(text.get("x")) + 8 * len(text.text or "") <= charts.WIDTH, text.text


def test_each_file_of_figures_has_a_picture_that_a_page_shows():
    pages = "".join(path.read_text() for path in charts.DATA.glob("*.md"))

    # What became of killed sagas is a list of zeros.
    assert {chart.data for chart in charts.CHARTS} == {
        path.name for path in charts.DATA.glob("benchmarks*.json")
    } - {"benchmarks-kill.json"}
    assert all(f"(images/{chart.picture})" in pages for chart in charts.CHARTS)


def test_what_many_sagas_need_is_what_each_costs_times_how_many_there_are():
    cost = capacity.Cost(
        database_cpu_ms=3.6,
        workers_cpu_ms=7.2,
        broker_cpu_ms=0.36,
        statements=30,
        transactions=5,
        wal_kb=10,
        wal_after_checkpoint_kb=30,
        transitions=4,
        connections=1,
    )

    day = capacity.needs(cost, {"live": 4_000, "archived": 1_000}, 8_640_000)

    assert day["peak"] == pytest.approx(300)  # 100 a second, three times as many at the peak.
    assert day["database_cores"] == pytest.approx(300 * 0.0036 / 0.6)
    assert day["worker_cores"] == pytest.approx(2 * day["database_cores"])
    assert (day["transactions"], day["wal_mb_s"]) == (pytest.approx(1_500), pytest.approx(3))
    assert day["wal_gb_day"] == pytest.approx(86.4)
    assert day["live_gb"] == pytest.approx(34.56)
    assert day["archive_tb_year"] == pytest.approx(3.1536)
