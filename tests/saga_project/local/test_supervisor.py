"""The supervisor, with real processes: what ends is restarted, what was asked to stop is gone."""

import json
import math
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from saga_project.local import supervisor
from tests.support import waiting

pytestmark = pytest.mark.integration


@pytest.fixture
def keeper(tmp_path):
    keeper = supervisor.Supervisor(tmp_path, verbose=False)
    yield keeper
    keeper.stop()


def program(name, script, ready=lambda log: "ready" in log, **options):
    """A program that runs a line of shell."""

    def launch(log):
        return subprocess.Popen(["/bin/sh", "-c", script], stdout=log, stderr=log, start_new_session=True)

    return supervisor.Program(name=name, launch=launch, ready=ready, **options)


def test_a_program_that_is_killed_runs_again(keeper, tmp_path):
    keeper.start(program("worker", "echo ready; exec sleep 60"))
    first = supervisor.processes(tmp_path)["worker"]
    watch = threading.Thread(target=keeper.watch)
    watch.start()

    os.kill(first, signal.SIGKILL)

    second = waiting.until(lambda: supervisor.processes(tmp_path).get("worker", first) != first)
    assert second

    keeper.ask_to_stop()
    watch.join()


def test_what_a_killed_program_left_behind_is_gone_when_it_runs_again(keeper, tmp_path):
    keeper.start(program("worker", "sleep 61 & echo child $! >&2; echo ready; wait"))
    child = int((tmp_path / "log" / "worker.log").read_text().split("child ")[1].split()[0])
    watch = threading.Thread(target=keeper.watch)
    watch.start()

    os.kill(supervisor.processes(tmp_path)["worker"], signal.SIGKILL)

    waiting.until(lambda: supervisor.start_of(child) is None)
    keeper.ask_to_stop()
    watch.join()


def test_a_program_that_keeps_ending_starts_less_and_less_often(keeper, tmp_path, monkeypatch, capfd):
    """A slow machine makes a pause longer than it was said to be, and nothing makes it shorter."""
    monkeypatch.setattr(supervisor, "HEALTHY_AFTER_S", math.inf)  # However long it takes to end.
    moments = tmp_path / "moments"
    now = f"date +%s.%N >> {moments}"
    keeper.start(program("broken", f"{now}; echo ready; {now}; exit 3"))
    watch = threading.Thread(target=keeper.watch)
    watch.start()

    waiting.until(lambda: len(moments.read_text().split()) >= 7, "its fourth start")
    keeper.ask_to_stop()
    watch.join()

    said = re.findall(r"broken ended .*; again in (\S+) s", capfd.readouterr().out)[:3]
    assert said == ["0.5", "1", "2"]
    begun_and_ended = [float(moment) for moment in moments.read_text().split()]
    pauses = [begun_and_ended[n + 1] - begun_and_ended[n] for n in (1, 3, 5)]
    assert all(pause >= float(least) for pause, least in zip(pauses, said, strict=True)), pauses


def test_what_is_halted_stays_ended_until_it_is_started_again(keeper, tmp_path):
    keeper.start(
        program("worker", "sleep 61 & echo child $! >&2; echo ready; wait"),
        program("other", "echo ready; exec sleep 60"),
    )
    child = int((tmp_path / "log" / "worker.log").read_text().split("child ")[1].split()[0])
    other = supervisor.processes(tmp_path)["other"]

    keeper.halt("worker", signals=("SIGKILL",))
    keeper.tend()
    keeper.tend()

    waiting.until(lambda: supervisor.start_of(child) is None)
    assert supervisor.processes(tmp_path) == {"other": other}

    keeper.start_again(program("worker", "echo ready, of another release; exec sleep 60"))

    assert "another release" in (tmp_path / "log" / "worker.log").read_text()
    again = supervisor.processes(tmp_path)
    assert again.keys() == {"worker", "other"}
    os.kill(again["worker"], signal.SIGKILL)
    waiting.until(
        lambda: (
            keeper.tend() or supervisor.processes(tmp_path).get("worker", again["worker"]) != again["worker"]
        )
    )


