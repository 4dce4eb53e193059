"""The process: its books outlive it, and a crowd does not confuse it."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from tests.sandbox import examples, process
from tests.support import waiting

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_books_outlive_the_process(data, key, end):
    with process.running(data) as world:
        invoice = examples.invoice()
        world.client.put(f"/bank/charges/{key}", json=examples.card())
        world.client.put(f"/fiscal/invoices/{key}", json=invoice)
        world.client.put(f"/carrier/shipments/{key}", json=examples.shipment("99999-003"))
        world.client.post(f"/bank/charges/{key}.buried/refund")
        world.client.put(f"/bank/charges/{key}.flaky", json=examples.card("tok_flaky"))
        world.client.post("/fiscal/numbers/void", json={"series": 9, "number": 9, "reason": "unused"})
        before = world.books()
        assert all(before.values())

        getattr(world, end)()
        world.start()

        assert world.books() == before
        assert world.client.put(f"/bank/charges/{key}", json=examples.card()).status_code == 200
        assert world.client.put(f"/bank/charges/{key}.buried", json=examples.card()).status_code == 409
        # It had failed once before the restart and fails once more after it.
        flaky = [
            world.client.put(f"/bank/charges/{key}.flaky", json=examples.card("tok_flaky")).status_code
            for _ in range(2)
        ]
        assert flaky == [503, 201]


def test_what_was_due_while_it_was_dead_happens_afterwards(data, key):
    with process.running(data, CARRIER_PACE_S="3600", PIX_AUTOPAY_AFTER_S="3600") as world:
        world.client.put(f"/carrier/shipments/{key}", json=examples.shipment())
        world.client.put(f"/bank/charges/{key}", json=examples.pix())

        world.hurry("shipment.move")
        waiting.until(lambda: world.written("shipments", key)["status"] == "handed_over")
        assert world.written("charges", key)["status"] == "pending"

        world.hurry("pix.pay")
        waiting.until(lambda: world.written("charges", key)["status"] == "captured")
        assert world.written("shipments", key)["status"] == "handed_over"


def test_two_hundred_equal_requests_at_once_are_one_charge(data, key):
    with process.running(data) as world:
        all_here = threading.Barrier(200)

        def charge(_: int) -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=30)
            all_here.wait(30)
            connection.request("PUT", f"/bank/charges/{key}", json.dumps(examples.card()))
            answer = connection.getresponse()
            charged = json.loads(answer.read())
            connection.close()
            return answer.status, charged["id"]

        with concurrent.futures.ThreadPoolExecutor(200) as crowd:
            answers = list(crowd.map(charge, range(200)))

        statuses = [status for status, _ in answers]
        assert sorted(statuses) == [200] * 199 + [201]
        assert len({charge_id for _, charge_id in answers}) == 1
        assert [entry["captured"] for entry in world.books()["charges"]] == [18290]


def test_charge_and_refund_at_once_never_leave_money_behind(data, key):
    with process.running(data) as world, concurrent.futures.ThreadPoolExecutor(20) as crowd:
        keys = [f"{key}.{number}" for number in range(50)]
        charges = [
            crowd.submit(world.client.put, f"/bank/charges/{one}", json=examples.card()) for one in keys
        ]
        refunds = [crowd.submit(world.client.post, f"/bank/charges/{one}/refund") for one in keys]
        concurrent.futures.wait([*charges, *refunds])

        assert {refund.result().status_code for refund in refunds} == {200}
        assert {charge.result().status_code for charge in charges} <= {200, 201, 409}
        assert all(entry["captured"] == entry["refunded"] for entry in world.books()["charges"])
        assert len(world.books()["charges"]) + len(world.books()["tombstones"]) == 50


def test_it_knows_nothing_of_us():
    command = (
        "import runpy, sys; sys.argv = ['sandbox', '--help']\n"
        "try: runpy.run_module('sandbox', run_name='__main__')\n"
        "except SystemExit: print(*sorted(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", command],
        env={"PATH": os.environ["PATH"]},
        cwd=process.ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    loaded = {name.split(".")[0] for name in output.splitlines()[-1].split()}
    ours = {path.parent.name for path in process.ROOT.glob("*/__init__.py")}
    assert loaded & ours == {"sandbox"}
    assert not loaded & {"django", "celery", "httpx"}


def test_a_second_process_cannot_write_the_same_books(data):
    with process.running(data):
        second = start(data)

    assert second.returncode == 2
    assert "another sandbox" in second.stderr


def test_a_port_in_use_is_said_so(data, tmp_path):
    with process.running(data) as world:
        second = start(tmp_path / "other", port=world.port)

    assert second.returncode == 2
    assert str(world.port) in second.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEBHOOK_TARGET", "somewhere"),
        ("PAYMENTS_WEBHOOK_SECRETS", "whsec_not base64"),
        ("SHIPPING_WEBHOOK_SECRETS", "c2VjcmV0"),
        ("PIX_AUTOPAY_AFTER_S", "soon"),
        ("CARRIER_PACE_S", "-1"),
        ("CARRIER_PACE_S", "nan"),
        ("FISCAL_CANCEL_WINDOW_S", "inf"),
        ("SEED", "x"),
        ("SEED", "1_0"),
        ("WEBHOOK_RETRY_AFTER_S", "1,,2"),
        ("WEBHOOK_RETRY_AFTER_S", "1;2"),
    ],
)
def test_a_senseless_setting_is_refused_at_the_start(data, name, value):
    refused = start(data, **{name: value})

    assert refused.returncode == 2
    assert name in refused.stderr


@pytest.mark.parametrize("name", list(process.SECRETS))
def test_callbacks_need_a_secret_of_each_sender(data, name):
    rest = {other: secret for other, secret in process.SECRETS.items() if other != name}
    refused = start(data, WEBHOOK_TARGET="http://127.0.0.1:1", **rest)

    assert refused.returncode == 2
    assert name in refused.stderr


def test_reset_begins_anew(data, key):
    with process.running(data) as world:
        world.client.put(f"/bank/charges/{key}", json=examples.card())
        world.client.post(f"/bank/charges/{key}.buried/refund")
        flaky, card = f"/bank/charges/{key}.flaky", examples.card("tok_flaky")
        assert [world.client.put(flaky, json=card).status_code for _ in range(3)] == [503, 503, 201]
        world.faults(error_rate=1)

        assert world.client.post("/reset").status_code == 200

        assert not any(world.books().values())
        assert world.client.put(f"/bank/charges/{key}", json=examples.card()).status_code == 201
        assert world.client.put(flaky, json=card).status_code == 503


def test_a_world_whose_clock_broke_does_not_go_on(data):
    with process.running(data) as world:
        world.stop()
        with contextlib.closing(sqlite3.connect(data / "books.sqlite3")) as books:
            books.execute("INSERT INTO agenda (at, what, key) VALUES (0, 'nobody knows', 'this')")
            books.commit()

    broken = start(data)

    assert broken.returncode == 1
    assert "nobody knows" in broken.stderr


def test_it_stops_at_once_though_clients_are_connected(data):
    with process.running(data) as world:
        world.client.get("/healthz")
        began = time.monotonic()

        assert world.stop() == 0

        assert time.monotonic() - began < 5


def start(data: pathlib.Path, port: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start one that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "sandbox", "--port", str(port), "--data", data],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=process.ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
