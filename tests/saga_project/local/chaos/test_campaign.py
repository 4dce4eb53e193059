"""A short campaign on real parts: some orders, a handful of faults, every rule counted."""

import json
import os
import subprocess
import sys

import pytest

from saga_project.local import runfile, supervisor

pytestmark = pytest.mark.integration

FAULTS = ("child-killed", "backend-terminated", "broker-emptied", "link-reset", "clock-jumped")


@pytest.fixture
def run(tmp_path):
    """A directory for a campaign."""
    return tmp_path / "chaos"


@pytest.mark.timeout(300)
def test_whatever_is_broken_meanwhile_every_rule_holds_and_nothing_is_left_running(run):
    around = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "BROKER_URL")}
    options = ["--minutes", "0.1", "--every", "0.8", "--per-second", "3", "--faults", ",".join(FAULTS)]
    done = subprocess.run(
        # How soon all is quiet depends on who else works on this machine: that is no matter of a test.
        [sys.executable, "-m", "saga_project.local.chaos", "--run", run, "--quiet-within", "200", *options],
        cwd=runfile.ROOT,
        env=around | {"DJANGO_SETTINGS_MODULE": "saga_project.settings"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    assert done.returncode == 0, done.stdout
    kept = json.loads((run / "chaos.json").read_text())
    assert kept["orders"] == kept["acknowledged"] == kept["ended"] > 10
    assert kept["faults"] >= 3, done.stdout
    assert {rule["broken"] for rule in kept["rules"]} == {0}
    assert len(kept["rules"]) > 30, "the checker's"
    told = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert len({line["key"] for line in told}) == len({line["key"] for line in told if "end" in line})
    assert "</svg>" in (run / "report.html").read_text()
    assert supervisor.processes(run) == {}