def test_the_last_started_stops_first(keeper, tmp_path):
    order = tmp_path / "order"
    for name in ("server", "worker"):
        keeper.start(
            program(
                name, f"trap 'echo {name} >> {order}; exit' TERM; echo ready; while :; do sleep 0.05; done"
            )
        )

    keeper.stop()

    assert order.read_text().split() == ["worker", "server"]
    assert supervisor.processes(tmp_path) == {}


def test_who_is_deaf_to_the_first_signal_hears_the_last(keeper, tmp_path):
    keeper.start(program("deaf", "trap '' TERM; echo ready; while :; do sleep 0.05; done"))
    pid = supervisor.processes(tmp_path)["deaf"]
    stopping = threading.Thread(target=keeper.stop)
    keeper.ask_to_stop()
    stopping.start()

    while stopping.is_alive():  # Ctrl-C again and again: in a hurry.
        keeper.ask_to_stop()
        stopping.join(0.1)

    assert supervisor.start_of(pid) is None


def test_a_process_that_ends_while_it_is_looked_at_has_ended(monkeypatch):
    process = subprocess.Popen(["sleep", "60"])

    def read_late(path):
        with path.open() as file:
            process.kill()
            process.wait()
            return file.read()

    monkeypatch.setattr(pathlib.Path, "read_text", read_late)

    assert supervisor.start_of(process.pid) is None


def test_a_program_that_does_not_start_is_said_with_the_end_of_its_log(keeper):
    with pytest.raises(supervisor.Failed, match=r"web did not start \(exit code 4\)(.|\n)*port is taken"):
        keeper.start(program("web", "echo port is taken >&2; exit 4"))


def test_a_program_that_is_never_ready_is_said(keeper):
    with pytest.raises(supervisor.Failed, match=r"web was not ready within 0.2 s"):
        keeper.start(program("web", "exec sleep 60", patience_s=0.2))


def test_a_command_that_runs_once_gives_what_it_printed(keeper):
    printed = keeper.run_once("prepare", ["/bin/sh", "-c", "echo done; echo told >&2"], env={})

    assert printed == "done\n"


def test_a_command_that_fails_is_said_with_what_it_told(keeper):
    with pytest.raises(supervisor.Failed, match=r"prepare failed \(exit code 7\)(.|\n)*no such table"):
        keeper.run_once("prepare", ["/bin/sh", "-c", "echo no such table >&2; exit 7"], env={})


def test_only_one_supervisor_works_in_a_directory(keeper, tmp_path):
    with pytest.raises(supervisor.Taken, match=f"process {os.getpid()}"):
        supervisor.Supervisor(tmp_path, verbose=False)


def test_a_supervisor_that_is_refused_touches_nothing(keeper, tmp_path):
    keeper.start(program("worker", "echo ready; exec sleep 60"))
    before = _everything_in(tmp_path)

    with pytest.raises(supervisor.Taken):
        supervisor.Supervisor(tmp_path)

    assert _everything_in(tmp_path) == before


def test_the_logs_of_the_last_run_are_kept_until_something_is_started(tmp_path):
    last = supervisor.Supervisor(tmp_path, verbose=False)
    last.start(program("worker", "echo the last words; echo ready"))
    last.stop()

    supervisor.Supervisor(tmp_path, verbose=False).stop()  # As if its ports were taken.
    assert "the last words" in (tmp_path / "log" / "worker.log").read_text()

    this = supervisor.Supervisor(tmp_path, verbose=False)
    this.start(program("beat", "echo ready"))
    this.stop()
    assert "the last words" in (tmp_path / "log" / "worker.log.old").read_text()
    assert not (tmp_path / "log" / "worker.log").exists()


def _everything_in(place):
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


SUPERVISE = """
    import pathlib, subprocess, sys
    from saga_project.local import supervisor
    keeper = supervisor.Supervisor(pathlib.Path(sys.argv[1]))
    def launch(log):
        return subprocess.Popen(["sleep", "62"], stdout=log, stderr=log, start_new_session=True)
    keeper.start(supervisor.Program(name="worker", launch=launch, ready=lambda log: True))
    keeper.start(supervisor.Program(name="beat", launch=launch, ready=lambda log: True))
    keeper.watch()
"""


