"""The drill on real parts: a small cluster whose database's primary is lost, and one that is told to stop."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from saga_project.local import runfile, supervisor
from saga_project.local.cluster import drill, network
from tests.support import waiting

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def possible():
    """Skips with the reason where there can be no cluster; in CI there can."""
    needed = subprocess.run([runfile.ROOT / ".ci" / "services", "--check"], capture_output=True, text=True)
    told = needed.stderr.strip()
    try:
        network.check()
    except network.NotPossible as reason:
        told = f"{told} {reason}".strip()
    if told and not os.environ.get("CI"):
        pytest.skip(told)
    assert not told, told


def begin(run: pathlib.Path, *options: str) -> "subprocess.Popen[str]":
    around = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "BROKER_URL")}
    around["DJANGO_SETTINGS_MODULE"] = "saga_project.settings"
    return subprocess.Popen(
        [sys.executable, "-m", "saga_project.local.cluster", "--small", "--run", str(run), *options],
        cwd=runfile.ROOT,
        env=around,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def started(run: pathlib.Path) -> dict[str, tuple[int, str | None]]:
    """What the drill started: process ids and when they began."""
    return {name: (pid, supervisor.start_of(pid)) for name, pid in supervisor.processes(run).items()}


def gone(programs: dict[str, tuple[int, str | None]]) -> bool:
    return not any(supervisor.start_of(pid) == began for pid, began in programs.values())


@pytest.fixture
def run(tmp_path):
    """A directory for a drill; what it kept elsewhere, where PostgreSQL's account may go, is deleted too."""
    yield tmp_path / "cluster"
    drill.discard(tmp_path / "cluster")


@pytest.mark.timeout(300)
def test_a_primary_that_is_lost_loses_doubles_and_unbalances_no_order(run):
    process = begin(run, "--minutes", "0.4", "--per-second", "2", "--faults", "primary-lost", "--seed", "3")
    waiting.until(lambda: "world" in started(run) or process.poll() is not None, seconds=200)
    programs = started(run)
    told, _ = process.communicate(timeout=200)

    assert (run / "drill.json").exists(), told
    kept = json.loads((run / "drill.json").read_text())
    calm, struck = kept["rows"]
    assert struck["fault"] == "The database's primary is lost, the standby promoted"
    assert calm["orders"] + struck["orders"] == kept["orders"] > 20
    for row in kept["rows"]:
        assert (row["lost"], row["doubled"], row["out_of_balance"]) == (0, 0, 0), told
    # It was felt: a drill that nobody notices shows nothing.
    assert struck["answers_again_s"] > 0
    assert struck["ends_again_s"] is not None
    assert kept["orders_sent_more_than_once"] > 0
    assert "beta is the primary" in told

    assert gone(programs)


@pytest.mark.thorough
@pytest.mark.timeout(120)
def test_one_that_is_told_to_stop_leaves_no_process_behind(run):
    process = begin(run, "--faults", "web-drained")
    waiting.until(lambda: {"broker1", "db1"} <= started(run).keys() or process.poll() is not None)
    programs = started(run)

    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)

    assert process.returncode == 1, told
    assert gone(programs)
    assert not (run / "drill.json").exists()


def test_hosts_reach_each_other_until_something_is_cut(tmp_path):
    """In namespaces of its own, so in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.saga_project.local.cluster.wires", str(tmp_path)],
        cwd=runfile.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "at first": True,
        "cut from each other": False,
        "from a third host meanwhile": True,
        "mended": True,
        "unplugged": False,
        "a new machine before it serves": False,
        "a new machine that serves": True,
    }
