"""The whole stack: up, killed, up again with its data, a worker killed, down, and nothing is left."""

import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys

import httpx
import pytest

from saga_project import queues
from saga_project.local import fates, runfile, servers, stack, supervisor
from tests.acceptance import processes
from tests.support import waiting

EVERYONE = {"postgres", "valkey", "sandbox", "web", "beat", "flower", *processes.shop()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory of its own and free ports, for a stack that runs beside anything."""
    run = tmp_path_factory.mktemp("stack") / "run"
    around = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "BROKER_URL")}
    # Those of the shop alone: the tests' have the toy box, whose queues would have workers too.
    around["DJANGO_SETTINGS_MODULE"] = "saga_project.settings"
    ports = {name: str(servers.free_port()) for name in stack.PORTS}
    yield run, around | ports | {"RUN_DIR": str(run)}
    subprocess.run(
        [sys.executable, "-m", "saga_project.local.stack", "discard"], env=around | {"RUN_DIR": str(run)}
    )
    assert not run.exists()


def up(
    run: pathlib.Path, env: dict[str, str], *arguments: str
) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    (run / "env").unlink(missing_ok=True)  # Of one that was killed; a stack that stops takes it away.
    log = run.parent / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "saga_project.local.stack", "up", *arguments],
            env=env,
            stdout=output,
            stderr=output,
        )
    waiting.until(lambda: (run / "env").exists() or process.poll() is not None, seconds=90)
    assert process.poll() is None, log.read_text()
    return process, runfile.read(run / "env")


def shop(env: dict[str, str]) -> httpx.Client:
    return httpx.Client(
        base_url=f"{env['WEB_URL']}/api/v1",
        headers={"Authorization": f"Token {env['API_TOKEN']}"},
        timeout=30,
    )


def ends(client: httpx.Client, order_id: str) -> str:
    final = ("fulfilled", "cancelled", "attention")
    return waiting.until(
        lambda: (status := client.get(f"/orders/{order_id}").json()["status"]) in final and status
    )


def test_the_numbers_of_processes_are_of_queues_that_there_are():
    assert set(stack.OTHER_PROCESSES) <= set(queues.everything())


@pytest.mark.timeout(300)
@pytest.mark.thorough  # What is tried on a stack (tests/acceptance/on_a_stack) starts and stops one.
def test_a_stack_from_its_first_start_to_its_end(place):
    run, surroundings = place

    # --- Up: every process runs, and `.run/env` says how to reach them.
    process, env = up(run, surroundings)
    assert set(supervisor.processes(run)) == EVERYONE
    assert set(stack.CONTRACT) <= set(env)
    assert stat.S_IMODE((run / "env").stat().st_mode) == 0o600
    waiting.until(lambda: httpx.get(f"{env['WEB_URL']}/readyz").json()["status"] == "ok", "somebody sweeps")
    assert httpx.get(f"{env['FLOWER_URL']}/workers").status_code == 200
    assert httpx.get(f"{env['WEB_URL']}/admin/login/").status_code == 200
    assert httpx.get(f"{env['WEB_URL']}/static/admin/css/base.css").status_code == 200

    # Flower is for looking: what may be done is done in the admin.
    refused = httpx.post(f"{env['FLOWER_URL']}/api/worker/shutdown/payments@{stack.HOST}")
    assert refused.status_code in (401, 403)

    # --- A worker is killed with an order under way: it runs again, and the order is fulfilled.
    worker = supervisor.processes(run)["payments"]
    with shop(env) as client:
        product = client.get("/products").json()["results"][0]
        order = client.post(
            "/orders",
            json=fates.body(fates.Fate(name="first"), product["sku"]),
            headers={"Idempotency-Key": "first-1"},
        ).json()
        os.killpg(worker, signal.SIGKILL)
        assert ends(client, order["id"]) == "fulfilled"
    assert waiting.until(lambda: supervisor.processes(run).get("payments", worker) != worker)

    # The terminal says so, and nothing of how: that is in the files.
    output = run.parent / "output"
    line = rf"^orders +\| {order['number']} fulfilled in [\d.]+ s$"
    waiting.until(lambda: re.search(line, output.read_text(), re.MULTILINE))
    assert not re.search(r"Task |superuser privileges", output.read_text())
    assert "succeeded" in "".join(path.read_text() for path in (run / "log").glob("*.log"))
    assert "superuser privileges" not in (run / "log" / "payments.log").read_text()

    # --- Its supervisor is killed: the next one stops the leftovers, and goes on with the same data.
    left = supervisor.processes(run)
    process.kill()
    process.wait()
    process, again = up(run, surroundings, "--verbose")
    assert not any(supervisor.start_of(pid) for pid in left.values())
    assert again["API_TOKEN"] == env["API_TOKEN"]
    assert again["ADMIN_PASSWORD"] == env["ADMIN_PASSWORD"]
    with shop(again) as client:
        assert client.get(f"/orders/{order['id']}").json()["status"] == "fulfilled"

    # --- That one was asked to show all that is logged, but for what the clock brings.
    with shop(again) as client:
        verbose = client.post(
            "/orders",
            json=fates.body(fates.Fate(name="second"), product["sku"]),
            headers={"Idempotency-Key": "second-1"},
        ).json()
        assert ends(client, verbose["id"]) == "fulfilled"
    waiting.until(lambda: re.search(r"^payments +\| .*INFO .* received$", output.read_text(), re.MULTILINE))
    assert not re.search(r"Task sagas\.(sweep|probe-returned)|Sending due task", output.read_text())

    # --- A second one in the same directory is refused, and touches nothing.
    logs = {path: path.stat().st_ino for path in (run / "log").iterdir()}
    second = subprocess.run(
        [sys.executable, "-m", "saga_project.local.stack", "up"],
        env=surroundings,
        capture_output=True,
        text=True,
    )
    assert second.returncode == 1
    assert f"process {process.pid}" in second.stderr
    assert {path: path.stat().st_ino for path in (run / "log").iterdir()} == logs
    assert runfile.read(run / "env") == again

    # --- SIGTERM: everything stops, and `.run/env` promises nothing any more.
    running = supervisor.processes(run)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not any(supervisor.start_of(pid) for pid in running.values())
    assert not (run / "env").exists()


def test_a_port_that_is_taken_is_said_before_anything_starts(place):
    run, surroundings = place
    with socket.create_server((stack.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        refused = subprocess.run(
            [sys.executable, "-m", "saga_project.local.stack", "up"],
            env=surroundings | {"FLOWER_PORT": str(port)},
            capture_output=True,
            text=True,
        )

    assert refused.returncode == 1
    assert f"FLOWER_PORT={port + 1} make up" in refused.stdout
    assert supervisor.processes(run) == {}


def test_down_says_that_nothing_runs(place):
    run, env = place

    done = subprocess.run(
        [sys.executable, "-m", "saga_project.local.stack", "down"], env=env, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, f"nothing is running in {run}\n")


def test_a_stack_that_hangs_on_a_pipe_stops_when_its_owner_is_gone(place):
    # Even while it is still starting.
    run, surroundings = place
    hanging = subprocess.Popen(
        [sys.executable, "-m", "saga_project.local.stack", "up", "--while-open"],
        env=surroundings,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    started = waiting.until(lambda: supervisor.processes(run))

    hanging.stdin.close()

    assert hanging.wait(60) == 0
    assert not any(supervisor.start_of(pid) for pid in started.values())
    assert supervisor.processes(run) == {}


@pytest.mark.integration
@pytest.mark.parametrize("nonsense", ["", "http", "0", "65536", "-1"])
def test_a_port_that_makes_no_sense_is_refused(nonsense, monkeypatch):
    monkeypatch.setenv("WEB_PORT", nonsense)

    with pytest.raises(SystemExit, match="WEB_PORT is"):
        stack.from_environment()
