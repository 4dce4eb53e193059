"""A program's clock jumps while it runs, for itself and for its children."""

import json
import subprocess
import sys

import pytest

from saga_project.local.chaos import clocks

pytestmark = pytest.mark.integration

PROGRAM = """
import datetime, email.utils, json, multiprocessing, pickle, sys, time

def told():
    began = time.monotonic()
    time.sleep(0.01)
    return {
        "time": time.time(),
        "ns": time.time_ns() / 1e9,
        "aware": datetime.datetime.now(datetime.UTC).timestamp(),
        "naive": datetime.datetime.now().timestamp(),
        "utcnow": datetime.datetime.utcnow().replace(tzinfo=datetime.UTC).timestamp(),
        "header": email.utils.parsedate_to_datetime(email.utils.formatdate(usegmt=True)).timestamp(),
        "slept": time.monotonic() - began,
        "day": datetime.date.today().isoformat(),
        "same": pickle.loads(pickle.dumps(datetime.datetime.now())) <= datetime.datetime.now(),
    }

def tell(_):
    return told()

if __name__ == "__main__":
    for kind in ("fork", "spawn"):
        with multiprocessing.get_context(kind).Pool(1) as children:
            for line in sys.stdin:
                print(json.dumps([told(), children.map(tell, [0])[0]]), flush=True)
                if line == "next\\n":
                    break
"""


def test_a_clock_jumps_and_returns_for_a_program_and_its_children(tmp_path):
    clock = clocks.Clock(tmp_path / "clocks", "worker")
    clock.set(0)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, program],
        env=clock.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask(line):
            process.stdin.write(line)
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        right = ask("\n")
        clock.set(3 * 86_400)
        wrong = ask("next\n")
        assert clock.is_gone_by(process.pid)
        spawned = ask("\n")
        clock.set(-3600)
        behind = ask("\n")
        clock.set(0)
        again = ask("\n")
        process.stdin.close()

    def off_by(told):
        names = ("time", "ns", "aware", "naive", "utcnow", "header")
        return {round((told[name] - right[0]["time"]) / 600) * 600 for name in names}

    for parent_or_child in (0, 1):
        assert off_by(right[parent_or_child]) == {0}
        assert off_by(wrong[parent_or_child]) == {3 * 86_400}
        assert wrong[parent_or_child]["day"] > right[parent_or_child]["day"]
        assert off_by(spawned[parent_or_child]) == {3 * 86_400}
        assert off_by(behind[parent_or_child]) == {-3600}
        assert off_by(again[parent_or_child]) == {0}
        for told in (right, wrong, behind):
            assert 0 < told[parent_or_child]["slept"] < 60
            assert told[parent_or_child]["same"]
