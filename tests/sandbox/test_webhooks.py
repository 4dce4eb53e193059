"""What a receiver of callbacks sees, which here is a real HTTP server beside the sandbox."""

import collections
import collections.abc
import contextlib
import http.server
import json
import threading
import time

import pytest
import standardwebhooks

from tests.sandbox import examples, process
from tests.support import waiting

pytestmark = pytest.mark.integration

VERIFIERS = {
    "/api/v1/webhooks/payments": standardwebhooks.Webhook(process.SECRETS["PAYMENTS_WEBHOOK_SECRETS"]),
    "/api/v1/webhooks/carrier": standardwebhooks.Webhook(process.SECRETS["SHIPPING_WEBHOOK_SECRETS"]),
}
"""The bank and the carrier have a secret each, so that neither can speak for the other."""


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what it is sent; refuses as many as it is told to."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.lock = threading.Lock()
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self.times: list[float] = []
        self.refuse = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of(self, key: str) -> list[dict]:
        """The events of a key, as they came, each with a signature that an independent library finds good."""
        with self.lock:
            calls = list(self.calls)
        events = [VERIFIERS[path].verify(body, headers) for path, headers, body in calls]
        return [event for event in events if event["key"] == key]

    def types_of(self, key: str) -> list[str]:
        return [event["type"] for event in self.of(key)]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            refused = self.server.refuse > 0
            self.server.refuse -= refused
            self.server.times.append(time.monotonic())
            self.server.calls.append((self.path, dict(self.headers), body))
        self.send_response(500 if refused else 204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def receiving(port: int = 0) -> collections.abc.Iterator[Receiver]:
    with Receiver(port) as receiver:
        threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield receiver
        receiver.shutdown()


@pytest.fixture
def receiver() -> collections.abc.Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def told(receiver, data) -> collections.abc.Iterator[process.Sandbox]:
    """A sandbox that reports to the receiver."""
    with process.running(data, WEBHOOK_TARGET=receiver.url, **process.SECRETS) as world:
        yield world


def logged(world: process.Sandbox, key: str) -> list[dict]:
    webhooks = world.client.get("/books/webhooks").raise_for_status().json()["webhooks"]
    return [webhook for webhook in webhooks if webhook["key"] == key]


def test_a_callback_is_signed_and_says_what_happened(told, receiver, key):
    charged = told.client.put(f"/bank/charges/{key}", json=examples.card()).json()

    waiting.until(lambda: receiver.of(key))

    [event] = receiver.of(key)
    assert event.keys() == {"id", "type", "key", "occurred_at", "data"}
    assert (event["type"], event["data"]) == ("charge.captured", charged)
    [(path, headers, _)] = receiver.calls
    assert path == "/api/v1/webhooks/payments"
    assert headers["webhook-id"] == event["id"]
    assert headers["content-type"] == "application/json"
    assert "tok_ok" not in json.dumps(event)


def test_a_signature_by_another_secret_is_not_good(told, receiver, key):
    told.client.put(f"/bank/charges/{key}", json=examples.card())
    waiting.until(lambda: receiver.calls)
    [(_, headers, body)] = receiver.calls

    other = standardwebhooks.Webhook("whsec_" + "c29tZSBvdGhlciBzZWNyZXQ=")
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        other.verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(process.SECRET).verify(body.replace(b"18290", b"18291"), headers)


def test_pix_reports_payment_in_time_and_too_late_and_expiry(told, receiver, key):
    late = f"{key}.late"
    told.client.put(f"/bank/charges/{key}", json=examples.pix())
    told.client.post(f"/pix/{key}/pay")
    told.client.post(f"/pix/{key}/pay")
    told.client.put(f"/bank/charges/{late}", json=examples.pix(expires_in_s=0.05))
    waiting.until(lambda: receiver.types_of(late) == ["pix.expired"])
    told.client.post(f"/pix/{late}/pay")

    waiting.until(lambda: receiver.types_of(late) == ["pix.expired", "pix.paid"])
    waiting.until(lambda: receiver.types_of(key) == ["pix.paid"])
    assert receiver.of(late)[1]["data"].items() >= {"status": "captured", "captured": 18290}.items()


@pytest.mark.parametrize(
    ("postal_code", "types"),
    [
        ("01310-100", ["shipment.handed_over", "shipment.delivered"]),
        ("99999-002", ["shipment.handed_over", "shipment.failed"]),
    ],
)
def test_the_carrier_reports_each_event(told, receiver, key, postal_code, types):
    booked = told.client.put(f"/carrier/shipments/{key}", json=examples.shipment(postal_code)).json()

    waiting.until(lambda: sorted(receiver.types_of(key)) == sorted(types))

    assert {path for path, _, _ in receiver.calls} == {"/api/v1/webhooks/carrier"}
    assert {event["data"]["tracking"] for event in receiver.of(key)} == {booked["tracking"]}
    if postal_code == "99999-002":
        told.client.post(f"/carrier/shipments/{key}/recall")
        waiting.until(lambda: receiver.types_of(key)[2:] == ["shipment.returned"])


def test_a_silent_carrier_reports_nothing(told, receiver, key):
    told.client.put(f"/carrier/shipments/{key}", json=examples.shipment("99999-003"))
    other = f"{key}.other"
    told.client.put(f"/carrier/shipments/{other}", json=examples.shipment())

    waiting.until(lambda: "shipment.delivered" in receiver.types_of(other))
    assert logged(told, key) == []


def test_a_refused_callback_comes_again_under_the_same_id(told, receiver, key):
    receiver.refuse = 2

    told.client.put(f"/bank/charges/{key}", json=examples.card())

    waiting.until(lambda: [webhook["state"] for webhook in logged(told, key)] == ["delivered"])
    assert len({event["id"] for event in receiver.of(key)}) == 1
    assert len(receiver.of(key)) == 3
    assert logged(told, key)[0].items() >= {"attempts": 3, "last": "204"}.items()


def test_nobody_is_told_for_ever(receiver, data, key):
    receiver.refuse = 1000
    environment = {"WEBHOOK_TARGET": receiver.url, **process.SECRETS}
    with process.running(data, WEBHOOK_RETRY_AFTER_S="0.01,0.02,0.4", **environment) as world:
        world.client.put(f"/bank/charges/{key}", json=examples.card())

        waiting.until(lambda: logged(world, key)[0]["state"] == "given_up")

    assert len(receiver.of(key)) == 4
    # Each pause is at least as long as it was set to be.
    assert receiver.times[3] - receiver.times[2] >= 0.4


def test_a_killed_sandbox_goes_on_telling(data, key):
    with receiving() as gone:
        port = gone.server_port
    environment = {"WEBHOOK_TARGET": f"http://127.0.0.1:{port}", **process.SECRETS}
    with process.running(data, **environment) as world:
        world.client.put(f"/bank/charges/{key}", json=examples.card())
        waiting.until(lambda: logged(world, key)[0]["last"] == "ConnectionRefusedError")
        world.kill()

        with receiving(port) as receiver:
            world.start()

            waiting.until(lambda: receiver.types_of(key) == ["charge.captured"])


def test_the_weather_drops_callbacks_and_doubles_them(told, receiver, key):
    told.faults(drop_webhook_rate=1)
    told.client.put(f"/bank/charges/{key}", json=examples.card())
    waiting.until(lambda: logged(told, key)[0]["state"] == "dropped")

    twice = f"{key}.twice"
    told.faults(duplicate_webhook_rate=1)
    told.client.put(f"/bank/charges/{twice}", json=examples.card())
    waiting.until(lambda: logged(told, twice)[0]["state"] == "delivered")

    assert receiver.of(key) == []
    counts = collections.Counter(event["id"] for event in receiver.of(twice))
    assert list(counts.values()) == [2]


def test_a_crowd_of_callbacks_is_told_each_once(told, receiver, key):
    for number in range(100):
        told.client.put(f"/bank/charges/{key}.{number}", json=examples.card())

    waiting.until(lambda: len(receiver.calls) >= 100)
    assert [receiver.types_of(f"{key}.{number}") for number in range(100)] == [["charge.captured"]] * 100
