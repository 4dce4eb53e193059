import collections.abc
import time

import httpx
import pytest

from tests.sandbox import examples, process

pytestmark = pytest.mark.integration


@pytest.fixture
def faulty(data) -> collections.abc.Iterator[process.Sandbox]:
    """A sandbox whose faults a test may change: no other test uses it."""
    with process.running(data, SEED="7") as world:
        yield world


def outcome(world: process.Sandbox, key: str) -> str:
    try:
        return str(world.client.put(f"/bank/charges/{key}", json=examples.card()).status_code)
    except httpx.RemoteProtocolError:
        return "lost"


def test_an_error_comes_before_any_effect(faulty, key):
    faulty.faults(error_rate=1)

    answer = faulty.client.put(f"/bank/charges/{key}", json=examples.card())

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    for path in (f"/bank/charges/{key}", f"/fiscal/invoices/{key}", f"/carrier/shipments/{key}"):
        assert faulty.client.get(path).status_code == 503
    assert faulty.written("charges", key) is None


def test_a_lost_reply_comes_after_the_effect(faulty, key):
    faulty.faults(lost_reply_rate=1)

    with pytest.raises(httpx.RemoteProtocolError):
        faulty.client.put(f"/bank/charges/{key}", json=examples.card())

    assert faulty.written("charges", key)["captured"] == 18290


def test_latency_is_waited_for(faulty, key):
    faulty.faults(latency_ms=[150, 200])

    began = time.monotonic()
    faulty.client.get(f"/bank/charges/{key}")

    assert time.monotonic() - began >= 0.15


def test_faults_do_not_reach_the_books_and_the_customer(faulty, key):
    faulty.client.put(f"/bank/charges/{key}", json=examples.pix())

    faulty.faults(error_rate=1)

    for method, path in (
        ("GET", "/books"),
        ("GET", "/healthz"),
        ("GET", "/faults"),
        ("POST", f"/pix/{key}/pay"),
    ):
        assert faulty.client.request(method, path).status_code == 200


def test_the_same_seed_makes_the_same_faults(faulty):
    def storm(seed: int | None) -> list[str]:
        faulty.client.post("/reset")
        faulty.faults(error_rate=0.3, lost_reply_rate=0.15, **({} if seed is None else {"seed": seed}))
        return [outcome(faulty, f"key-{number % 10}") for number in range(20)]

    first = storm(1)

    assert storm(1) == first
    assert storm(2) != first
    assert set(first) == {"503", "lost", "201", "200"}
    # Without a seed in the request it is the process's own.
    assert storm(None) == storm(7)


def test_faults_change_from_one_attempt_to_the_next(faulty, key):
    faulty.faults(error_rate=0.5)

    assert {faulty.client.get(f"/bank/charges/{key}").status_code for _ in range(30)} == {503, 404}


def test_faults_that_are_not_named_do_not_happen(faulty):
    faulty.faults(error_rate=1, drop_webhook_rate=0.5)
    faulty.faults(latency_ms=[0, 1])

    faults = faulty.client.get("/faults").json()
    assert faults == {
        "error_rate": 0,
        "denied_rate": 0,
        "lost_reply_rate": 0,
        "latency_ms": [0, 1],
        "duplicate_webhook_rate": 0,
        "drop_webhook_rate": 0,
        "seed": 7,
    }


@pytest.mark.parametrize(
    "faults",
    [
        {"error_rate": 1.1},
        {"error_rate": -0.1},
        {"error_rate": "often"},
        {"error_rate": True},
        {"error_rate": None},
        {"latency_ms": 5},
        {"latency_ms": [5]},
        {"latency_ms": [5, 1]},
        {"latency_ms": [-1, 1]},
        {"latency_ms": [0, 10**9]},
        {"seed": 0.5},
        {"rain": 1},
    ],
)
def test_senseless_faults_are_refused_and_change_nothing(faulty, faults):
    before = faulty.client.get("/faults").json()

    answer = faulty.client.post("/faults", json=faults)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert faulty.client.get("/faults").json() == before
