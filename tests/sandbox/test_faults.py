import collections.abc
import time

import httpx
import pytest

from tests.sandbox import examples, process

pytestmark = pytest.mark.integration


@pytest.fixture
def stormy(data) -> collections.abc.Iterator[process.Sandbox]:
    """A sandbox whose weather a test may change, for it is nobody else's."""
    with process.running(data, SEED="7") as world:
        yield world


def outcome(world: process.Sandbox, key: str) -> str:
    try:
        return str(world.client.put(f"/bank/charges/{key}", json=examples.card()).status_code)
    except httpx.RemoteProtocolError:
        return "lost"


def test_an_error_comes_before_any_effect(stormy, key):
    stormy.faults(error_rate=1)

    answer = stormy.client.put(f"/bank/charges/{key}", json=examples.card())

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    for path in (f"/bank/charges/{key}", f"/fiscal/invoices/{key}", f"/carrier/shipments/{key}"):
        assert stormy.client.get(path).status_code == 503
    assert stormy.written("charges", key) is None


def test_a_lost_reply_comes_after_the_effect(stormy, key):
    stormy.faults(lost_reply_rate=1)

    with pytest.raises(httpx.RemoteProtocolError):
        stormy.client.put(f"/bank/charges/{key}", json=examples.card())

    assert stormy.written("charges", key)["captured"] == 18290


def test_latency_is_waited_for(stormy, key):
    stormy.faults(latency_ms=[150, 200])

    began = time.monotonic()
    stormy.client.get(f"/bank/charges/{key}")

    assert time.monotonic() - began >= 0.15


def test_the_weather_does_not_reach_the_books_and_the_customer(stormy, key):
    stormy.client.put(f"/bank/charges/{key}", json=examples.pix())

    stormy.faults(error_rate=1)

    for method, path in (
        ("GET", "/books"),
        ("GET", "/healthz"),
        ("GET", "/faults"),
        ("POST", f"/pix/{key}/pay"),
    ):
        assert stormy.client.request(method, path).status_code == 200


def test_the_same_seed_makes_the_same_weather(stormy):
    def storm(seed: int | None) -> list[str]:
        stormy.client.post("/reset")
        stormy.faults(error_rate=0.3, lost_reply_rate=0.15, **({} if seed is None else {"seed": seed}))
        return [outcome(stormy, f"key-{number % 10}") for number in range(20)]

    first = storm(1)

    assert storm(1) == first
    assert storm(2) != first
    assert set(first) == {"503", "lost", "201", "200"}
    # Without a seed in the request it is the process's own.
    assert storm(None) == storm(7)


def test_the_weather_changes_from_one_attempt_to_the_next(stormy, key):
    stormy.faults(error_rate=0.5)

    assert {stormy.client.get(f"/bank/charges/{key}").status_code for _ in range(30)} == {503, 404}


def test_weather_that_is_not_named_is_fair(stormy):
    stormy.faults(error_rate=1, drop_webhook_rate=0.5)
    stormy.faults(latency_ms=[0, 1])

    weather = stormy.client.get("/faults").json()
    assert weather == {
        "error_rate": 0,
        "denied_rate": 0,
        "lost_reply_rate": 0,
        "latency_ms": [0, 1],
        "duplicate_webhook_rate": 0,
        "drop_webhook_rate": 0,
        "seed": 7,
    }


@pytest.mark.parametrize(
    "weather",
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
def test_senseless_weather_is_refused_and_changes_nothing(stormy, weather):
    before = stormy.client.get("/faults").json()

    answer = stormy.client.post("/faults", json=weather)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert stormy.client.get("/faults").json() == before