def test_what_a_killed_supervisor_left_behind_is_stopped_by_the_next(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SUPERVISE), tmp_path])
    left = waiting.until(lambda: len(found := supervisor.processes(tmp_path)) == 2 and found)
    killed.kill()
    killed.wait()
    assert all(supervisor.start_of(pid) for pid in left.values()), "they outlive their supervisor"

    supervisor.Supervisor(tmp_path, verbose=False).stop()

    assert not any(supervisor.start_of(pid) for pid in left.values())


def test_who_closes_the_terminal_window_leaves_nothing_running(tmp_path):
    window, terminal = pty.openpty()
    script = textwrap.dedent(SUPERVISE).replace("keeper.start(", "hear()\nkeeper.start(", 1)
    running = subprocess.Popen(
        [sys.executable, "-c", HEAR + script + "keeper.say('stopping')\nkeeper.stop()\n", tmp_path],
        stdout=terminal,
        stderr=subprocess.DEVNULL,
    )
    os.close(terminal)
    left = waiting.until(lambda: len(found := supervisor.processes(tmp_path)) == 2 and found)

    os.close(window)
    running.send_signal(signal.SIGHUP)  # As its shell does.

    assert running.wait(30) == 0
    assert not any(supervisor.start_of(pid) for pid in left.values())


HEAR = """
import signal
def hear():
    signal.signal(signal.SIGHUP, keeper.ask_to_stop)
"""


def test_a_process_that_merely_has_the_same_number_is_left_alone(tmp_path):
    stranger = subprocess.Popen(["sleep", "63"], start_new_session=True)
    row = {"name": "worker", "group": 0, "pid": stranger.pid, "started": "1", "stop": ["SIGKILL"]}
    (tmp_path / "processes.json").write_text(json.dumps([row]))

    supervisor.stop_leftovers(tmp_path, say=print)

    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_down_stops_the_supervisor_of_a_directory(tmp_path):
    running = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SUPERVISE), tmp_path])
    left = waiting.until(lambda: len(found := supervisor.processes(tmp_path)) == 2 and found)
    waiter = threading.Thread(target=running.wait)  # Reaps it, as the shell would.
    waiter.start()

    assert supervisor.stop_supervisor(tmp_path, say=print)

    waiter.join()
    # This one has no handler for the signal: it is gone, and what it left is stopped as leftovers.
    supervisor.stop_leftovers(tmp_path, say=print)
    assert not any(supervisor.start_of(pid) for pid in left.values())
    assert not supervisor.stop_supervisor(pathlib.Path(tmp_path), say=print)


def test_a_log_that_is_not_there_yet_does_not_silence_the_terminal(tmp_path, capfd):
    keeper = supervisor.Supervisor(tmp_path)
    try:
        with pytest.raises(FileNotFoundError):
            keeper._logs.open("no/such/place")
        keeper.start(program("worker", "echo ready; exec sleep 60"))

        said = []
        waiting.until(
            lambda: said.append(capfd.readouterr().out) or re.search(r"worker +\| ready", "".join(said))
        )
    finally:
        keeper.stop()


def test_a_choice_decides_what_the_terminal_shows_and_the_file_has_it_all(tmp_path, capfd):
    def choice(name, line):
        return ("orders", line.removeprefix("order ")) if line.startswith("order ") else None

    keeper = supervisor.Supervisor(tmp_path, choice=choice)
    try:
        keeper.start(program("worker", "echo task; echo order 7 fulfilled; echo ready; exec sleep 60"))

        said = []
        waiting.until(
            lambda: said.append(capfd.readouterr().out) or re.search(r"orders +\| 7 fulfilled", "".join(said))
        )
        with pytest.raises(supervisor.Failed, match="port is taken"):
            keeper.start(program("web", "echo port is taken; exit 4"))
    finally:
        keeper.stop()

    assert "task" not in "".join(said) + capfd.readouterr().out
    assert "task" in (tmp_path / "log" / "worker.log").read_text()
